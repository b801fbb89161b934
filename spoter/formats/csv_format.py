"""text/csv: wide (a row a frame), long (a row a landmark) or the SPOTER data sets' (a row a clip).

The header tells which. A column ``clip`` in a wide or long table groups its rows into several clips.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats import spoter_csv
from spoter.formats.csv_table import Table, axes, check_present, read_table, wanted
from spoter.formats.plain_points import known_estimator
from spoter.formats.request import CSV, DEFAULT_TOP_K, Options, Request, check_estimator, finish_clip, short
from spoter.landmarks.clip import Clip
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.landmarks.layouts import Layout
from spoter.limits import Limits

_LONG = ("frame", "type", "landmark_index", "x", "y")
_CLIP = "clip"
# A row of a long table costs five times this in memory, however short it is: no more are read than bodies have room for
# of rows such as those of the competition, whose coordinates have 6 decimals.
_LONG_ROW = 55
# A refined face mesh goes on for ten points of the irises, which are dropped.
_REFINED_FACE = 478


def decode(body: bytes, layout: Layout, limits: Limits, options: Options) -> Request:
    """Read a CSV body; as `spoter.formats.decode`.

    Raises
    ------
    InputError
        ``unknown_form`` and ``missing_columns`` for the header, those of `read_table`, and ``wrong_type`` for a cell:
        a table that cannot be read has no clips whose neighbours could be answered.
    """
    known_estimator(options.estimator)
    table = read_table(body)
    top_k = options.top_k or DEFAULT_TOP_K
    if spoter_csv.recognizes(table.columns):
        return Request(spoter_csv.read(table, layout, limits, options), True, top_k, CSV)
    kind = _long if "landmark_index" in table.columns else _wide
    if kind is _wide and not (len(table.columns) > 1 and any(name.endswith(("_x", "_y")) for name in table.columns)):
        hint = " (separate columns by commas)" if re.search("[;\\t]", table.columns[0]) else ""
        raise InputError(
            ErrorCode.UNKNOWN_FORM,
            f"found the columns {', '.join(short(name) for name in table.columns[:6])}{hint}, expected "
            f"{layout.names[0]}_x, {layout.names[0]}_y, … (a row a frame), {','.join(_LONG)} (a row a landmark) or "
            "nose_X, nose_Y, … (a row a clip)",
            "header",
        )
    table = _at_most(table, kind is _long, limits)
    if _CLIP not in table.columns:
        return Request([kind(table, layout, limits, options)(np.arange(len(table.lines)))], False, top_k, CSV)
    groups, labels = pd.factorize(table.strings([_CLIP])[_CLIP])
    nameless = np.flatnonzero(labels[groups] == "")
    if len(nameless):
        raise InputError(
            ErrorCode.WRONG_TYPE, "found nothing, expected the clip's name", table.where(nameless[0], _CLIP)
        )
    limits.check_clips(len(labels))
    read = kind(table, layout, limits, options)
    clips: list[Clip | InputError] = []
    for i in range(len(labels)):
        try:
            clips.append(read(np.flatnonzero(groups == i)))
        except InputError as error:
            clips.append(error.within(f"clip {i}"))
    return Request(clips, True, top_k, CSV)


def _at_most(table: Table, long: bool, limits: Limits) -> Table:
    """Return a table of which no more rows are read than all clips of a request may have."""
    rows = limits.max_frames * limits.max_clips
    if long:
        rows = min(rows * len(MEDIAPIPE.names), limits.max_bytes // _LONG_ROW)
    clips = f" in each of {limits.max_clips} clips" if _CLIP in table.columns else ""
    expected = f"found more than {rows} rows, expected at most {limits.max_frames} frames{clips}"
    return table.at_most(rows, InputError(ErrorCode.TOO_MANY_FRAMES, expected))


_Read = Callable[[np.ndarray], Clip]


def _wide(table: Table, layout: Layout, limits: Limits, options: Options) -> _Read:
    names = wanted(layout, {name[:-2] for name in table.columns if name.endswith(("_x", "_y"))})
    columns = axes(names)
    check_present(table.columns, columns)
    points = table.numbers(columns).reshape(len(table.lines), len(names), 2)

    def read(rows: np.ndarray) -> Clip:
        limits.check_frames(len(rows))
        return finish_clip(points[rows], tuple(names), options.estimator, layout, options)

    return read


def _long(table: Table, layout: Layout, limits: Limits, options: Options) -> _Read:
    check_present(table.columns, _LONG)
    check_estimator("mediapipe", options)
    frame, index, x, y = table.numbers(("frame", "landmark_index", "x", "y")).T
    part = _parts(table)
    for name, values in (("frame", frame), ("landmark_index", index)):
        wrong = np.flatnonzero(~(np.isfinite(values) & (np.floor(values) == values)))
        if len(wrong):
            where = table.where(wrong[0], name)
            raise InputError(ErrorCode.WRONG_TYPE, f"found {values[wrong[0]]:g}, expected a whole number", where)
    starts = np.array([MEDIAPIPE.part(name).start for name in MEDIAPIPE.parts])
    sizes = np.array([len(points) for points in MEDIAPIPE.parts.values()])
    accepted = np.array([_REFINED_FACE if name == "face" else len(MEDIAPIPE.parts[name]) for name in MEDIAPIPE.parts])
    wrong = np.flatnonzero((index < 0) | (index >= accepted[part]))
    if len(wrong):
        row = wrong[0]
        raise InputError(
            ErrorCode.WRONG_POINT_COUNT,
            f"found index {index[row]:g}, expected 0 to {sizes[part[row]] - 1} for {list(MEDIAPIPE.parts)[part[row]]}",
            table.where(row, "landmark_index"),
        )
    used = index < sizes[part]
    column = np.where(used, starts[part] + index, 0).astype(np.intp)

    def read(rows: np.ndarray) -> Clip:
        numbers, place = np.unique(frame[rows], return_inverse=True)
        limits.check_frames(len(numbers))
        kept = used[rows]
        cells = place[kept] * len(MEDIAPIPE.names) + column[rows[kept]]
        if np.bincount(cells, minlength=1).max() > 1:
            raise _twice(table, rows[kept], cells)
        points = np.full((len(numbers) * len(MEDIAPIPE.names), 2), np.nan)
        points[cells] = np.column_stack((x, y))[rows[kept]]
        points = points.reshape(len(numbers), len(MEDIAPIPE.names), 2)
        return finish_clip(points, MEDIAPIPE.names, MEDIAPIPE.name, layout, options)

    return read


def _parts(table: Table) -> np.ndarray:
    """Return the number of the part of each row's landmark."""
    words = table.strings(["type"])["type"]
    part = words.map({name: i for i, name in enumerate(MEDIAPIPE.parts)})
    wrong = np.flatnonzero(part.isna())
    if len(wrong):
        raise InputError(
            ErrorCode.WRONG_TYPE,
            f"found {short(words.iloc[wrong[0]])}, expected one of {', '.join(MEDIAPIPE.parts)}",
            table.where(wrong[0], "type"),
        )
    return part.to_numpy(dtype=np.intp)


def _twice(table: Table, rows: np.ndarray, cells: np.ndarray) -> InputError:
    second = np.flatnonzero(pd.Series(cells).duplicated())[0]
    first = np.flatnonzero(cells == cells[second])[0]
    name = MEDIAPIPE.names[cells[second] % len(MEDIAPIPE.names)]
    return InputError(
        ErrorCode.DUPLICATE_ROWS,
        f"found point {name} of the frame of line {table.lines[rows[first]]} again",
        table.where(rows[second]),
    )
