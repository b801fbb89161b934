"""Decoding: a video's frames, upright, within limits, and how fast they follow one another."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import cv2
import numpy as np
from containers import Refused, why_nothing

_THREADS = 2  # of the decoder: each holds a frame
_FASTEST = 1000  # frames a second; a higher rate in a header is none
_SQUARE = 0.02  # a pixel that is so much wider or higher still counts as square


class Video:
    """A video file that may lie about itself.

    Parameters
    ----------
    path, kind : str
        As `containers.check` took and gave them.
    limits : dict
        ``max_seconds``, ``max_frames``, ``max_pixels``.
    """

    def __init__(self, path: str, kind: str, limits: dict):
        self._path, self._kind, self._limits = path, kind, limits

    def frames(self) -> Iterator[cv2.VideoCapture]:
        """Yield the capture at each frame; `picture` decodes the one it is at.

        Raises
        ------
        Refused
            ``bad_video`` where there is none, ``video_too_large`` for a frame of too many pixels, ``video_too_long``.
        """
        capture = cv2.VideoCapture(self._path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, _THREADS])
        try:
            if not capture.isOpened():
                raise Refused("bad_video", why_nothing(self._path, self._kind))
            capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # phones film sideways and say so; off unless set
            self._check_size(capture)  # before a frame is decoded
            first, count = None, 0
            while capture.grab():
                count += 1
                self._check_size(capture)  # a frame may be larger than the header says
                now = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                first = now if first is None else first
                if count > self._limits["max_frames"]:
                    limit = self._limits["max_frames"]
                    raise Refused("video_too_long", f"found more than {limit} frames, expected at most that")
                if now - first > self._limits["max_seconds"]:
                    limit = self._limits["max_seconds"]
                    raise Refused("video_too_long", f"found more than {limit:g} seconds, expected at most that")
                yield capture
            if not count:
                raise Refused("bad_video", why_nothing(self._path, self._kind))
        finally:
            capture.release()

    def _check_size(self, capture: cv2.VideoCapture) -> None:
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        across, down = _stretch(capture)
        width, height = width * across, height * down
        if width * height > self._limits["max_pixels"]:
            raise Refused(
                "video_too_large",
                f"found {width:.0f} x {height:.0f} pixels, expected at most {self._limits['max_pixels']} in a picture",
            )


def picture(capture: cv2.VideoCapture) -> np.ndarray:
    """Return the frame that a capture is at, (H, W, 3) BGR, as a player shows it: upright, its pixels square."""
    read, found = capture.retrieve()
    if not read:
        raise Refused("bad_video", "found a frame that cannot be decoded, expected a picture")
    across, down = _stretch(capture)
    return found if across == down else cv2.resize(found, None, fx=across, fy=down)


def _stretch(capture: cv2.VideoCapture) -> tuple[float, float]:
    """Return by how much a frame is to be stretched, across and down, so that its pixels are square.

    DV and HDV have such that are not. Landmarks are parts of the width and height, which this does not change; but
    MediaPipe finds no hands of people who are squeezed.
    """
    wide, high = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
    ratio = wide / high if wide > 0 and high > 0 else 1.0
    if abs(ratio - 1) <= _SQUARE:
        return 1.0, 1.0
    if capture.get(cv2.CAP_PROP_ORIENTATION_META) in (90, 270):  # it is told of the frame as it is stored
        ratio = 1 / ratio
    return (ratio, 1.0) if ratio > 1 else (1.0, 1 / ratio)


class Clock:
    """When frames come, and so how many a second."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._said = self._promised = 0.0

    def tick(self, capture: cv2.VideoCapture) -> None:
        """Take note of the frame that a capture is at."""
        if not self._times:
            self._said, self._promised = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)

    @property
    def frames(self) -> int:
        return len(self._times)

    def fps(self) -> tuple[float | None, list[str]]:
        """Return the frames per second, None where nothing tells them, and what is to be said of them.

        A header's rate is believed where the frames come by it: browsers record 30 a second and write 1000.
        """
        said = self._said if 0 < self._said <= _FASTEST else None
        gaps = np.diff(self._times)
        if not len(gaps) or (gaps <= 0).any():  # a single frame, or times that were lost
            if said is None:
                return None, ["found no frame rate: it stays unknown"]
            return said, []
        mean = 1 / float(gaps.mean())
        if mean > _FASTEST:
            return said, [f"found frames {mean:g} times a second, which is no frame rate"]
        if gaps.max() > 1.5 * median(gaps):
            return mean, [f"the frame rate changes; it is {mean:.4g} a second on average"]
        if said is None or abs(said / mean - 1) > 0.02:
            return mean, [f"the frames come {mean:.4g} times a second, not {self._said:.4g} times as the header says"]
        return said, []

    def cut(self) -> list[str]:
        """Say where the header promises more frames than there are."""
        promised = self._promised
        # The count is guessed from the length in some containers.
        if not np.isfinite(promised) or not 0 < promised < 1e9 or promised - self.frames <= max(2, 0.02 * promised):
            return []
        return [f"found {self.frames} of the {promised:.0f} frames that the header promises: the file was cut short?"]
