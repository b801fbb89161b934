"""Landmarks of the videos in a data set, extracted once and then cached.

Extraction takes about 0.05 seconds per frame. The cache is ``$XDG_CACHE_HOME/spoter`` (``~/.cache/spoter``); its keys
are the SHA-256 digests of the videos.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from spoter.errors import DAMAGED_FILE_ERRORS, DataError, SpoterError
from spoter.files import atomic_write, file_sha256
from spoter.landmarks.clip import Clip, make_clip
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.video.environment import cache_folder
from spoter.video.reader import EXTRACTION_VERSION, VideoLandmarks, read


def read_clip(path: Path, extract: Callable[[Path], VideoLandmarks] = read) -> Clip:
    """Return the landmarks of a video, from the cache if possible.

    Raises `DataError` if the video cannot be read, the cache cannot be written, or there is no environment for videos;
    `InputError` as `extract` and `spoter.landmarks.clip.make_clip`.
    """
    try:
        cached = cache_folder() / f"{file_sha256(path)}-{EXTRACTION_VERSION}.npz"
    except SpoterError as error:
        raise DataError(str(error)) from error
    with contextlib.suppress(OSError, *DAMAGED_FILE_ERRORS), np.load(cached, allow_pickle=False) as arrays:
        points, fps = arrays["points"], float(arrays["fps"])
        return make_clip(points, MEDIAPIPE.names, MEDIAPIPE.name, fps if fps > 0 else None)
    landmarks = extract(path)
    try:
        cached.parent.mkdir(0o700, parents=True, exist_ok=True)  # private: landmarks of people
        with atomic_write(cached) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, points=landmarks.clip.points, fps=landmarks.fps or 0.0)
    except OSError as error:
        raise DataError(f"{cached}: cannot be written ({error.strerror or error}); change XDG_CACHE_HOME") from error
    return landmarks.clip
