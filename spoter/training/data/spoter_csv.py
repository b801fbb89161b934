"""The CSV of the SPOTER data sets: one row per clip, one column per coordinate, a bracketed list of frames per cell.

`spoter.formats.spoter_csv` reads the points: names of Apple Vision, y up, x 0 = missing. The column ``labels`` holds
the label of each clip, counted from 1. A ``meaning.json`` in the same folder, ``{"0": "GLOSS", …}`` with label - 1 as
key like in a model folder, names the glosses; without it, the labels are the glosses. The columns ``clip`` and
``group`` are optional and not in the upstream data sets.
Source: github.com/matyasbohacek/spoter, datasets/czech_slr_dataset.py.
"""

import codecs
from collections import Counter
from functools import partial
from pathlib import Path

import msgspec

from spoter.error_codes import ErrorCode
from spoter.errors import DataError, InputError
from spoter.formats import spoter_csv
from spoter.formats.csv_table import Table
from spoter.formats.request import Options
from spoter.landmarks.clip import Clip
from spoter.landmarks.layouts import load_layout
from spoter.training.data.labelled import LabelledClip, UnreadClip, UnreadDataSet
from spoter.training.data.wire_files import LIMITS

_LAYOUTS = ("54", "29")  # the full file has the names of 54; files with fewer columns are read as 29


def locate_clips(path: Path, table: Table) -> UnreadDataSet:
    """Locate the clips of a table that `spoter.formats.spoter_csv.recognizes`.

    Raises `DataError` for missing labels and a wrong meaning.json; `InputError` for a wrong table.
    """
    if "labels" not in table.columns:
        raise DataError(f"{path}: found no column labels, expected one with labels counted from 1")
    glosses = _read_glosses(path.with_name("meaning.json"))
    clips = _read_clips(table)
    columns = table.read_strings([name for name in ("labels", "clip", "group") if name in table.columns])
    absent = [""] * len(clips)
    rows = zip(clips, columns["labels"], columns.get("clip", absent), columns.get("group", absent), strict=True)
    unread = []
    for i, (clip, label, name, group) in enumerate(rows):
        name = name.strip() or f"{path.stem}/{i}"
        load = partial(_label_clip, clip, label.strip(), glosses, name, group.strip() or name)
        unread.append(UnreadClip(f"{path}, {table.place(i)}", load))
    return UnreadDataSet(unread, glosses)


def _read_clips(table: Table) -> list[Clip | InputError]:
    try:
        return spoter_csv.read_clips(table, load_layout(_LAYOUTS[0]), LIMITS, Options())
    except InputError as error:
        if error.code != ErrorCode.MISSING_COLUMNS:
            raise
    return spoter_csv.read_clips(table, load_layout(_LAYOUTS[1]), LIMITS, Options())


def _label_clip(clip: Clip | InputError, label: str, glosses: dict[str, str], name: str, group: str) -> LabelledClip:
    if isinstance(clip, InputError):
        place = (clip.where or "").split(", ", 2)[2:]  # the place within the clip: the caller names the line
        raise DataError(": ".join([*place, clip.message]))
    if not (label.isascii() and label.isdigit() and int(label) > 0):
        raise DataError(f"found label {label[:40]!r}, expected an integer of at least 1")
    label = str(int(label))
    if glosses and label not in glosses:
        raise DataError(f"found label {label}, expected one of the {len(glosses)} labels in meaning.json")
    return LabelledClip(clip, glosses.get(label, label), group, name)


def _read_glosses(path: Path) -> dict[str, str]:
    """Return the gloss of each label, counted from 1; empty without the file."""
    try:
        glosses = msgspec.json.decode(path.read_bytes().removeprefix(codecs.BOM_UTF8), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(f'{path}: expected {{"0": "GLOSS", …}} ({error})') from error
    for index, gloss in glosses.items():
        if not (index.isascii() and index.isdigit()) or not gloss.strip():
            raise DataError(f"{path}: found {index[:40]!r}: {gloss[:40]!r}, expected a label index and its gloss")
    repeated = sorted(gloss for gloss, count in Counter(glosses.values()).items() if count > 1)
    if repeated:
        raise DataError(f"{path}: found {', '.join(repeated[:5])} for several labels, expected each gloss once")
    return {str(int(index) + 1): gloss for index, gloss in glosses.items()}
