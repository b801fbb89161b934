"""ConnectingPoints HDF5 files, the form in which the Peruvian system's extractor stores data sets.

A file holds a group for each clip with three data sets: ``video_name`` (text), ``label`` (text, the gloss) and ``data``
(T, 2, N), an estimator's points in image units. N tells whose: 543, or 544 with the neck, are MediaPipe Holistic's, 137
OpenPose's and 133 WholePose's. The first part of a ``video_name`` (``camera07`` of ``camera07/computer/0007f9d4``) is
the clip's group.
Source: github.com/JoeNatan30/ConnectingPoints, preprocess.py and keypointEstimators/.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from spoter.clip import Clip, make_clip
from spoter.errors import DataError, InputError
from spoter.estimators import ESTIMATORS, MEDIAPIPE, Estimator
from spoter.training.datasets.labelled import Item, LabelledClip, Source
from spoter.training.datasets.wire_files import LIMITS

_HANDS = (("left_hand", "pose_left_wrist"), ("right_hand", "pose_right_wrist"))
# What h5py raises for a file that is damaged, by where the damage is.
_BROKEN = (OSError, RuntimeError, KeyError, ValueError)
_SIZES = "N 543 or 544 (mediapipe), 137 (openpose) or 133 (wholepose)"


def clip_from_connecting_points(points: np.ndarray) -> Clip:
    """Make a clip of ConnectingPoints' points, where a missing one is not marked as such but written as a number.

    Its extractors write (0, 0) for a missing point; that of MediaPipe (``mediapipe_functions.py``) 21 copies of the
    pose's wrist for a missing hand. Both become NaN; `spoter.normalize` puts in again what a scheme wants there.

    Parameters
    ----------
    points : array_like, shape (T, N, 2)
        Image units; N as above.

    Raises
    ------
    InputError
        ``wrong_point_count`` for another shape, and what `spoter.clip.make_clip` raises.
    """
    with np.errstate(over="ignore"):  # 1e300 becomes inf, which make_clip reports
        points = np.array(points, dtype=np.float32)
    estimator = _estimator(points.shape[1]) if points.ndim == 3 and points.shape[2] == 2 else None
    if estimator is None:
        raise InputError("wrong_point_count", f"found points of shape {points.shape}, expected (T, N, 2), {_SIZES}")
    if estimator is MEDIAPIPE:
        for part, wrist in _HANDS:
            hand = points[:, MEDIAPIPE.part(part)]
            column = MEDIAPIPE.names.index(wrist)
            hand[(hand == points[:, column, None]).all(axis=(1, 2))] = np.nan
    points[(points == 0).all(axis=2)] = np.nan
    return make_clip(points, estimator.names_for(points.shape[1]), estimator.name)


def _estimator(size: int) -> Estimator | None:
    """Return whose arrays have `size` points."""
    return next((estimator for estimator in ESTIMATORS.values() if size in estimator.sizes), None)


def read(path: Path) -> Source:
    """Find the clips of a file; they are read one by one while it is open.

    Raises
    ------
    DataError
        From the iteration over the clips, for a file that is no HDF5 file.
    """
    return Source(_items(path))


def _items(path: Path) -> Iterator[Item]:
    try:
        file = h5py.File(path, "r")
        keys = list(file)
    except _BROKEN as error:
        raise DataError(f"{path}: cannot be read as an HDF5 file ({_reason(error)})") from error
    with file:
        for key in keys:
            yield Item(f"{path}, group {key}", partial(_clip, file, key))


def _clip(file: h5py.File, key: str) -> LabelledClip:
    try:
        group = file.get(key)
        if not isinstance(group, h5py.Group):
            found = "a link to nothing" if group is None else "a data set"
            raise DataError(f"found {found}, expected a group with video_name, label and data")
        absent = [name for name in ("video_name", "label", "data") if not isinstance(group.get(name), h5py.Dataset)]
        if absent:
            raise DataError(f"found no {', '.join(absent)}, expected video_name, label and data")
        name, gloss = _text(group, "video_name"), _text(group, "label")
        data = group["data"]
        numbers = data.ndim == 3 and data.shape[1] == 2 and data.dtype.kind in "fiu"
        if not numbers or _estimator(data.shape[2]) is None:
            raise DataError(f"found data of shape {data.shape}, {data.dtype}, expected numbers (T, 2, N), {_SIZES}")
        if len(data) > LIMITS.max_frames:  # a damaged shape would ask for all memory
            raise DataError(f"found {len(data)} frames, expected at most {LIMITS.max_frames}")
        points = data[()]
    except _BROKEN as error:
        raise DataError(f"found a group that cannot be read ({_reason(error)})") from error
    return LabelledClip(clip_from_connecting_points(points.transpose(0, 2, 1)), gloss, name.split("/")[0], name)


def _text(group: h5py.Group, name: str) -> str:
    value = group[name][()]
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"found {name} {str(value)[:40]!r}, expected text")
    return value


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).strip("'\"")
