"""ConnectingPoints HDF5 files, the form in which the Peruvian system's extractor stores data sets.

A file holds a group for each clip with three data sets: ``video_name`` (text), ``label`` (text, the gloss) and ``data``
(T, 2, N), MediaPipe Holistic's points in image units, N being 543, or 544 with the neck. The first part of a
``video_name`` (``camera07`` of ``camera07/computer/0007f9d4``) is the clip's group.
Source: github.com/JoeNatan30/ConnectingPoints, preprocess.py and mediapipe_functions.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from spoter.clip import Clip, make_clip
from spoter.errors import DataError, InputError
from spoter.estimators import MEDIAPIPE
from spoter.training.datasets.labelled import Item, LabelledClip, Source

_HANDS = (("left_hand", "pose_left_wrist"), ("right_hand", "pose_right_wrist"))
# What h5py raises for a file that is damaged, by where the damage is.
_BROKEN = (OSError, RuntimeError, KeyError, ValueError)


def clip_from_connecting_points(points: np.ndarray) -> Clip:
    """Make a clip of ConnectingPoints' points, where a missing one is not marked as such but written as a number.

    Its extractor (``mediapipe_functions.py``) writes (0, 0) for a missing pose or face point, and 21 copies of the
    pose's wrist for a missing hand. Both become NaN; `spoter.normalize` puts in again what a scheme wants there.

    Parameters
    ----------
    points : array_like, shape (T, N, 2)
        Image units, N 543 or 544.

    Raises
    ------
    InputError
        ``wrong_point_count`` for another shape, and what `spoter.clip.make_clip` raises.
    """
    points = np.array(points, dtype=np.float32)
    if points.ndim != 3 or points.shape[1] not in MEDIAPIPE.sizes or points.shape[2] != 2:
        raise InputError("wrong_point_count", f"found points of shape {points.shape}, expected (T, 543 or 544, 2)")
    for part, wrist in _HANDS:
        hand = points[:, MEDIAPIPE.part(part)]
        column = MEDIAPIPE.names.index(wrist)
        hand[(hand == points[:, column, None]).all(axis=(1, 2))] = np.nan
    points[(points == 0).all(axis=2)] = np.nan
    return make_clip(points, MEDIAPIPE.names_for(points.shape[1]), MEDIAPIPE.name)


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
        if data.ndim != 3 or data.shape[1] != 2 or data.shape[2] not in MEDIAPIPE.sizes or data.dtype.kind not in "fiu":
            raise DataError(
                f"found data of shape {data.shape}, {data.dtype}, expected numbers of shape (T, 2, 543 or 544)"
            )
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
