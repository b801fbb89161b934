"""ConnectingPoints HDF5 files, the data set format of the Peruvian system's extractor.

A file holds one group per clip. ``data`` (T, 2, N) holds an estimator's points in image units; training also needs
``label`` (text, the gloss) and ``video_name`` (text). N is 543 for MediaPipe Holistic (544 with the neck), 137 for
OpenPose and 133 for WholePose.
Source: github.com/JoeNatan30/ConnectingPoints, preprocess.py and keypointEstimators/.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from spoter.error_codes import ErrorCode
from spoter.errors import DataError, InputError
from spoter.landmarks.arrays import Float32Array
from spoter.landmarks.clip import Clip, make_clip
from spoter.landmarks.estimators import ESTIMATORS, MEDIAPIPE, Estimator

ENDINGS = (".hdf5", ".h5")
HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError)
"""Exceptions that h5py raises for damaged files, depending on where the damage is."""

_HANDS = (("left_hand", "pose_left_wrist"), ("right_hand", "pose_right_wrist"))
_SIZES = "N 543 or 544 (mediapipe), 137 (openpose) or 133 (wholepose)"
_MOST_FRAMES = 100_000


def clip_from_connecting_points(points: npt.ArrayLike) -> Clip:
    """Make a clip from ConnectingPoints' points (T, N, 2); raises as `mark_missing` and `make_clip` do."""
    marked, estimator = mark_missing(points)
    return make_clip(marked, estimator.names_for(marked.shape[1]), estimator.name)


def mark_missing(points: npt.ArrayLike) -> tuple[Float32Array, Estimator]:
    """Return a copy of ConnectingPoints' points, (T, N, 2) float32, NaN = missing, and their estimator.

    The extractors write (0, 0) for a missing point. The extractor for MediaPipe (``mediapipe_functions.py``) writes 21
    copies of the pose's wrist for a missing hand. Both become NaN; `spoter.landmarks.normalize` restores the values
    that a scheme needs. Raises ``wrong_point_count`` for another shape, or an N that no estimator has.
    """
    with np.errstate(over="ignore"):  # 1e300 becomes inf, which make_clip reports
        marked = np.array(points, dtype=np.float32)
    estimator = _find_estimator(marked.shape[1]) if marked.ndim == 3 and marked.shape[2] == 2 else None
    if estimator is None:
        message = f"found points of shape {marked.shape}, expected (T, N, 2), {_SIZES}"
        raise InputError(ErrorCode.WRONG_POINT_COUNT, message)
    if estimator is MEDIAPIPE:
        for part, wrist in _HANDS:
            hand = marked[:, MEDIAPIPE.part(part)]
            column = MEDIAPIPE.names.index(wrist)
            hand[(hand == marked[:, column, None]).all(axis=(1, 2))] = np.nan
    marked[(marked == 0).all(axis=2)] = np.nan
    return marked, estimator


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading; raise `DataError` if it cannot be read."""
    try:
        return h5py.File(path, "r")
    except HDF5_ERRORS as error:
        raise DataError(f"{path}: cannot be read as an HDF5 file ({hdf5_error_text(error)})") from error


def read_group(file: h5py.File, key: str, required: tuple[str, ...]) -> h5py.Group:
    """Return a clip's group; raise `DataError` if it is not a group or lacks a `required` data set."""
    group = file.get(key)
    if not isinstance(group, h5py.Group):
        kind = "a broken link" if group is None else "a data set"
        raise DataError(f"found {kind}, expected a group with {', '.join(required)}")
    absent = [name for name in required if not isinstance(group.get(name), h5py.Dataset)]
    if absent:
        raise DataError(f"found no {', '.join(absent)}, expected {', '.join(required)}")
    return group


def read_points(group: h5py.Group) -> npt.NDArray[Any]:
    """Return a group's ``data`` as (T, N, 2), with missing points as the file holds them.

    Raises `DataError` for another shape or type, and one of `HDF5_ERRORS` for damaged data.
    """
    data = group["data"]
    numeric = data.ndim == 3 and data.shape[1] == 2 and data.dtype.kind in "fiu"
    if not numeric or _find_estimator(data.shape[2]) is None:
        raise DataError(f"found data of shape {data.shape}, {data.dtype}, expected numbers (T, 2, N), {_SIZES}")
    if len(data) > _MOST_FRAMES:  # a damaged shape would exhaust the memory
        raise DataError(f"found {len(data)} frames, expected at most {_MOST_FRAMES}")
    points: npt.NDArray[Any] = data[()].transpose(0, 2, 1)
    return points


def read_text(group: h5py.Group, name: str) -> str:
    """Return a text data set of a group; raise `DataError` if it is not text."""
    value = group[name][()]
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"found {name} {str(value)[:40]!r}, expected text")
    return value


def hdf5_error_text(error: Exception) -> str:
    """Return the message of an exception that h5py raised."""
    return str(getattr(error, "strerror", None) or error).strip("'\"")


def _find_estimator(size: int) -> Estimator | None:
    """Return the estimator whose arrays have `size` points."""
    return next((estimator for estimator in ESTIMATORS.values() if size in estimator.sizes), None)
