"""Drawing with Pillow: lines, dots, text, and PNG files with few colors."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from spoter.landmarks.arrays import FloatArray
from spoter.landmarks.skeleton import CHAINS, COLOURS, Strokes

if TYPE_CHECKING:
    from PIL import Image, ImageFont

GREY, PALE, INK, PAPER = "#767676", "#d0d0d0", "#222222", "#f6f6f6"

Place: TypeAlias = Sequence[float] | FloatArray
"""x and y in pixels of a canvas."""

_SCALE = 3  # draw at three times the width and height, then shrink, so that lines are smooth


class Canvas:
    """A picture to draw on; all lengths are in pixels."""

    def __init__(self, width: int, height: int, colour: str = "white"):
        from PIL import Image, ImageDraw

        self.width, self.height = width, height
        self._picture = Image.new("RGB", (width * _SCALE, height * _SCALE), colour)
        self._draw = ImageDraw.Draw(self._picture)

    def line(self, places: Iterable[Place], colour: str, width: float = 1.0) -> None:
        """Draw a line through `places`."""
        scaled = [_scale(place) for place in places]
        self._draw.line(scaled, fill=colour, width=max(1, round(width * _SCALE)), joint="curve")

    def dot(self, place: Place, radius: float, colour: str) -> None:
        """Draw a filled circle."""
        self._draw.circle(_scale(place), radius * _SCALE, fill=colour)

    def ring(self, place: Place, radius: float, colour: str) -> None:
        """Draw a white circle with a colored outline."""
        width = max(1, round(1.3 * _SCALE))
        self._draw.circle(_scale(place), radius * _SCALE, fill="white", outline=colour, width=width)

    def cross(self, place: Place, radius: float, colour: str) -> None:
        """Draw a diagonal cross."""
        x, y = place
        for slope in (1, -1):
            arm = slope * radius
            self.line([(x - radius, y - arm), (x + radius, y + arm)], colour, 1.2)

    def box(self, start: Place, end: Place, fill: str | None = None, edge: str | None = PALE) -> None:
        """Draw a rectangle."""
        self._draw.rectangle([_scale(start), _scale(end)], fill=fill, outline=edge, width=_SCALE)

    def text(self, place: Place, text: str, size: float = 11, colour: str = INK, anchor: str = "la") -> None:
        """Write text; `anchor` is Pillow's: with "la", `place` is the upper left corner, with "mm" the center."""
        self._draw.text(_scale(place), text, fill=colour, font=_font(round(size * _SCALE)), anchor=anchor)

    def paste(self, other: Canvas, place: tuple[int, int]) -> None:
        """Paste another canvas with its upper left corner at `place`."""
        self._picture.paste(other._picture, (place[0] * _SCALE, place[1] * _SCALE))

    def image(self) -> Image.Image:
        """Return the picture at the size of the canvas."""
        return self._picture.reduce(_SCALE)


def _scale(place: Place) -> tuple[float, float]:
    return float(place[0]) * _SCALE, float(place[1]) * _SCALE


def text_width(text: str, size: float) -> float:
    """Return the width of `text` on a `Canvas`, in pixels."""
    return _font(round(size * _SCALE)).getlength(text) / _SCALE


def draw_strokes(
    canvas: Canvas,
    strokes: Strokes,
    origin: Place,
    unit: Place,
    colours: Mapping[str, str] = COLOURS,
    parts: Sequence[str] = tuple(CHAINS),
    dot: float = 0.0,
) -> None:
    """Draw the strokes of `parts`: point p at ``origin + p * unit``, with dots of radius `dot` (0: no dots)."""
    start, scale = np.asarray(origin, dtype=float), np.asarray(unit, dtype=float)
    for part in parts:
        for line in strokes.lines[part]:
            canvas.line(start + line * scale, colours[part], 1.5 if part == "body" else 1.2)
        for place in strokes.dots[part] if dot else ():
            canvas.dot(start + place * scale, dot, colours[part])
        for place in strokes.rings[part]:
            canvas.ring(start + place * scale, 4, colours[part])


def reduce_colours(image: Image.Image) -> Image.Image:
    """Reduce an image to shades of the drawing colors: files stay small, and animations do not flicker."""
    from PIL.Image import Dither

    return image.quantize(palette=_palette(), dither=Dither.NONE)


def encode_png(image: Image.Image) -> bytes:
    """Return an image as a PNG file."""
    content = io.BytesIO()
    reduce_colours(image).save(content, format="png", optimize=True)
    return content.getvalue()


@lru_cache(maxsize=1)
def _palette() -> Image.Image:
    from PIL import Image, ImageColor

    shades = np.linspace(0, 1, 16)[:, None]
    colours = [
        255 - shades * (255 - np.array(ImageColor.getrgb(colour))) for colour in (*COLOURS.values(), GREY, INK, "black")
    ]
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate(colours).round().astype(np.uint8).tobytes())
    return palette


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)
