"""Rows of a table in the long form, a row a landmark of MediaPipe Holistic, as points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats.request import quote
from spoter.landmarks.arrays import Float64Array, IndexArray
from spoter.landmarks.estimators import MEDIAPIPE, REFINED_FACE_POINTS
from spoter.limits import Limits

LONG_COLUMNS = ("frame", "type", "landmark_index", "x", "y")
NUMBER_COLUMNS = ("frame", "landmark_index", "x", "y")

Place = Callable[[int, str | None], str]
"""Returns the place of a row, and of its cell in a column if there is one, for an error."""


@dataclass(frozen=True)
class LongRows:
    """Checked rows: their frames' numbers, their columns in MediaPipe's array (-1: of the irises), x and y."""

    frame: Float64Array
    column: IndexArray
    xy: Float64Array
    place: Place

    def to_points(self, rows: IndexArray, limits: Limits) -> npt.NDArray[np.float64]:
        """Return the points (T, 543, 2) of some rows; the T frames are those whose numbers occur, in their order.

        Raises
        ------
        InputError
            ``too_many_frames`` and ``duplicate_rows``.
        """
        frames, frame_of_row = np.unique(self.frame[rows], return_inverse=True)
        limits.check_frames(len(frames))
        kept = self.column[rows] >= 0
        rows = rows[kept]
        cells = frame_of_row[kept] * len(MEDIAPIPE.names) + self.column[rows]
        if np.bincount(cells, minlength=1).max() > 1:
            second = np.flatnonzero(pd.Series(cells).duplicated())[0]
            first = np.flatnonzero(cells == cells[second])[0]
            name = MEDIAPIPE.names[cells[second] % len(MEDIAPIPE.names)]
            message = f"found point {name} of {self.place(rows[first], None)} again"
            raise InputError(ErrorCode.DUPLICATE_ROWS, message, self.place(rows[second], None))
        points = np.full((len(frames), len(MEDIAPIPE.names), 2), np.nan)
        points.reshape(-1, 2)[cells] = self.xy[rows]
        return points


def check_long_rows(numbers: Float64Array, types: pd.Series[str], place: Place) -> LongRows:
    """Check the rows of a long table, whose `numbers` (R, 4) are those of `NUMBER_COLUMNS`.

    Raises
    ------
    InputError
        ``wrong_type`` and ``wrong_point_count``.
    """
    parts = list(MEDIAPIPE.parts)
    part = pd.Index(parts).get_indexer(pd.Index(types))
    for row in np.flatnonzero(part < 0)[:1]:
        found = quote(types.iloc[row])
        raise InputError(ErrorCode.WRONG_TYPE, f"found {found}, expected one of {', '.join(parts)}", place(row, "type"))
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
