"""Labelled clips from ConnectingPoints HDF5 files, the form in which the Peruvian system's extractor stores data sets.

A file holds a group for each clip with three data sets: ``video_name`` (text), ``label`` (text, the gloss) and ``data``
(T, 2, N), MediaPipe Holistic's points in image units, N being 543, or 544 with the neck. The first part
of a ``video_name`` (``camera07`` of ``camera07/computer/0007f9d4``) is the clip's group: clips of one group are never
split between training and testing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from spoter.clip import Clip, make_clip
from spoter.errors import DataError, InputError
from spoter.estimators import MEDIAPIPE

_HANDS = (("left_hand", "pose_left_wrist"), ("right_hand", "pose_right_wrist"))


@dataclass(frozen=True)
class LabelledClip:
    """A clip with the gloss it shows.

    Attributes
    ----------
    clip : Clip
    gloss : str
    group : str
        What it was recorded under: a camera, a signer; the name itself where the data set does not say.
    name : str
        The data set's own name of the clip.
    """

    clip: Clip
    gloss: str
    group: str
    name: str


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


def read_connecting_points(path: Path) -> list[LabelledClip]:
    """Read all clips of a ConnectingPoints HDF5 file, ordered by their names.

    Raises
    ------
    DataError
        For a file that is no HDF5 file or holds no clip, and for a clip that is not as described above, naming the
        file, the clip's group in it, what was found and what was expected.
    """
    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            clips = [_read_clip(path, key, file.get(key)) for key in file]
    except OSError as error:
        raise DataError(f"{path}: cannot be read as an HDF5 file ({error.strerror or error})") from error
    if not clips:
        raise DataError(f"{path}: found no clip, expected a group for each")
    return sorted(clips, key=lambda clip: clip.name)


def _read_clip(path: Path, key: str, group: h5py.Group | h5py.Dataset | None) -> LabelledClip:
    place = f"{path}, group {key}"
    if not isinstance(group, h5py.Group):
        found = "a link to nothing" if group is None else "a data set"
        raise DataError(f"{place}: found {found}, expected a group with video_name, label and data")
    absent = [name for name in ("video_name", "label", "data") if not isinstance(group.get(name), h5py.Dataset)]
    if absent:
        raise DataError(f"{place}: found no {', '.join(absent)}, expected video_name, label and data")
    name, gloss = _text(place, group, "video_name"), _text(place, group, "label")
    data = group["data"]
    if data.ndim != 3 or data.shape[1] != 2 or data.shape[2] not in MEDIAPIPE.sizes or data.dtype.kind not in "fiu":
        raise DataError(
            f"{place}: found data of shape {data.shape}, {data.dtype}, expected numbers of shape (T, 2, 543 or 544)"
        )
    try:
        clip = clip_from_connecting_points(data[()].transpose(0, 2, 1))
    except InputError as error:
        raise DataError(f"{place}: {error}") from None
    return LabelledClip(clip, gloss, name.split("/")[0], name)


def _text(place: str, group: h5py.Group, name: str) -> str:
    value = group[name][()]
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: found {name} {str(value)[:40]!r}, expected text")
    return value
