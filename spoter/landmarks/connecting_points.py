"""ConnectingPoints HDF5 files, the form in which the Peruvian system's extractor stores data sets: their points.

A file holds a group for each clip with ``data`` (T, 2, N), an estimator's points in image units, and, for training,
``label`` (text, the gloss) and ``video_name`` (text). N tells whose: 543, or 544 with the neck, are MediaPipe
Holistic's, 137 OpenPose's and 133 WholePose's.
Source: github.com/JoeNatan30/ConnectingPoints, preprocess.py and keypointEstimators/.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from spoter.error_codes import ErrorCode
from spoter.errors import DataError, InputError
from spoter.landmarks.clip import Clip, make_clip
from spoter.landmarks.estimators import ESTIMATORS, MEDIAPIPE, Estimator

ENDINGS = (".hdf5", ".h5")
HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError)
"""What h5py raises for a file that is damaged, by where the damage is."""

_HANDS = (("left_hand", "pose_left_wrist"), ("right_hand", "pose_right_wrist"))
_SIZES = "N 543 or 544 (mediapipe), 137 (openpose) or 133 (wholepose)"
_MOST_FRAMES = 100_000


def clip_from_connecting_points(points: np.ndarray) -> Clip:
    """Make a clip of ConnectingPoints' points, where a missing one is not marked as such but written as a number.

    Parameters
    ----------
    points : array_like, shape (T, N, 2)
        Image units; N as above.

    Raises
    ------
    InputError
        ``wrong_point_count`` for another shape, and what `spoter.landmarks.clip.make_clip` raises.
    """
    points, estimator = mark_missing(points)
    return make_clip(points, estimator.names_for(points.shape[1]), estimator.name)


def mark_missing(points: np.ndarray) -> tuple[np.ndarray, Estimator]:
    """Return a copy of ConnectingPoints' points, (T, N, 2) float32, NaN = missing, and whose they are.

    Its extractors write (0, 0) for a missing point; that of MediaPipe (``mediapipe_functions.py``) 21 copies of the
    pose's wrist for a missing hand. Both become NaN; `spoter.landmarks.normalize` puts in again what a scheme wants there.

    Raises
    ------
    InputError
        ``wrong_point_count`` for another shape than (T, N, 2) with one of the numbers of points above.
    """
    with np.errstate(over="ignore"):  # 1e300 becomes inf, which make_clip reports
        points = np.array(points, dtype=np.float32)
    estimator = _estimator(points.shape[1]) if points.ndim == 3 and points.shape[2] == 2 else None
    if estimator is None:
        raise InputError(
            ErrorCode.WRONG_POINT_COUNT, f"found points of shape {points.shape}, expected (T, N, 2), {_SIZES}"
        )
    if estimator is MEDIAPIPE:
        for part, wrist in _HANDS:
            hand = points[:, MEDIAPIPE.part(part)]
            column = MEDIAPIPE.names.index(wrist)
            hand[(hand == points[:, column, None]).all(axis=(1, 2))] = np.nan
    points[(points == 0).all(axis=2)] = np.nan
    return points, estimator


def open_hdf5(path: Path) -> h5py.File:
    """Open a file for reading; raise `DataError` for what is no HDF5 file."""
    try:
        return h5py.File(path, "r")
    except HDF5_ERRORS as error:
        raise DataError(f"{path}: cannot be read as an HDF5 file ({hdf5_error_text(error)})") from error


def read_group(file: h5py.File, key: str, wanted: tuple[str, ...]) -> h5py.Group:
    """Return a clip's group; raise `DataError` where it is none, or lacks one of the data sets `wanted`."""
    group = file.get(key)
    if not isinstance(group, h5py.Group):
        found = "a link to nothing" if group is None else "a data set"
        raise DataError(f"found {found}, expected a group with {', '.join(wanted)}")
    absent = [name for name in wanted if not isinstance(group.get(name), h5py.Dataset)]
    if absent:
        raise DataError(f"found no {', '.join(absent)}, expected {', '.join(wanted)}")
    return group


def read_points(group: h5py.Group) -> np.ndarray:
    """Return a group's ``data`` as (T, N, 2), missing points as they are written.

    Raises
    ------
    DataError
        For another shape or type. Of damaged data h5py raises one of `HDF5_ERRORS`.
    """
    data = group["data"]
    numbers = data.ndim == 3 and data.shape[1] == 2 and data.dtype.kind in "fiu"
    if not numbers or _estimator(data.shape[2]) is None:
        raise DataError(f"found data of shape {data.shape}, {data.dtype}, expected numbers (T, 2, N), {_SIZES}")
    if len(data) > _MOST_FRAMES:  # a damaged shape would ask for all memory
        raise DataError(f"found {len(data)} frames, expected at most {_MOST_FRAMES}")
    return data[()].transpose(0, 2, 1)


def read_text(group: h5py.Group, name: str) -> str:
    """Return a data set of a group that is text; raise `DataError` where it is not."""
    value = group[name][()]
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"found {name} {str(value)[:40]!r}, expected text")
    return value


def hdf5_error_text(error: Exception) -> str:
    """Put what h5py raised into words."""
    return str(getattr(error, "strerror", None) or error).strip("'\"")


def _estimator(size: int) -> Estimator | None:
    """Return whose arrays have `size` points."""
    return next((estimator for estimator in ESTIMATORS.values() if size in estimator.sizes), None)
