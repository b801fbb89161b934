"""Clips that are to be compared, as a picture: the same frames of each in a row of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from spoter.drawing import GREY, PALE, PAPER, Canvas, draw, text_width
from spoter.landmarks.skeleton import COLOURS, skeleton_strokes

if TYPE_CHECKING:
    from PIL import Image

_SIDE = 115  # pixels of a picture's side
_CELL = 1.3  # from one frame's left edge to the next one's, in widths of a picture
_ABOVE, _BELOW = 0.15, 0.6  # what is shown beyond the picture: estimators guess lowered hands below it
_CAPTION, _HEAD = 190, 75
_IN_GREY = dict.fromkeys(COLOURS, PALE)


def draw_strip(
    points: np.ndarray, names: tuple[str, ...], frames: Sequence[int], behind: np.ndarray | None = None
) -> Canvas:
    """Draw frames of a clip side by side.

    A hand that is missing as a whole is a ring at the pose's wrist, in the hand's colour. A frame without any point
    says "nobody"; one beyond the clip's end is an empty box that says "ended".

    Parameters
    ----------
    points : numpy.ndarray, shape (T, N, 2)
        Image units, y down, NaN = missing.
    names : tuple of str, length N
    frames : sequence of int
        Which frames to show; they may lie beyond the clip's end.
    behind : numpy.ndarray, shape (T, N, 2), optional
        Points to draw in light grey behind the clip's, to compare.
    """
    canvas = Canvas(round(_SIDE * _CELL * len(frames)), round(_SIDE * (1 + _ABOVE + _BELOW)))
    for cell, frame in enumerate(frames):
        ended = frame >= len(points)
        place = np.array([_SIDE * (_CELL * cell + 0.15), _SIDE * _ABOVE])
        canvas.box(place, place + _SIDE, fill=None if ended else PAPER)
        if ended:
            canvas.text(place + _SIDE / 2, "ended", 10, GREY, "mm")
            continue
        for shown, colours in ((behind, _IN_GREY), (points, COLOURS)):
            if shown is not None:
                draw(canvas, skeleton_strokes(shown[frame], names), place, (_SIDE, _SIDE), colours)
        if np.isnan(points[frame]).all():
            canvas.text(place + _SIDE / 2, "nobody", 10, GREY, "mm")
    return canvas


def draw_rows(
    rows: Mapping[str, np.ndarray], names: tuple[str, ...], frames: Sequence[int], title: str, behind: str = ""
) -> Image.Image:
    """Draw one strip below the other, each with its caption.

    Parameters
    ----------
    rows : mapping of str to numpy.ndarray, shape (T, N, 2)
        Captions, which may have several lines, and points.
    names : tuple of str, length N
    frames : sequence of int
        Which frames to show of each.
    title : str
    behind : str, optional
        Caption of the row to draw in grey behind all others that are as long.

    Returns
    -------
    PIL.Image.Image
        `spoter.drawing.png` makes a file of it.
    """
    strip = _SIDE * (1 + _ABOVE + _BELOW)
    canvas = Canvas(round(_CAPTION + _SIDE * _CELL * len(frames)), round(_HEAD + strip * len(rows)))
    canvas.text((10, 10), title, 14)
    draw_legend(canvas, canvas.width - 10, 18)
    for number, (text, points) in enumerate(rows.items()):
        top = _HEAD + strip * number
        grey = rows.get(behind) if text != behind else None
        grey = grey if grey is not None and len(grey) == len(points) else None
        canvas.paste(draw_strip(points, names, frames, grey), (_CAPTION, round(top)))
        canvas.text((10, top + strip / 2), text, 12, anchor="lm")
    for cell, frame in enumerate(frames):
        place = (_CAPTION + _SIDE * (_CELL * cell + 0.65), _HEAD + 14)
        canvas.text(place, f"frame {frame}", 10, anchor="mb")
    return canvas.image()


def draw_legend(canvas: Canvas, right: float, middle: float) -> None:
    """Write which colour is what, from `right` to the left."""
    for part, colour in [("hand missing", "black"), *reversed(COLOURS.items())]:
        right -= text_width(part, 11)
        canvas.text((right, middle), part, 11, anchor="lm")
        if part in COLOURS:
            canvas.line([(right - 24, middle), (right - 6, middle)], colour, 2.5)
        else:
            canvas.ring((right - 13, middle), 4, colour)
        right -= 40
