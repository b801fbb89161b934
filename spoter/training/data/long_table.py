"""Tables in the long form: one row per landmark of MediaPipe Holistic, columns frame, type, landmark_index, x, y.

One table can hold a whole data set, with the columns ``clip`` and ``gloss``, and optionally ``group``. Alternatively,
there is one parquet file per clip and a ``train.csv`` with the columns path, participant_id, sequence_id, sign, as in
Kaggle's competition "Google - Isolated Sign Language Recognition" of 2023; its participants are the groups.
"""

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from spoter.errors import DataError
from spoter.formats.csv_format import LONG_COLUMNS, NUMBER_COLUMNS, check_long_rows
from spoter.formats.csv_table import Table
from spoter.landmarks.clip import Clip, make_clip
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.training.data.labelled import LabelledClip, UnreadClip, UnreadDataSet
from spoter.training.data.wire_files import LIMITS

INDEX_COLUMNS = ("path", "participant_id", "sequence_id", "sign")
"""The columns of train.csv."""


def locate_csv_clips(path: Path, table: Table) -> UnreadDataSet:
    """Locate the clips of a CSV file in the long form; raise `DataError` or `InputError` for a wrong table."""
    _check_columns(path, table.columns, ("clip", "gloss"))
    rows = table.read_strings([name for name in ("type", "clip", "gloss", "group") if name in table.columns])
    rows[list(NUMBER_COLUMNS)] = table.read_numbers(NUMBER_COLUMNS)
    return _locate_clips(path, rows)


def locate_parquet_clips(path: Path) -> UnreadDataSet:
    """Locate the clips of a parquet file in the long form; raise `DataError` for a wrong table."""
    return _locate_clips(path, _read_parquet(path, ("clip", "gloss"), ("group",)))


def locate_indexed_clips(path: Path, table: Table) -> UnreadDataSet:
    """Locate the clips that a train.csv lists; raise `InputError` for a wrong list."""
    rows = enumerate(table.read_strings(INDEX_COLUMNS).itertuples(index=False, name=None))
    read = partial(_read_indexed, path.parent)
    return UnreadDataSet([UnreadClip(f"{path}, {table.place(i)}", partial(read, *row)) for i, row in rows])


def _make_clip(rows: pd.DataFrame) -> Clip:
    numbers = rows[list(NUMBER_COLUMNS)].to_numpy(dtype=np.float64)

    def place(row: int, column: str | None) -> str:
        return f"frame {numbers[row, 0]:g}" + (f", column {column}" if column else "")

    points = check_long_rows(numbers, rows["type"], place).to_points(np.arange(len(rows)), LIMITS)
    return make_clip(points, MEDIAPIPE.names, MEDIAPIPE.name)


def _locate_clips(path: Path, rows: pd.DataFrame) -> UnreadDataSet:
    if rows.empty:
        raise DataError(f"{path}: found no row, expected one row per landmark")
    members = {str(name): np.asarray(places) for name, places in rows.groupby("clip").indices.items()}
    return UnreadDataSet(
        [UnreadClip(f"{path}, clip {name}", partial(_read_clip, rows, name, members[name])) for name in sorted(members)]
    )


def _read_clip(table: pd.DataFrame, name: str, places: np.ndarray) -> LabelledClip:
    rows = table.iloc[places]
    if not name.strip():
        raise DataError(f"found {len(rows)} rows with an empty column clip, expected the name of a clip")
    labels = {"group": name}
    for column in ("gloss", "group"):
        values = sorted(set(rows[column])) if column in rows else [name]
        if len(values) > 1:
            raise DataError(f"found the {column} {values[0][:40]!r} and {values[1][:40]!r}, expected one per clip")
        labels[column] = values[0]
    return LabelledClip(_make_clip(rows), labels["gloss"], labels["group"], name)


def _read_indexed(folder: Path, path: str, participant: str, sequence: str, sign: str) -> LabelledClip:
    path, participant, sequence = path.strip(), participant.strip(), sequence.strip()
    if not (path and participant and sequence):
        raise DataError(f"found an empty cell, expected text in {', '.join(INDEX_COLUMNS)}")
    return LabelledClip(_make_clip(_read_parquet(folder / path)), sign, participant, f"{participant}/{sequence}")


def _read_parquet(path: Path, needed: Sequence[str] = (), optional: Sequence[str] = ()) -> pd.DataFrame:
    try:
        if not path.is_file():
            raise DataError(f"{path}: found no such file")
        frame = pd.read_parquet(path)
    except ImportError as error:
        raise DataError("reading parquet files needs pyarrow: pip install 'spoter[train]'") from error
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        reason = getattr(error, "strerror", None) or "it is truncated or has another format"
        raise DataError(f"{path}: cannot be read as a parquet file ({reason})") from error
    _check_columns(path, frame.columns, needed)
    for name in NUMBER_COLUMNS:
        if frame[name].dtype.kind not in "fiu":
            raise DataError(f"{path}: found type {frame[name].dtype} in column {name}, expected numbers")
    texts = ["type", *needed, *(name for name in optional if name in frame.columns)]
    try:
        for name in texts:
            frame[name] = frame[name].astype(object).where(frame[name].notna(), "").astype(str)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: found bytes that are not UTF-8, expected UTF-8 text in {', '.join(texts)}") from error
    return frame[[*texts, *NUMBER_COLUMNS]]


def _check_columns(path: Path, columns: Collection[str], needed: Sequence[str]) -> None:
    absent = [name for name in (*needed, *LONG_COLUMNS) if name not in columns]
    if absent:
        raise DataError(f"{path}: found no column {', '.join(absent)}, expected {', '.join((*needed, *LONG_COLUMNS))}")
