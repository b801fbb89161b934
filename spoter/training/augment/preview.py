"""A picture that compares clips: the same frames of each, one row a clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from spoter.drawing import GREY, PALE, PAPER, Canvas, draw_strokes, text_width
from spoter.landmarks.skeleton import COLOURS, skeleton_strokes

if TYPE_CHECKING:
    from PIL import Image

_SIDE = 115  # pixels of a picture's side
_CELL = 1.3  # from one frame's left edge to the next one's, in widths of a picture
_ABOVE, _BELOW = 0.15, 0.6  # margins in heights of a picture: estimators place lowered hands below it
_CAPTION, _HEAD = 190, 75
_IN_GREY = dict.fromkeys(COLOURS, PALE)


def draw_strip(
    points: np.ndarray, names: tuple[str, ...], frames: Sequence[int], behind: np.ndarray | None = None
) -> Canvas:
    """Draw frames of a clip side by side, over those of another clip in light grey.

    Points (T, N, 2) are in image units, y down; NaN = missing. `frames` may lie beyond the clip's end. A hand that is
    missing as a whole is a ring at the pose's wrist, in the hand's colour. A frame without any point says "nobody"; one
    beyond the clip's end is an empty box that says "ended".
    """
    canvas = Canvas(round(_SIDE * _CELL * len(frames)), round(_SIDE * (1 + _ABOVE + _BELOW)))
    for cell, frame in enumerate(frames):
        ended = frame >= len(points)
        left, top = _SIDE * (_CELL * cell + 0.15), _SIDE * _ABOVE
        centre = left + _SIDE / 2, top + _SIDE / 2
        canvas.box((left, top), (left + _SIDE, top + _SIDE), fill=None if ended else PAPER)
        if ended:
            canvas.text(centre, "ended", 10, GREY, "mm")
            continue
        for shown, colours in ((behind, _IN_GREY), (points, COLOURS)):
            if shown is not None:
                draw_strokes(canvas, skeleton_strokes(shown[frame], names), (left, top), (_SIDE, _SIDE), colours)
        if np.isnan(points[frame]).all():
            canvas.text(centre, "nobody", 10, GREY, "mm")
    return canvas


def draw_rows(
    rows: Mapping[str, np.ndarray], names: tuple[str, ...], frames: Sequence[int], title: str, behind: str
) -> Image.Image:
    """Draw the strips of clips (T, N, 2) one below the other.

    `rows` has their points by caption, which may have several lines. The row of the caption `behind` is drawn in grey
    behind all others of the same length.
    """
    height = _SIDE * (1 + _ABOVE + _BELOW)
    canvas = Canvas(round(_CAPTION + _SIDE * _CELL * len(frames)), round(_HEAD + height * len(rows)))
    canvas.text((10, 10), title, 14)
    _draw_legend(canvas, canvas.width - 10, 18)
    for number, (caption, points) in enumerate(rows.items()):
        top = _HEAD + height * number
        compared = rows[behind] if caption != behind and len(rows[behind]) == len(points) else None
        canvas.paste(draw_strip(points, names, frames, compared), (_CAPTION, round(top)))
        canvas.text((10, top + height / 2), caption, 12, anchor="lm")
    for cell, frame in enumerate(frames):
        canvas.text((_CAPTION + _SIDE * (_CELL * cell + 0.65), _HEAD + 14), f"frame {frame}", 10, anchor="mb")
    return canvas.image()


def _draw_legend(canvas: Canvas, right: float, middle: float) -> None:
    """Draw the legend of the colours, from `right` to the left."""
    for part, colour in [("hand missing", "black"), *reversed(COLOURS.items())]:
        right -= text_width(part, 11)
        canvas.text((right, middle), part, 11, anchor="lm")
        if part in COLOURS:
            canvas.line([(right - 24, middle), (right - 6, middle)], colour, 2.5)
        else:
            canvas.ring(np.array((right - 13, middle)), 4, colour)
        right -= 40
