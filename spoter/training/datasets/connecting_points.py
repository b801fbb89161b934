"""Data sets in ConnectingPoints HDF5 files (`spoter.connecting_points`): the clips of a file with their labels.

The first part of a ``video_name`` (``camera07`` of ``camera07/computer/0007f9d4``) is the clip's group.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import h5py

from spoter.connecting_points import (
    BROKEN,
    clip_from_connecting_points,
    group_of,
    open_file,
    read_points,
    read_text,
    reason,
)
from spoter.errors import DataError
from spoter.training.datasets.labelled import Item, LabelledClip, Source


def read(path: Path) -> Source:
    """Find the clips of a file; they are read one by one while it is open.

    Raises
    ------
    DataError
        From the iteration over the clips, for a file that is no HDF5 file.
    """
    return Source(_items(path))


def _items(path: Path) -> Iterator[Item]:
    with open_file(path) as file:
        try:
            keys = list(file)
        except BROKEN as error:
            raise DataError(f"{path}: cannot be read as an HDF5 file ({reason(error)})") from error
        for key in keys:
            yield Item(f"{path}, group {key}", partial(_clip, file, key))


def _clip(file: h5py.File, key: str) -> LabelledClip:
    try:
        group = group_of(file, key, ("video_name", "label", "data"))
        name, gloss = read_text(group, "video_name"), read_text(group, "label")
        points = read_points(group)
    except BROKEN as error:
        raise DataError(f"found a group that cannot be read ({reason(error)})") from error
    return LabelledClip(clip_from_connecting_points(points), gloss, name.split("/")[0], name)
