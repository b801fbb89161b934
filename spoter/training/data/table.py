"""Tables in the long form, a row a landmark: the columns frame, type, landmark_index, x, y of MediaPipe Holistic.

One table may hold a whole data set, with the columns ``clip`` and ``gloss``, and ``group`` where it tells one. Or there
is a parquet file a clip and a ``train.csv`` with the columns path, participant_id, sequence_id, sign, as in Kaggle's
competition "Google - Isolated Sign Language Recognition" of 2023; participants are the groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from spoter.error_codes import ErrorCode
from spoter.errors import DataError, InputError
from spoter.formats.csv_table import Table
from spoter.landmarks.clip import Clip, make_clip
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.training.data.labelled import LabelledClip, UnreadClip, UnreadDataSet

COLUMNS = ("frame", "type", "landmark_index", "x", "y")
"""Columns of a landmark."""

INDEX_COLUMNS = ("path", "participant_id", "sequence_id", "sign")
"""Columns of a train.csv."""

_CLIP, _GLOSS, _GROUP = "clip", "gloss", "group"
_NUMBERS = ("frame", "landmark_index", "x", "y")
# A refined face mesh goes on for ten points of the irises, which are dropped.
_REFINED_FACE = 478


@dataclass(frozen=True)
class Rows:
    """Columns of a long table: `numbers` (rows, 4) float64 in the order of `_NUMBERS`; `words` as text by name."""

    numbers: np.ndarray
    words: dict[str, np.ndarray]


def read_csv(path: Path, table: Table) -> UnreadDataSet:
    """Find the clips of a CSV in the long form; `DataError` where the table as a whole is wrong."""
    _check(path, table.columns)
    try:
        words = table.strings([name for name in ("type", _CLIP, _GLOSS, _GROUP) if name in table.columns])
        rows = Rows(table.numbers(_NUMBERS), {name: words[name].to_numpy() for name in words})
    except InputError as error:
        raise DataError(f"{path}: {error}") from error
    return UnreadDataSet(_items(path, rows))


def read_parquet(path: Path) -> UnreadDataSet:
    """Find the clips of a parquet file in the long form; `DataError` where the table as a whole is wrong."""
    return UnreadDataSet(_items(path, _parquet(path, (_CLIP, _GLOSS), (_GROUP,))))


def read_index(path: Path, table: Table) -> UnreadDataSet:
    """Find the clips that a train.csv lists; `DataError` where the list as a whole is wrong."""
    try:
        listed = table.strings(INDEX_COLUMNS).to_dict("records")
        places = [f"{path}, {table.where(i)}" for i in range(len(listed))]
    except InputError as error:
        raise DataError(f"{path}: {error}") from error
    return UnreadDataSet([UnreadClip(place, partial(_listed, path.parent, row)) for place, row in zip(places, listed, strict=True)])


def clip_of_rows(rows: Rows, chosen: np.ndarray | slice = slice(None)) -> Clip:
    """Make a clip of rows of a long table; frames are those whose numbers occur, in their order.

    Raises
    ------
    InputError
        ``wrong_type`` for frames and indices that are no whole numbers, and for unknown types; ``wrong_point_count``
        for an index beyond its part; ``duplicate_rows``; and what `spoter.landmarks.clip.make_clip` raises.
    """
    frame, index, x, y = rows.numbers[chosen].T
    words = pd.Series(rows.words["type"][chosen])
    part = words.map({name: i for i, name in enumerate(MEDIAPIPE.parts)})
    for name, values in (("frame", frame), ("landmark_index", index)):
        wrong = ~(np.isfinite(values) & (np.floor(values) == values))
        if wrong.any():
            raise InputError(ErrorCode.WRONG_TYPE, f"found {name} {values[wrong][0]:g}, expected a whole number")
    if part.isna().any():
        found = str(words[part.isna()].iloc[0])[:40]
        raise InputError(ErrorCode.WRONG_TYPE, f"found type {found!r}, expected one of {', '.join(MEDIAPIPE.parts)}")
    part = part.to_numpy(dtype=np.intp)
    sizes = np.array([len(points) for points in MEDIAPIPE.parts.values()])
    accepted = np.array([_REFINED_FACE if name == "face" else len(MEDIAPIPE.parts[name]) for name in MEDIAPIPE.parts])
    wrong = (index < 0) | (index >= accepted[part])
    if wrong.any():
        name = list(MEDIAPIPE.parts)[part[wrong][0]]
        raise InputError(
            ErrorCode.WRONG_POINT_COUNT,
            f"found landmark_index {index[wrong][0]:g}, expected 0 to {len(MEDIAPIPE.parts[name]) - 1} for {name}",
            f"frame {frame[wrong][0]:g}",
        )
    kept = index < sizes[part]
    numbers, place = np.unique(frame, return_inverse=True)
    starts = np.array([MEDIAPIPE.part(name).start for name in MEDIAPIPE.parts])
    cells = place[kept] * len(MEDIAPIPE.names) + (starts[part] + index)[kept].astype(np.intp)
    twice = pd.Series(cells).duplicated().to_numpy()
    if twice.any():
        row, column = divmod(int(cells[twice][0]), len(MEDIAPIPE.names))
        where = f"frame {numbers[row]:g}, point {MEDIAPIPE.names[column]}"
        raise InputError(ErrorCode.DUPLICATE_ROWS, "found the point for a second time", where)
    points = np.full((len(numbers) * len(MEDIAPIPE.names), 2), np.nan)
    points[cells] = np.column_stack((x, y))[kept]
    return make_clip(points.reshape(len(numbers), len(MEDIAPIPE.names), 2), MEDIAPIPE.names, MEDIAPIPE.name)


def _items(path: Path, rows: Rows) -> list[UnreadClip]:
    members = pd.Series(rows.words[_CLIP]).groupby(rows.words[_CLIP]).indices
    if not members:
        raise DataError(f"{path}: found no row, expected a row for each landmark")
    return [UnreadClip(f"{path}, clip {name}", partial(_labelled, rows, name, members[name])) for name in sorted(members)]


def _labelled(rows: Rows, name: str, chosen: np.ndarray) -> LabelledClip:
    if not name.strip():
        raise DataError(f"found {len(chosen)} rows without the clip's name")
    told = {}
    for column in (_GLOSS, _GROUP):
        values = sorted(set(rows.words[column][chosen])) if column in rows.words else [name]
        if len(values) > 1:
            raise DataError(f"found the {column} {values[0][:40]!r} and {values[1][:40]!r}, expected one for a clip")
        told[column] = values[0]
    return LabelledClip(clip_of_rows(rows, chosen), told[_GLOSS], told[_GROUP], name)


def _listed(folder: Path, row: dict[str, str]) -> LabelledClip:
    path, participant, sequence, sign = (row[name].strip() for name in INDEX_COLUMNS)
    if not (path and participant and sequence):
        raise DataError(f"found an empty cell, expected {', '.join(INDEX_COLUMNS)}")
    return LabelledClip(clip_of_rows(_parquet(folder / path)), sign, participant, f"{participant}/{sequence}")


def _parquet(path: Path, needed: Sequence[str] = (), optional: Sequence[str] = ()) -> Rows:
    try:
        if not path.is_file():
            raise DataError(f"{path}: there is no such file")
        frame = pd.read_parquet(path)
    except ImportError as error:
        raise DataError("reading parquet files needs pip install 'spoter[train]'") from error
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        reason = getattr(error, "strerror", None) or "it is cut, or of another kind"
        raise DataError(f"{path}: cannot be read as a parquet file ({reason})") from error
    _check(path, frame.columns, needed)
    for name in _NUMBERS:
        if frame[name].dtype.kind not in "fiu":
            raise DataError(f"{path}: found column {name} of {frame[name].dtype}, expected numbers")
    there = ("type", *needed, *(name for name in optional if name in frame.columns))
    try:
        words = {
            name: frame[name].astype(object).where(frame[name].notna(), "").astype(str).to_numpy() for name in there
        }
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: found bytes that are not UTF-8, expected text in {', '.join(there)}") from error
    return Rows(frame[list(_NUMBERS)].to_numpy(dtype=np.float64), words)


def _check(path: Path, columns: Sequence[str], needed: Sequence[str] = (_CLIP, _GLOSS)) -> None:
    absent = [name for name in (*needed, *COLUMNS) if name not in columns]
    if absent:
        raise DataError(f"{path}: found no column {', '.join(absent)}, expected {', '.join((*needed, *COLUMNS))}")
