"""Tables in the long form, a row a landmark: the columns frame, type, landmark_index, x, y of MediaPipe Holistic.

One table may hold a whole data set, with the columns ``clip`` and ``gloss``, and optionally ``group``. Or there is a
parquet file for each clip and a ``train.csv`` with the columns path, participant_id, sequence_id, sign, as in Kaggle's
competition "Google - Isolated Sign Language Recognition" of 2023; participants are the groups.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from spoter.error_codes import ErrorCode
from spoter.errors import DataError, InputError
from spoter.formats.csv_table import Table
from spoter.landmarks.clip import Clip, make_clip
from spoter.landmarks.estimators import MEDIAPIPE, REFINED_FACE_POINTS
from spoter.training.data.labelled import LabelledClip, UnreadClip, UnreadDataSet

COLUMNS = ("frame", "type", "landmark_index", "x", "y")
"""Columns of a landmark."""

INDEX_COLUMNS = ("path", "participant_id", "sequence_id", "sign")
"""Columns of a train.csv."""

_NUMBERS = ("frame", "landmark_index", "x", "y")
_PARTS = list(MEDIAPIPE.parts)
_SIZES = np.array([len(points) for points in MEDIAPIPE.parts.values()])
_ACCEPTED = np.where(np.array(_PARTS) == "face", REFINED_FACE_POINTS, _SIZES)
_STARTS = np.array([MEDIAPIPE.part(part).start for part in _PARTS])


def locate_csv_clips(path: Path, table: Table) -> UnreadDataSet:
    """Locate the clips of a CSV in the long form; `DataError` or `InputError` where the table as a whole is wrong."""
    _check_columns(path, table.columns, ("clip", "gloss"))
    rows = table.read_strings([name for name in ("type", "clip", "gloss", "group") if name in table.columns])
    rows[list(_NUMBERS)] = table.read_numbers(_NUMBERS)
    return _locate_clips(path, rows)


def locate_parquet_clips(path: Path) -> UnreadDataSet:
    """Locate the clips of a parquet file in the long form; `DataError` where the table as a whole is wrong."""
    return _locate_clips(path, _read_parquet(path, ("clip", "gloss"), ("group",)))


def locate_indexed_clips(path: Path, table: Table) -> UnreadDataSet:
    """Locate the clips that a train.csv lists; `InputError` where the list as a whole is wrong."""
    rows = table.read_strings(INDEX_COLUMNS).itertuples(index=False, name=None)
    return UnreadDataSet(
        [
            UnreadClip(f"{path}, {table.place(i)}", partial(_read_indexed, path.parent, *row))
            for i, row in enumerate(rows)
        ]
    )


def clip_of_rows(rows: pd.DataFrame) -> Clip:
    """Make a clip of rows of a long table with `COLUMNS`; frames are those whose numbers occur, in their order.

    Raises
    ------
    InputError
        ``wrong_type`` for frames and indices that are no whole numbers, and for unknown types; ``wrong_point_count``
        for an index beyond its part; ``duplicate_rows``; and what `spoter.landmarks.clip.make_clip` raises.
    """
    frame, index, x, y = rows[list(_NUMBERS)].to_numpy(dtype=np.float64).T
    for name, values in (("frame", frame), ("landmark_index", index)):
        wrong = ~(np.isfinite(values) & (np.floor(values) == values))
        if wrong.any():
            raise InputError(ErrorCode.WRONG_TYPE, f"found {name} {values[wrong][0]:g}, expected a whole number")
    part = pd.Index(_PARTS).get_indexer(pd.Index(rows["type"]))
    if (part < 0).any():
        word = str(rows["type"][part < 0].iloc[0])[:40]
        raise InputError(ErrorCode.WRONG_TYPE, f"found type {word!r}, expected one of {', '.join(_PARTS)}")
    wrong = (index < 0) | (index >= _ACCEPTED[part])
    if wrong.any():
        first = part[wrong][0]
        raise InputError(
            ErrorCode.WRONG_POINT_COUNT,
            f"found landmark_index {index[wrong][0]:g}, expected 0 to {_SIZES[first] - 1} for {_PARTS[first]}",
            f"frame {frame[wrong][0]:g}",
        )
    kept = index < _SIZES[part]
    numbers, row = np.unique(frame, return_inverse=True)
    row, column = row[kept], (_STARTS[part] + index)[kept].astype(np.intp)
    repeated = pd.MultiIndex.from_arrays((row, column)).duplicated()
    if repeated.any():
        where = f"frame {numbers[row[repeated][0]]:g}, point {MEDIAPIPE.names[column[repeated][0]]}"
        raise InputError(ErrorCode.DUPLICATE_ROWS, "found the point for a second time", where)
    points = np.full((len(numbers), len(MEDIAPIPE.names), 2), np.nan)
    points[row, column] = np.column_stack((x, y))[kept]
    return make_clip(points, MEDIAPIPE.names, MEDIAPIPE.name)


def _locate_clips(path: Path, rows: pd.DataFrame) -> UnreadDataSet:
    if rows.empty:
        raise DataError(f"{path}: found no row, expected a row for each landmark")
    members = {str(name): np.asarray(places) for name, places in rows.groupby("clip").indices.items()}
    return UnreadDataSet(
        [UnreadClip(f"{path}, clip {name}", partial(_read_clip, rows, name, members[name])) for name in sorted(members)]
    )


def _read_clip(table: pd.DataFrame, name: str, places: np.ndarray) -> LabelledClip:
    rows = table.iloc[places]
    if not name.strip():
        raise DataError(f"found {len(rows)} rows without the clip's name")
    labels = {"group": name}
    for column in ("gloss", "group"):
        values = sorted(set(rows[column])) if column in rows else [name]
        if len(values) > 1:
            raise DataError(f"found the {column} {values[0][:40]!r} and {values[1][:40]!r}, expected one for a clip")
        labels[column] = values[0]
    return LabelledClip(clip_of_rows(rows), labels["gloss"], labels["group"], name)


def _read_indexed(folder: Path, path: str, participant: str, sequence: str, sign: str) -> LabelledClip:
    path, participant, sequence = path.strip(), participant.strip(), sequence.strip()
    if not (path and participant and sequence):
        raise DataError(f"found an empty cell, expected {', '.join(INDEX_COLUMNS)}")
    return LabelledClip(clip_of_rows(_read_parquet(folder / path)), sign, participant, f"{participant}/{sequence}")


def _read_parquet(path: Path, needed: Sequence[str] = (), optional: Sequence[str] = ()) -> pd.DataFrame:
    try:
        if not path.is_file():
            raise DataError(f"{path}: there is no such file")
        frame = pd.read_parquet(path)
    except ImportError as error:
        raise DataError("reading parquet files needs pip install 'spoter[train]'") from error
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        reason = getattr(error, "strerror", None) or "it is cut, or of another kind"
        raise DataError(f"{path}: cannot be read as a parquet file ({reason})") from error
    _check_columns(path, frame.columns, needed)
    for name in _NUMBERS:
        if frame[name].dtype.kind not in "fiu":
            raise DataError(f"{path}: found column {name} of {frame[name].dtype}, expected numbers")
    words = ["type", *needed, *(name for name in optional if name in frame.columns)]
    try:
        for name in words:
            frame[name] = frame[name].astype(object).where(frame[name].notna(), "").astype(str)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: found bytes that are not UTF-8, expected text in {', '.join(words)}") from error
    return frame[[*words, *_NUMBERS]]


def _check_columns(path: Path, columns: Collection[str], needed: Sequence[str]) -> None:
    absent = [name for name in (*needed, *COLUMNS) if name not in columns]
    if absent:
        raise DataError(f"{path}: found no column {', '.join(absent)}, expected {', '.join((*needed, *COLUMNS))}")
