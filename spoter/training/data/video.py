"""Landmarks from videos of a data set, found by `spoter.video` and kept.

Finding them takes about a twentieth of a second a frame. So results are kept in ``$XDG_CACHE_HOME/spoter``
(``~/.cache/spoter``) under the SHA-256 of the video's bytes.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from spoter.errors import DataError, SpoterError
from spoter.files import atomic_write
from spoter.landmarks.clip import Clip, make_clip
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.video import EXTRACTION, Extracted, read
from spoter.video.environment import cache_folder
from spoter.video.manifest import digest


def read_clip(path: Path, find: Callable[[Path], Extracted] = read) -> Clip:
    """Return the landmarks of a video, from the cache where it was seen before.

    Parameters
    ----------
    path : Path
    find : callable
        What finds them; `spoter.video.read` unless given.

    Raises
    ------
    DataError
        Where the video or the cache cannot be read, the cache cannot be written, or there is no environment to read
        videos in.
    InputError
        What `spoter.video.read` and `spoter.landmarks.clip.make_clip` raise.
    """
    try:
        kept = cache_folder() / f"{digest(path)}-{EXTRACTION}.npz"
    except SpoterError as error:
        raise DataError(str(error)) from error
    found = _load(kept)
    if found is None:
        extracted = find(path)
        _keep(kept, extracted)
        return extracted.clip
    points, fps = found
    return make_clip(points, MEDIAPIPE.names, MEDIAPIPE.name, fps)


def _load(kept: Path) -> tuple[np.ndarray, float | None] | None:
    """Return what is kept, or None where nothing is, or nothing that can be read."""
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            points, fps = arrays["points"], float(arrays["fps"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return points, fps if fps > 0 else None


def _keep(kept: Path, extracted: Extracted) -> None:
    try:
        kept.parent.mkdir(0o700, parents=True, exist_ok=True)  # people's landmarks
        with atomic_write(kept) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, points=extracted.clip.points, fps=extracted.fps or 0.0)
    except OSError as error:
        raise DataError(f"{kept}: cannot be written ({error.strerror or error}); set XDG_CACHE_HOME") from error
