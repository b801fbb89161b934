"""Landmark layouts: the landmarks that a model takes as input, and their order.

A layout is a CSV table with the columns ``name,section,mediapipe,wholepose,openpose,parent`` and one row per landmark,
in the order of the model's inputs. The column of an estimator holds the point's 0-based index in that estimator's
array; the cell is empty if the estimator has no such point. The tables 29, 54 and 71 hold the mappings of the Peruvian
system's ``points_N.csv`` files with corrected index errors (docs/layouts.md lists them). spoter54 has the order of the
SPOTER paper.
"""

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path

import numpy as np

from spoter.error_codes import ErrorCode
from spoter.errors import InputError, ModelFolderError
from spoter.files import read_text
from spoter.landmarks.arrays import BoolArray, Float32Array, IndexArray
from spoter.landmarks.clip import Clip
from spoter.landmarks.estimators import ESTIMATORS, NECK

BUILT_IN = ("29", "54", "71", "spoter54")
_COLUMNS = ("name", "section", "mediapipe", "wholepose", "openpose", "parent")
_SECTIONS = ("pose", "face", "leftHand", "rightHand")
_SHOULDERS = ("pose_left_shoulder", "pose_right_shoulder")


@dataclass(frozen=True)
class Landmark:
    """A row of a layout's table; `index` maps the name of each estimator with this point to its 0-based index."""

    name: str
    section: str
    parent: str | None
    index: dict[str, int]


@dataclass(frozen=True, eq=False)
class Layout:
    """A model's K input landmarks, in order; the name is one of `BUILT_IN` or a CSV file's name."""

    name: str
    landmarks: tuple[Landmark, ...]

    def __len__(self) -> int:
        return len(self.landmarks)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the landmarks."""
        return tuple(landmark.name for landmark in self.landmarks)

    @lru_cache(maxsize=64)  # noqa: B019  see `_clip_columns`
    def section(self, *sections: str) -> IndexArray:
        """Return the columns of the landmarks in `sections`; do not change the array, it is cached."""
        return np.array([i for i, landmark in enumerate(self.landmarks) if landmark.section in sections], dtype=np.intp)

    def column(self, name: str) -> int | None:
        """Return the column of landmark `name`, or None if the layout lacks it."""
        return self.names.index(name) if name in self.names else None

    def select(self, clip: Clip) -> Float32Array:
        """Return this layout's points of a clip, (T, K, 2), in image units, NaN = missing.

        The clip has the columns of an estimator, or names at least this layout's landmarks. A missing neck becomes the
        mean of the shoulders, as in the Peruvian system. Raises ``missing_landmarks`` if the clip has no column for one
        of the layout's landmarks.
        """
        columns = self._clip_columns(clip.names, clip.estimator)
        points = clip.points[:, columns]
        neck = self.column(NECK)
        if neck is not None and all(name in clip.names for name in _SHOULDERS):
            if columns[neck] < 0:
                points[:, neck] = np.nan
            without_neck = np.isnan(points[:, neck, 0])
            if without_neck.any():
                shoulders = [clip.names.index(name) for name in _SHOULDERS]
                points[without_neck, neck] = clip.points[without_neck][:, shoulders].mean(axis=1)
        return points

    def used_columns(self, names: tuple[str, ...], estimator: str | None) -> BoolArray:
        """Return which columns of a clip with these names `select` reads, (N,), bool; raises as `select` does."""
        columns = self._clip_columns(names, estimator)
        used = np.zeros(len(names), dtype=bool)
        used[columns[columns >= 0]] = True
        if self.column(NECK) is not None:
            used[[names.index(name) for name in _SHOULDERS if name in names]] = True
        return used

    @lru_cache(maxsize=64)  # noqa: B019  the few layouts live as long as the process
    def _clip_columns(self, names: tuple[str, ...], estimator: str | None) -> IndexArray:
        """Return the clip's column for each landmark; -1 for a neck to derive from the shoulders."""
        column_of = {name: i for i, name in enumerate(names)}
        # Read an estimator's array by the table's indices, so that a layout file may use other names.
        source = ESTIMATORS.get(estimator or "")
        if source is not None and names[: len(source.names)] != source.names:
            source = None
        columns, missing = [], []
        for landmark in self.landmarks:
            column = column_of.get(landmark.name) if source is None else landmark.index.get(source.name)
            if column is not None and column < len(names):
                columns.append(column)
            elif landmark.name == NECK and all(name in column_of for name in _SHOULDERS):
                columns.append(-1)
            else:
                missing.append(landmark.name)
        if missing:
            listed = f"{', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}"
            message = f"the clip lacks {len(missing)} of layout {self.name}'s {len(self)} landmarks: {listed}"
            raise InputError(ErrorCode.MISSING_LANDMARKS, message)
        return np.array(columns, dtype=np.intp)


def load_layout(name: str) -> Layout:
    """Return the layout of a name in `BUILT_IN` or of a CSV file's path. Equal content gives the same object.

    Raises `ModelFolderError` for an unknown name, and for a malformed table, with the line number.
    """
    if name in BUILT_IN:
        text = resources.files("spoter.landmarks").joinpath("tables", f"points_{name}.csv").read_text(encoding="utf-8")
    elif name.endswith(".csv"):
        text = read_text(Path(name))
    else:
        expected = f"one of {', '.join(BUILT_IN)}, or the path of a .csv file with the columns {','.join(_COLUMNS)}"
        raise ModelFolderError(f"found layout {name!r}, expected {expected}")
    return _parse(name, text)


@lru_cache(maxsize=32)
def _parse(name: str, text: str) -> Layout:
    rows = csv.reader(io.StringIO(text), strict=True)
    landmarks: dict[str, Landmark] = {}
    try:
        columns = next(rows, [])
        if tuple(columns) != _COLUMNS:
            raise ModelFolderError(f"layout {name}: found columns {columns}, expected {list(_COLUMNS)}")
        for cells in rows:
            if cells:
                landmark = _parse_row(cells, landmarks.keys(), f"layout {name}, line {rows.line_num}")
                landmarks[landmark.name] = landmark
    except csv.Error as error:
        raise ModelFolderError(f"layout {name}, line {rows.line_num}: {error}, expected CSV") from None
    if not landmarks:
        raise ModelFolderError(f"layout {name}: found no landmark, expected at least one row")
    return Layout(Path(name).name, tuple(landmarks.values()))


def _parse_row(cells: list[str], earlier_names: Collection[str], place: str) -> Landmark:
    if len(cells) != len(_COLUMNS):
        raise ModelFolderError(f"{place}: found {len(cells)} cells, expected {len(_COLUMNS)}: {','.join(_COLUMNS)}")
    row = dict(zip(_COLUMNS, cells, strict=True))
    if row["section"] not in _SECTIONS:
        raise ModelFolderError(f"{place}: found section {row['section']!r}, expected one of {', '.join(_SECTIONS)}")
    if not row["name"] or row["name"] in earlier_names:
        raise ModelFolderError(f"{place}: found name {row['name']!r} empty or repeated, expected a unique name")
    index = {}
    for estimator in ESTIMATORS.values():
        cell, largest = row[estimator.name], max(estimator.sizes) - 1
        if not cell:
            continue
        # int() also accepts '1_0' and ' 1'; a table must hold plain digits
        if not cell.isascii() or not cell.isdigit() or int(cell) > largest:
            expected = f"expected 0 to {largest}, or an empty cell"
            raise ModelFolderError(f"{place}: found {estimator.name} index {cell!r}, {expected}")
        index[estimator.name] = int(cell)
    return Landmark(row["name"], row["section"], row["parent"] or None, index)
