"""text/csv: wide (one row per frame), long (one row per landmark) or SPOTER data sets (one row per clip).

The header identifies the form. A column ``clip`` in a wide or long table groups its rows into several clips.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats import spoter_csv
from spoter.formats.csv_table import RowLimit, Table, axis_columns, check_columns, landmarks_to_read, read_table
from spoter.formats.request import (
    CSV,
    DEFAULT_TOP_K,
    Options,
    Request,
    check_estimator,
    check_estimator_name,
    decode_each,
    finish_clip,
    quote,
)
from spoter.landmarks.arrays import Float64Array, IndexArray
from spoter.landmarks.clip import Clip
from spoter.landmarks.estimators import MEDIAPIPE, REFINED_FACE_POINTS
from spoter.landmarks.layouts import Layout
from spoter.limits import Limits

LONG_COLUMNS = ("frame", "type", "landmark_index", "x", "y")
NUMBER_COLUMNS = ("frame", "landmark_index", "x", "y")
_CLIP = "clip"
# Bytes of a row in the competition's long tables, whose coordinates have 6 decimals. Even a shorter row takes five
# times this in memory, so a body may have as many rows as rows of this size would fit into it.
_LONG_ROW = 55

_ReadClip = Callable[[IndexArray], Clip]
"""Makes a Clip from some rows of a table."""
Place = Callable[[int, str | None], str]
"""Returns the place of a row, or of its cell in a column, for an error."""


def decode(body: bytes, layout: Layout, limits: Limits, options: Options) -> Request:
    """Decode a CSV body; see `spoter.formats.decode`.

    Raises ``unknown_form`` and ``missing_columns`` for the header, the errors of `read_table`, and ``wrong_type`` for a
    cell: one bad cell makes the whole table unreadable.
    """
    check_estimator_name(options.estimator)
    table = read_table(body)
    top_k = options.top_k or DEFAULT_TOP_K
    if spoter_csv.recognizes(table.columns):
        return Request(spoter_csv.read_clips(table, layout, limits, options), True, top_k, CSV)
    is_long = "landmark_index" in table.columns
    if not is_long and not (len(table.columns) > 1 and any(name.endswith(("_x", "_y")) for name in table.columns)):
        hint = " (separate columns by commas)" if re.search("[;\\t]", table.columns[0]) else ""
        raise InputError(
            ErrorCode.UNKNOWN_FORM,
            f"found the columns {', '.join(quote(name) for name in table.columns[:6])}{hint}, expected "
            f"{layout.names[0]}_x, {layout.names[0]}_y, … (one row per frame), {','.join(LONG_COLUMNS)} (one row per "
            "landmark) or nose_X, nose_Y, … (one row per clip)",
            "header",
        )
    table = replace(table, row_limit=_row_limit(table.columns, is_long, limits))
    prepare = _prepare_long if is_long else _prepare_wide
    if _CLIP not in table.columns:
        read_clip = prepare(table, layout, limits, options)
        return Request([read_clip(np.arange(len(table.lines)))], False, top_k, CSV)
    clip_of_row, labels = pd.factorize(table.read_strings([_CLIP])[_CLIP])
    unnamed = np.flatnonzero(labels[clip_of_row] == "")
    if len(unnamed):
        raise InputError(
            ErrorCode.WRONG_TYPE, "found an empty cell, expected the clip's name", table.place(unnamed[0], _CLIP)
        )
    limits.check_clips(len(labels))
    read_clip = prepare(table, layout, limits, options)
    rows = (np.flatnonzero(clip_of_row == i) for i in range(len(labels)))
    return Request(decode_each(rows, read_clip, "clip {}".format), True, top_k, CSV)


def _row_limit(columns: Sequence[str], is_long: bool, limits: Limits) -> RowLimit:
    """Return the limit on the rows of all clips in a request."""
    rows = limits.max_frames * limits.max_clips
    if is_long:
        rows = min(rows * len(MEDIAPIPE.names), limits.max_bytes // _LONG_ROW)
    clips = f" in each of {limits.max_clips} clips" if _CLIP in columns else ""
    message = f"found more than {rows} rows, expected at most {limits.max_frames} frames{clips}"
    return RowLimit(rows, InputError(ErrorCode.TOO_MANY_FRAMES, message))


def _prepare_wide(table: Table, layout: Layout, limits: Limits, options: Options) -> _ReadClip:
    names = landmarks_to_read(layout, {name[:-2] for name in table.columns if name.endswith(("_x", "_y"))})
    columns = axis_columns(names)
    check_columns(table.columns, columns)
    points = table.read_numbers(columns).reshape(len(table.lines), len(names), 2)

    def read_clip(rows: IndexArray) -> Clip:
        limits.check_frames(len(rows))
        return finish_clip(points[rows], tuple(names), options.estimator, layout, options)

    return read_clip


def _prepare_long(table: Table, layout: Layout, limits: Limits, options: Options) -> _ReadClip:
    check_columns(table.columns, LONG_COLUMNS)
    check_estimator("mediapipe", options)
    numbers = table.read_numbers(NUMBER_COLUMNS)
    checked = check_long_rows(numbers, table.read_strings(["type"])["type"], table.place)

    def read_clip(rows: IndexArray) -> Clip:
        return finish_clip(checked.to_points(rows, limits), MEDIAPIPE.names, MEDIAPIPE.name, layout, options)

    return read_clip


@dataclass(frozen=True)
class LongRows:
    """Checked rows of a long table: frame number, column in MediaPipe's array (-1: irises), x and y."""

    frame: Float64Array
    column: IndexArray
    xy: Float64Array
    place: Place

    def to_points(self, rows: IndexArray, limits: Limits) -> Float64Array:
        """Return the points (T, 543, 2) of some rows; the T frames are the frame numbers in these rows, in order.

        Raises ``too_many_frames`` and ``duplicate_rows``.
        """
        frames, frame_of_row = np.unique(self.frame[rows], return_inverse=True)
        limits.check_frames(len(frames))
        is_used = self.column[rows] >= 0
        rows = rows[is_used]
        cells = frame_of_row[is_used] * len(MEDIAPIPE.names) + self.column[rows]
        if np.bincount(cells, minlength=1).max() > 1:
            second = np.flatnonzero(pd.Series(cells).duplicated())[0]
            first = np.flatnonzero(cells == cells[second])[0]
            name = MEDIAPIPE.names[cells[second] % len(MEDIAPIPE.names)]
            message = f"found point {name} twice in a frame, expected it once; also at {self.place(rows[first], None)}"
            raise InputError(ErrorCode.DUPLICATE_ROWS, message, self.place(rows[second], None))
        points = np.full((len(frames), len(MEDIAPIPE.names), 2), np.nan)
        points.reshape(-1, 2)[cells] = self.xy[rows]
        return points


def check_long_rows(numbers: Float64Array, types: pd.Series[str], place: Place) -> LongRows:
    """Check the rows of a long table; `numbers` (R, 4) are its `NUMBER_COLUMNS`.

    Raises ``wrong_type`` and ``wrong_point_count``.
    """
    parts = list(MEDIAPIPE.parts)
    part = pd.Index(parts).get_indexer(pd.Index(types))
    for row in np.flatnonzero(part < 0)[:1]:
        message = f"found {quote(types.iloc[row])}, expected one of {', '.join(parts)}"
        raise InputError(ErrorCode.WRONG_TYPE, message, place(row, "type"))
    frame, index = numbers[:, 0], numbers[:, 1]
    for name, values in (("frame", frame), ("landmark_index", index)):
        for row in np.flatnonzero(~(np.isfinite(values) & (np.floor(values) == values)))[:1]:
            message = f"found {values[row]:g}, expected a whole number"
            raise InputError(ErrorCode.WRONG_TYPE, message, place(row, name))
    starts = np.array([MEDIAPIPE.part(name).start for name in parts])
    sizes = np.array([len(points) for points in MEDIAPIPE.parts.values()])
    accepted = np.where(np.array(parts) == "face", REFINED_FACE_POINTS, sizes)
    for row in np.flatnonzero((index < 0) | (index >= accepted[part]))[:1]:
        raise InputError(
            ErrorCode.WRONG_POINT_COUNT,
            f"found index {index[row]:g}, expected 0 to {sizes[part[row]] - 1} for {parts[part[row]]}",
            place(row, "landmark_index"),
        )
    column = np.where(index < sizes[part], starts[part] + index, -1).astype(np.intp)
    return LongRows(frame, column, numbers[:, 2:], place)
