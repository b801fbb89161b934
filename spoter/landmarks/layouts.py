"""Landmark layouts: which points of an estimator a model is fed, and in which order.

A layout is a CSV table with the columns ``name,section,mediapipe,wholepose,openpose,parent``, a row a landmark, in the
order of the model's inputs. An estimator's column holds the point's 0-based index in that estimator's array, or nothing
where it has none. The tables 29, 54 and 71 carry the mappings of the Peruvian system's ``points_N.csv`` files with
their index errors corrected; spoter54 is the SPOTER paper's own order. docs/layouts.md lists the corrections.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path

import numpy as np

from spoter.error_codes import ErrorCode
from spoter.errors import InputError, ModelFolderError
from spoter.files import read_text
from spoter.landmarks.clip import Clip
from spoter.landmarks.estimators import ESTIMATORS, NECK

BUILT_IN = ("29", "54", "71", "spoter54")
_COLUMNS = ("name", "section", "mediapipe", "wholepose", "openpose", "parent")
_SECTIONS = ("pose", "face", "leftHand", "rightHand")
_SHOULDERS = ("pose_left_shoulder", "pose_right_shoulder")


@dataclass(frozen=True)
class Landmark:
    """A row of a layout's table; `index` maps an estimator's name to a 0-based index, without those that lack it."""

    name: str
    section: str
    parent: str | None
    index: dict[str, int]


@dataclass(frozen=True, eq=False)
class Layout:
    """A model's input landmarks, in order.

    Attributes
    ----------
    name : str
        "29", "54", "71", "spoter54", or the file name of a layout of one's own.
    landmarks : tuple of Landmark, length K
    """

    name: str
    landmarks: tuple[Landmark, ...]

    def __len__(self) -> int:
        return len(self.landmarks)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(landmark.name for landmark in self.landmarks)

    @lru_cache(maxsize=64)  # noqa: B019  as for `_columns`
    def section(self, *sections: str) -> np.ndarray:
        """Return the columns of the landmarks in `sections`, to be read only."""
        return np.array([i for i, landmark in enumerate(self.landmarks) if landmark.section in sections], dtype=np.intp)

    def column(self, name: str) -> int | None:
        """Return the column of landmark `name`, or None where the layout lacks it."""
        return self.names.index(name) if name in self.names else None

    def select(self, clip: Clip) -> np.ndarray:
        """Take this layout's points from a clip.

        A neck that the clip lacks is the mean of its shoulders, as the Peruvian system computed it.

        Parameters
        ----------
        clip : Clip
            In an estimator's own order, or holding at least this layout's landmarks by name.

        Returns
        -------
        numpy.ndarray, shape (T, K, 2), float32
            Image units, NaN = missing, columns in the layout's order.

        Raises
        ------
        InputError
            ``missing_landmarks`` where the clip has no column for one of the layout's landmarks.
        """
        columns = self._columns(clip.names, clip.estimator)
        points = clip.points[:, columns]
        neck = self.column(NECK)
        if neck is not None and all(name in clip.names for name in _SHOULDERS):
            if columns[neck] < 0:
                points[:, neck] = np.nan
            lacking = np.isnan(points[:, neck, 0])
            if lacking.any():
                shoulders = [clip.names.index(name) for name in _SHOULDERS]
                points[lacking, neck] = clip.points[lacking][:, shoulders].mean(axis=1)
        return points

    def used_columns(self, names: tuple[str, ...], estimator: str | None) -> np.ndarray:
        """Tell which columns of a clip with these names `select` reads: (N,), bool; raises as it does."""
        columns = self._columns(names, estimator)
        used = np.zeros(len(names), dtype=bool)
        used[columns[columns >= 0]] = True
        if self.column(NECK) is not None:
            used[[names.index(name) for name in _SHOULDERS if name in names]] = True
        return used

    @lru_cache(maxsize=64)  # noqa: B019  the few layouts of a process live as long as it does
    def _columns(self, names: tuple[str, ...], estimator: str | None) -> np.ndarray:
        """Return the clip's column of each landmark, -1 for a neck that is to be derived."""
        place = {name: i for i, name in enumerate(names)}
        # An estimator's own array is read by the table's indices, so that a layout file may use names of its own.
        full = estimator in ESTIMATORS and names[: len(ESTIMATORS[estimator].names)] == ESTIMATORS[estimator].names
        columns, missing = [], []
        for landmark in self.landmarks:
            column = landmark.index.get(estimator) if full else place.get(landmark.name)
            if column is not None and column < len(names):
                columns.append(column)
            elif landmark.name == NECK and all(name in place for name in _SHOULDERS):
                columns.append(-1)
            else:
                missing.append(landmark.name)
        if missing:
            raise InputError(
                ErrorCode.MISSING_LANDMARKS,
                f"the clip lacks {len(missing)} of layout {self.name}'s {len(self)} landmarks: "
                f"{', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}",
            )
        return np.array(columns, dtype=np.intp)


def load_layout(name: str) -> Layout:
    """Return a built-in layout, or read one from a CSV file with the same columns. Equal content gives the same object.

    Parameters
    ----------
    name : str
        One of `BUILT_IN`, or a path ending in ``.csv``.

    Raises
    ------
    ModelFolderError
        For an unknown name, and for a table that is malformed, naming its line.
    """
    if name in BUILT_IN:
        text = resources.files("spoter.landmarks").joinpath("tables", f"points_{name}.csv").read_text(encoding="utf-8")
    elif name.endswith(".csv"):
        text = read_text(Path(name))
    else:
        raise ModelFolderError(
            f"found layout {name!r}, expected one of {', '.join(BUILT_IN)}, or the path of a .csv file with the "
            f"columns {','.join(_COLUMNS)}"
        )
    return _parse(name, text)


@lru_cache(maxsize=32)
def _parse(name: str, text: str) -> Layout:
    rows = csv.DictReader(io.StringIO(text), strict=True)
    try:
        return _layout(name, rows)
    except csv.Error as error:
        raise ModelFolderError(f"layout {name}, line {rows.reader.line_num}: {error}, expected CSV") from None


def _layout(name: str, rows: csv.DictReader) -> Layout:
    if tuple(rows.fieldnames or ()) != _COLUMNS:
        raise ModelFolderError(f"layout {name}: found columns {rows.fieldnames}, expected {list(_COLUMNS)}")
    landmarks: list[Landmark] = []
    for row in rows:
        place = f"layout {name}, line {rows.line_num}"
        if None in row or None in row.values():
            found = len(_COLUMNS) + len(row[None]) if None in row else len(_COLUMNS) - list(row.values()).count(None)
            raise ModelFolderError(f"{place}: found {found} cells, expected {len(_COLUMNS)}: {','.join(_COLUMNS)}")
        if row["section"] not in _SECTIONS:
            raise ModelFolderError(f"{place}: found section {row['section']!r}, expected one of {', '.join(_SECTIONS)}")
        if not row["name"] or any(row["name"] == landmark.name for landmark in landmarks):
            raise ModelFolderError(f"{place}: found the name {row['name']!r} empty or for a second time")
        index = {}
        for estimator in ESTIMATORS.values():
            cell = row[estimator.name] or ""
            if not cell:
                continue
            # int() also takes '1_0' and ' 1'; a table holds plain digits
            if not cell.isascii() or not cell.isdigit() or int(cell) >= max(estimator.sizes):
                raise ModelFolderError(
                    f"{place}: found {estimator.name} index {cell!r}, expected 0 to {max(estimator.sizes) - 1}, "
                    "or nothing"
                )
            index[estimator.name] = int(cell)
        landmarks.append(Landmark(row["name"], row["section"], row["parent"] or None, index))
    if not landmarks:
        raise ModelFolderError(f"layout {name}: found no landmark, expected at least one row")
    return Layout(Path(name).name, tuple(landmarks))
