"""Decoding: the frames of a video, upright and within limits, and the frame rate."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import cv2
import numpy as np
from containers import VideoError, explain_no_frames

_THREADS = 2  # of the decoder: each holds a frame
_FASTEST = 1000  # frames a second; a higher rate in a header is an error
_SQUARE = 0.02  # relative difference of width and height up to which a pixel counts as square


def read_frames(path: str, container: str, limits: dict) -> Iterator[cv2.VideoCapture]:
    """Yield the capture at each frame of a video that may have false headers; `retrieve_frame` decodes the frame.

    `container` is that of `containers.check_container`, `limits` has ``max_seconds``, ``max_frames``, ``max_pixels``.
    Raise `VideoError`: ``bad_video`` if there is no frame, ``video_too_large`` for a frame of too many pixels,
    ``video_too_long``.
    """
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, _THREADS])
    count, first = 0, None
    try:
        if capture.isOpened():
            capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # phones film sideways and say so; off unless set
            _check_size(capture, limits["max_pixels"])  # before a frame is decoded
        while capture.isOpened() and capture.grab():
            count += 1
            _check_size(capture, limits["max_pixels"])  # a frame may be larger than the header says
            now = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            first = now if first is None else first
            for amount, unit in ((count, "frames"), (now - first, "seconds")):
                if amount > (limit := limits[f"max_{unit}"]):
                    raise VideoError("video_too_long", f"found more than {limit:g} {unit}, expected at most that")
            yield capture
    finally:
        capture.release()
    if not count:
        raise VideoError("bad_video", explain_no_frames(path, container))


def _check_size(capture: cv2.VideoCapture, max_pixels: int) -> None:
    across, down = _pixel_scale(capture)
    width = capture.get(cv2.CAP_PROP_FRAME_WIDTH) * across
    height = capture.get(cv2.CAP_PROP_FRAME_HEIGHT) * down
    if width * height > max_pixels:
        message = f"found {width:.0f} x {height:.0f} pixels, expected at most {max_pixels} in a picture"
        raise VideoError("video_too_large", message)


def retrieve_frame(capture: cv2.VideoCapture) -> np.ndarray:
    """Return the current frame of a capture, (H, W, 3) BGR, as a player shows it: upright, with square pixels."""
    is_decoded, frame = capture.retrieve()
    if not is_decoded:
        raise VideoError("bad_video", "found a frame that cannot be decoded, expected a picture")
    across, down = _pixel_scale(capture)
    return frame if across == down else cv2.resize(frame, None, fx=across, fy=down)


def _pixel_scale(capture: cv2.VideoCapture) -> tuple[float, float]:
    """Return the factors, across and down, that make the pixels of a frame square.

    Those of DV and HDV are not. Landmarks are fractions of the width and height, which scaling does not change; but
    MediaPipe finds no hands of people who look squeezed.
    """
    wide, high = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
    ratio = wide / high if wide > 0 and high > 0 else 1.0
    if abs(ratio - 1) <= _SQUARE:
        return 1.0, 1.0
    if capture.get(cv2.CAP_PROP_ORIENTATION_META) in (90, 270):  # the ratio is that of the stored frame
        ratio = 1 / ratio
    return (ratio, 1.0) if ratio > 1 else (1.0, 1 / ratio)


class FrameClock:
    """The times of the frames, and the frame rate."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._header_rate = self._header_count = 0.0

    def tick(self, capture: cv2.VideoCapture) -> None:
        """Record the time of the current frame of a capture."""
        if not self._times:
            self._header_rate, self._header_count = (
                capture.get(name) for name in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT)
            )
        self._times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)

    @property
    def frames(self) -> int:
        """Number of frames so far."""
        return len(self._times)

    def frame_rate(self) -> tuple[float | None, list[str]]:
        """Return the frames per second, None if unknown, and notes about it.

        The header's rate counts if the frames come at that rate: browsers record 30 a second and write 1000.
        """
        header_rate = self._header_rate if 0 < self._header_rate <= _FASTEST else None
        gaps = np.diff(self._times)
        if not len(gaps) or (gaps <= 0).any():  # a single frame, or times that were lost
            return header_rate, [] if header_rate else ["found no frame rate: it stays unknown"]
        mean = 1 / float(gaps.mean())
        if mean > _FASTEST:
            return header_rate, [f"found frames {mean:g} times a second, which is no frame rate"]
        if gaps.max() > 1.5 * median(gaps):
            return mean, [f"the frame rate changes; it is {mean:.4g} a second on average"]
        if header_rate is None or abs(header_rate / mean - 1) > 0.02:
            return mean, [f"the frames come {mean:.4g} times a second, the header says {self._header_rate:.4g}"]
        return header_rate, []

    def truncation_notes(self) -> list[str]:
        """Return a note if the header announces more frames than there are."""
        announced = self._header_count
        # Some containers only have an estimate, from the length.
        is_count = np.isfinite(announced) and 0 < announced < 1e9
        if not is_count or announced - self.frames <= max(2, 0.02 * announced):
            return []
        return [f"found {self.frames} of the {announced:.0f} frames that the header promises: the file was cut short?"]
