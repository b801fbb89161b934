"""The CSV of the SPOTER data sets: one row per clip, one column per coordinate, a bracketed list of frames in a cell.

Names and coordinates are Apple Vision's: fractions of the picture with y **up**; x is 0 for a missing point. Names of
hand points end with ``_left`` and ``_right``, or ``_0`` and ``_1``.
Source: github.com/matyasbohacek/spoter, datasets/czech_slr_dataset.py and normalization/.
"""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats.body_guards import check_slow_numbers
from spoter.formats.csv_table import RowLimit, Table, axis_columns, check_columns, landmarks_to_read
from spoter.formats.request import ClipOrError, Options, decode_each, finish_clip
from spoter.landmarks.arrays import Float64Array
from spoter.landmarks.clip import Clip
from spoter.landmarks.estimators import NECK
from spoter.landmarks.layouts import Layout
from spoter.limits import Limits

_BODY = {"nose": "pose_nose", "neck": NECK} | {
    f"{side}{point}": f"pose_{side}_{point.lower()}"
    for side in ("left", "right")
    for point in ("Eye", "Ear", "Shoulder", "Elbow", "Wrist")
}
_FINGERS = {"index": "index_finger", "middle": "middle_finger", "ring": "ring_finger", "little": "pinky"}
_HAND = (
    {"wrist": "wrist"}
    | {
        f"{finger}{joint}": f"{name}_{joint.lower()}"
        for finger, name in _FINGERS.items()
        for joint in ("Tip", "DIP", "PIP", "MCP")
    }
    | {"thumbTip": "thumb_tip", "thumbIP": "thumb_ip", "thumbMP": "thumb_mcp", "thumbCMC": "thumb_cmc"}
)
NAMES = _BODY | {
    f"{point}_{side}": f"{hand}_{name}"
    for hand, sides in (("leftHand", ("left", "Left", "0")), ("rightHand", ("right", "Right", "1")))
    for side in sides
    for point, name in _HAND.items()
}
"""The landmark name of each point in the data sets, in all spellings."""

_LIST = msgspec.json.Decoder(list[float | None])


def recognizes(columns: Sequence[str]) -> bool:
    """Return whether a table with these columns has the form of the SPOTER data sets."""
    return any(column.endswith(("_X", "_Y")) and column[:-2] in NAMES for column in columns)


def read_clips(table: Table, layout: Layout, limits: Limits, options: Options) -> list[ClipOrError]:
    """Make a Clip from each row.

    Raises ``missing_columns`` if the table lacks points of the layout, and ``duplicate_columns`` if it has a point in
    two spellings.
    """
    check_slow_numbers(table.body)
    columns: dict[str, str] = {}
    for column in table.columns:
        name = NAMES.get(column[:-2]) if column.endswith(("_X", "_Y")) else None
        if name is not None:
            key = name + column[-2:]
            if key in columns:
                raise InputError(
                    ErrorCode.DUPLICATE_COLUMNS, f"found {columns[key]} and {column}, the same point", "header"
                )
            columns[key] = column
    names = landmarks_to_read(layout, {key[:-2] for key in columns})
    keys = axis_columns(names, "_X", "_Y")
    check_columns(tuple(columns), keys)
    table = replace(table, row_limit=RowLimit(limits.max_clips, limits.too_many_clips()))
    cells = table.read_strings([columns[key] for key in keys])
    # The coordinates are always fractions of the picture, so the picture's size does not apply.
    options = replace(options, width=None, height=None)

    def read_clip(row: Sequence[str]) -> Clip:
        points = _points(row, list(cells.columns), limits)
        return finish_clip(points, tuple(names), options.estimator, layout, options)

    rows = cells.itertuples(index=False, name=None)
    return decode_each(rows, read_clip, lambda i: f"clip {i}, {table.place(i)}")


def _points(row: Sequence[str], columns: list[str], limits: Limits) -> Float64Array:
    """Return the points (T, points, 2) of a row's lists, with y pointing down."""
    tracks: list[list[float | None]] = []
    for column, cell in zip(columns, row, strict=True):
        limits.check_frames(cell.count(",") + 1)
        try:
            track = _LIST.decode(cell)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise InputError(
                ErrorCode.WRONG_TYPE,
                "found a cell that is not a list of numbers, expected a list such as [0.51, 0.52]",
                f"column {column}",
            ) from error
        limits.check_frames(len(track))
        if len(track) != len(tracks[0] if tracks else track):
            raise InputError(
                ErrorCode.WRONG_FRAME_COUNT,
                f"found {len(track)} frames, expected {len(tracks[0])} as for {columns[0]}",
                f"column {column}",
            )
        tracks.append(track)
    numbers = np.array(tracks, dtype=np.float64)  # (2 * points, T)
    points = np.stack((numbers[0::2].T, 1 - numbers[1::2].T), axis=2)
    points[points[:, :, 0] == 0] = np.nan
    return points
