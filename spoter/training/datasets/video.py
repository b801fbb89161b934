"""Landmarks from videos, by MediaPipe Holistic 0.10.21: the last line of it with Holistic and its models in the wheel.

Every frame is looked at, with a new Holistic for each clip, so that its tracker carries nothing from one clip into the
next; complexity 1, as in the browser client. That takes about a tenth of a second a frame. So results are kept in
``$XDG_CACHE_HOME/spoter`` (``~/.cache/spoter``) under the SHA-256 of the video's bytes.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from spoter.clip import Clip, make_clip
from spoter.errors import DataError
from spoter.estimators import MEDIAPIPE
from spoter.files import replacing

# Part of each cached file's name: to be raised when the extraction changes.
_EXTRACTION = "holistic-0.10.21-1"

Estimate = Callable[[Path], tuple[np.ndarray, float | None]]
"""What makes landmarks of a video: (T, 543, 2) in image units, NaN = missing, and the frames per second if known."""


def cache_folder() -> Path:
    """Return the folder that results are kept in; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spoter"


def read_clip(path: Path, estimate: Estimate | None = None) -> Clip:
    """Return the landmarks of a video, from the cache where it was seen before.

    Parameters
    ----------
    path : Path
    estimate : callable, optional
        `holistic_points` unless given.

    Raises
    ------
    DataError
        Where MediaPipe is not installed, the video cannot be read, or the cache cannot be written.
    InputError
        What `spoter.clip.make_clip` raises.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})") from error
    kept = cache_folder() / f"{digest}-{_EXTRACTION}.npz"
    points, fps = _load(kept) or _extract(path, kept, estimate or holistic_points)
    return make_clip(points, MEDIAPIPE.names, MEDIAPIPE.name, fps)


def _load(kept: Path) -> tuple[np.ndarray, float | None] | None:
    """Return what is kept, or None where nothing is, or nothing that can be read."""
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            points, fps = arrays["points"], float(arrays["fps"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return points, fps if fps > 0 else None


def _extract(path: Path, kept: Path, estimate: Estimate) -> tuple[np.ndarray, float | None]:
    points, fps = estimate(path)
    fps = fps if fps and 0 < fps <= 1000 else None
    points = points.astype(np.float32)
    try:
        kept.parent.mkdir(0o700, parents=True, exist_ok=True)  # people's landmarks
        with replacing(kept) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, points=points, fps=fps or 0.0)
    except OSError as error:
        raise DataError(f"{kept}: cannot be written ({error.strerror or error}); set XDG_CACHE_HOME") from error
    return points, fps


def holistic_points(path: Path) -> tuple[np.ndarray, float | None]:
    """Run MediaPipe Holistic over all frames of a video: an `Estimate`.

    Raises
    ------
    DataError
        Where MediaPipe is not installed, or the file is no video that OpenCV can read.
    """
    try:
        import cv2
        from mediapipe.python.solutions.holistic import Holistic
    except ImportError as error:
        raise DataError(
            "reading videos needs pip install 'spoter[video]' (mediapipe 0.10.21, which wants numpy below 2: best in "
            "an environment of its own)"
        ) from error
    capture = cv2.VideoCapture(str(path))
    frames = []
    try:
        fps = capture.get(cv2.CAP_PROP_FPS)
        with Holistic(static_image_mode=False, model_complexity=1) as holistic:
            while True:
                read, picture = capture.read()
                if not read:
                    break
                frames.append(_points(holistic.process(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))))
    finally:
        capture.release()
    if not frames:
        raise DataError("found no frame, expected a video that OpenCV can read")
    return np.stack(frames), fps


def _points(result: object) -> np.ndarray:
    """Return a frame's landmarks in MediaPipe's order, (543, 2) float32."""
    points = np.full((len(MEDIAPIPE.names), 2), np.nan, dtype=np.float32)
    for part, names in MEDIAPIPE.parts.items():
        found = getattr(result, f"{part}_landmarks")
        if found is not None:
            points[MEDIAPIPE.part(part)] = [(point.x, point.y) for point in found.landmark[: len(names)]]
    return points
