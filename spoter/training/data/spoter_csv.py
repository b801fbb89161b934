"""The SPOTER data sets' CSV: a row a clip, a column a coordinate, a bracketed list of frames in each cell.

Its points are read as `spoter.formats.spoter_csv` reads them from a request: Apple Vision's names, y up, x 0 = missing.
Besides, the column ``labels`` holds the clip's label, counted from 1. A ``meaning.json`` beside the file, ``{"0":
"GLOSS", …}`` by label - 1 as in a model folder, names the glosses; without it a label is its own gloss. The columns
``clip`` and ``group``, which upstream does not have, are used where they are there.
Source: github.com/matyasbohacek/spoter, datasets/czech_slr_dataset.py.
"""

from __future__ import annotations

import codecs
from functools import partial
from pathlib import Path

import msgspec

from spoter.errors import DataError, InputError
from spoter.formats import spoter_csv
from spoter.formats.csv_table import Table
from spoter.formats.request import Options
from spoter.landmarks.clip import Clip
from spoter.landmarks.layouts import load_layout
from spoter.training.data.labelled import LabelledClip, UnreadClip, UnreadDataSet
from spoter.training.data.wire_files import LIMITS

_LABELS, _NAME, _GROUP = "labels", "clip", "group"
_LAYOUTS = ("54", "29")  # the names are those of 54; files with fewer are read for 29


def read(path: Path, table: Table) -> UnreadDataSet:
    """Find the clips of a table that `spoter.formats.spoter_csv.recognizes`.

    Raises
    ------
    DataError
        Where the table as a whole is wrong, or meaning.json is.
    """
    if _LABELS not in table.columns:
        raise DataError(f"{path}: found no column {_LABELS}, expected it beside the points, counted from 1")
    labels = _meaning(path.with_name("meaning.json"))
    try:
        clips = _clips(table)
        there = [name for name in (_LABELS, _NAME, _GROUP) if name in table.columns]
        rows = table.strings(there).to_dict("records")
    except InputError as error:
        raise DataError(f"{path}: {error}") from error
    return UnreadDataSet(
        [
            UnreadClip(f"{path}, {table.where(i)}", partial(_labelled, clip, row, labels, f"{path.stem}/{i}"))
            for i, (clip, row) in enumerate(zip(clips, rows, strict=True))
        ],
        labels,
    )


def _clips(table: Table) -> list[Clip | InputError]:
    try:
        return spoter_csv.read(table, load_layout(_LAYOUTS[0]), LIMITS, Options())
    except InputError as error:
        if error.code != "missing_columns":
            raise
    return spoter_csv.read(table, load_layout(_LAYOUTS[1]), LIMITS, Options())


def _labelled(clip: Clip | InputError, row: dict[str, str], labels: dict[str, str], default: str) -> LabelledClip:
    if isinstance(clip, InputError):
        where = clip.where.partition(", ")[2].partition(", ")[2]  # within the clip, which whoever reads it names
        raise DataError(f"{where}: {clip.message}" if where else clip.message)
    label = row[_LABELS].strip()
    if not (label.isascii() and label.isdigit() and int(label) > 0):
        raise DataError(f"found label {label[:40]!r}, expected a whole number from 1")
    gloss = str(int(label))
    if labels:
        if gloss not in labels:
            raise DataError(f"found label {gloss}, expected one of the {len(labels)} that meaning.json names")
        gloss = labels[gloss]
    name = row.get(_NAME, "").strip() or default
    return LabelledClip(clip, gloss, row.get(_GROUP, "").strip() or name, name)


def _meaning(path: Path) -> dict[str, str]:
    """Return the gloss of each label, counted from 1; nothing where there is no such file."""
    try:
        body = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    try:
        glosses = msgspec.json.decode(body, type=dict[str, str])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(f'{path}: expected {{"0": "GLOSS", …}} ({error})') from error
    labels = {}
    for index, gloss in glosses.items():
        if not (index.isascii() and index.isdigit()) or not gloss.strip():
            raise DataError(f"{path}: found {index[:40]!r}: {gloss[:40]!r}, expected a label index and its gloss")
        labels[str(int(index) + 1)] = gloss
    twice = sorted({gloss for gloss in labels.values() if list(labels.values()).count(gloss) > 1})
    if twice:
        raise DataError(f"{path}: found {', '.join(twice[:5])} for several labels, expected a gloss once")
    return labels
