"""Decoding of a video: upright frames within limits, and the frame rate."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import cv2
import numpy as np
from containers import VideoError, explain_no_frames

_THREADS = 2  # threads of the decoder; each holds a frame in memory
_FASTEST = 1000  # frames per second; a higher rate in a header is an error
_SQUARE = 0.02  # largest relative difference of width and height with which a pixel counts as square


def read_frames(path: str, container: str, limits: dict) -> Iterator[cv2.VideoCapture]:
    """Yield the capture at each frame of a video; `retrieve_frame` decodes the frame. The headers may be wrong.

    `container` is the result of `containers.check_container`; `limits` has ``max_seconds``, ``max_frames`` and
    ``max_pixels``. Raise `VideoError`: ``bad_video`` if there is no frame, ``video_too_large`` if a frame has too many
    pixels, ``video_too_long``.
    """
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, _THREADS])
    count, start = 0, None
    try:
        if capture.isOpened():
            capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # phones store frames sideways, with a mark; off by default
            _check_size(capture, limits["max_pixels"])  # before a frame is decoded
        while capture.isOpened() and capture.grab():
            count += 1
            _check_size(capture, limits["max_pixels"])  # a frame may be larger than in the header
            now = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            start = now if start is None else start
            for amount, unit in ((count, "frames"), (now - start, "seconds")):
                if amount > (limit := limits[f"max_{unit}"]):
                    raise VideoError("video_too_long", f"found more than {limit:g} {unit}, the limit")
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
        message = f"found {width:.0f} x {height:.0f} pixels, expected at most {max_pixels} per frame"
        raise VideoError("video_too_large", message)


def retrieve_frame(capture: cv2.VideoCapture) -> np.ndarray:
    """Return the current frame of a capture, (H, W, 3) BGR, as a player shows it: upright, with square pixels."""
    is_decoded, frame = capture.retrieve()
    if not is_decoded:
        raise VideoError("bad_video", "found a frame that cannot be decoded")
    across, down = _pixel_scale(capture)
    return frame if across == down else cv2.resize(frame, None, fx=across, fy=down)


def _pixel_scale(capture: cv2.VideoCapture) -> tuple[float, float]:
    """Return the horizontal and vertical factors that make the pixels of a frame square.

    Pixels of DV and HDV are not square. Landmarks are fractions of the width and height, which scaling does not change;
    but MediaPipe finds no hands of people who look squeezed.
    """
    wide, high = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
    ratio = wide / high if wide > 0 and high > 0 else 1.0
    if abs(ratio - 1) <= _SQUARE:
        return 1.0, 1.0
    if capture.get(cv2.CAP_PROP_ORIENTATION_META) in (90, 270):  # the ratio describes the stored frame, before rotation
        ratio = 1 / ratio
    return (ratio, 1.0) if ratio > 1 else (1.0, 1 / ratio)


class FrameClock:
    """Records the times of the frames and computes the frame rate."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._header_rate = self._header_count = 0.0

    def tick(self, capture: cv2.VideoCapture) -> None:
        """Record the time of the current frame of a capture."""
        if not self._times:
            self._header_rate = capture.get(cv2.CAP_PROP_FPS)
            self._header_count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)

    @property
    def frames(self) -> int:
        """Number of frames so far."""
        return len(self._times)

    def frame_rate(self) -> tuple[float | None, list[str]]:
        """Return the frames per second, None if unknown, and notes about them.

        The header's rate is returned only if the frames have that rate: browsers record 30 per second and write 1000.
        """
        header_rate = self._header_rate if 0 < self._header_rate <= _FASTEST else None
        gaps = np.diff(self._times)
        if not len(gaps) or (gaps <= 0).any():  # a single frame, or no valid times
            return header_rate, [] if header_rate else ["the frame rate is unknown"]
        mean = 1 / float(gaps.mean())
        if mean > _FASTEST:
            return header_rate, [f"ignored the impossible frame rate of {mean:g} per second"]
        if gaps.max() > 1.5 * median(gaps):
            return mean, [f"the frame rate varies; the mean is {mean:.4g} frames per second"]
        if header_rate is None or abs(header_rate / mean - 1) > 0.02:
            return mean, [f"found {mean:.4g} frames per second, but {self._header_rate:.4g} in the header"]
        return header_rate, []

    def truncation_notes(self) -> list[str]:
        """Return a note if the header announces more frames than there are."""
        announced = self._header_count
        # Some containers hold only an estimate, computed from the duration.
        is_count = np.isfinite(announced) and 0 < announced < 1e9
        if not is_count or announced - self.frames <= max(2, 0.02 * announced):
            return []
        return [f"found {self.frames} of the {announced:.0f} frames in the header; the file may be truncated"]
