"""Drawing with Pillow: lines, dots and text, and PNG files of few colours."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from spoter.landmarks.skeleton import CHAINS, COLOURS, Strokes

if TYPE_CHECKING:
    from PIL import Image, ImageFont

GREY, PALE, INK, PAPER = "#767676", "#d0d0d0", "#222222", "#f6f6f6"

_FINER = 3  # Pictures are drawn this many times larger on each side, then shrunk, so that lines are smooth.


class Canvas:
    """A picture that is drawn larger and shrunk at the end, so that lines are smooth; all lengths are in its pixels."""

    def __init__(self, width: int, height: int, colour: str = "white"):
        from PIL import Image, ImageDraw

        self.width, self.height = width, height
        self._picture = Image.new("RGB", (width * _FINER, height * _FINER), colour)
        self._draw = ImageDraw.Draw(self._picture)

    def line(self, points: Sequence | np.ndarray, colour: str, width: float = 1.0) -> None:
        """Draw a line through points (n, 2)."""
        places = [tuple(place) for place in (np.asarray(points, dtype=float) * _FINER).tolist()]
        self._draw.line(places, fill=colour, width=max(1, round(width * _FINER)), joint="curve")

    def dot(self, place: np.ndarray, radius: float, colour: str) -> None:
        """Draw a filled circle."""
        self._draw.circle(self._finer(place), radius * _FINER, fill=colour)

    def ring(self, place: np.ndarray, radius: float, colour: str) -> None:
        """Draw a circle that hides what is behind it."""
        width = max(1, round(1.3 * _FINER))
        self._draw.circle(self._finer(place), radius * _FINER, fill="white", outline=colour, width=width)

    def cross(self, place: np.ndarray, radius: float, colour: str) -> None:
        """Draw an oblique cross."""
        for way in ((1, 1), (1, -1)):
            arm = radius * np.array(way)
            self.line([np.asarray(place) - arm, np.asarray(place) + arm], colour, 1.2)

    def box(
        self, start: Sequence[float], end: Sequence[float], fill: str | None = None, edge: str | None = PALE
    ) -> None:
        """Draw a rectangle."""
        corners = [*self._finer(start), *self._finer(end)]
        self._draw.rectangle(corners, fill=fill, outline=edge, width=_FINER)

    def text(self, place: Sequence[float], text: str, size: float = 11, colour: str = INK, anchor: str = "la") -> None:
        """Write text; `anchor` is Pillow's: "la" has `place` at its upper left, "mm" in its middle."""
        self._draw.text(self._finer(place), text, fill=colour, font=_font(round(size * _FINER)), anchor=anchor)

    def paste(self, other: Canvas, place: tuple[int, int]) -> None:
        """Put another canvas at `place`, its upper left corner."""
        self._picture.paste(other._picture, (place[0] * _FINER, place[1] * _FINER))

    def image(self) -> Image.Image:
        """Return the picture in its own size."""
        return self._picture.reduce(_FINER)

    def _finer(self, place: Sequence[float] | np.ndarray) -> tuple[float, float]:
        return float(place[0]) * _FINER, float(place[1]) * _FINER


def text_width(text: str, size: float) -> float:
    """Return how wide a `Canvas` writes `text`."""
    return _font(round(size * _FINER)).getlength(text) / _FINER


def draw(
    canvas: Canvas,
    drawn: Strokes,
    origin: Sequence[float],
    unit: Sequence[float],
    colours: Mapping[str, str] = COLOURS,
    parts: Sequence[str] = tuple(CHAINS),
    dot: float = 0.0,
) -> None:
    """Draw strokes where they are: a point p lies at ``origin + p * unit``.

    Parameters
    ----------
    canvas : Canvas
    drawn : Strokes
    origin, unit : sequence of float, length 2
        In the canvas's pixels.
    colours : mapping of str to str
        Of each part.
    parts : sequence of str
        Those to draw.
    dot : float
        Radius of the dot on each point; none at 0.
    """
    origin, unit = np.asarray(origin, dtype=float), np.asarray(unit, dtype=float)
    for part in parts:
        for line in drawn.lines[part]:
            canvas.line(origin + line * unit, colours[part], 1.5 if part == "body" else 1.2)
        for place in drawn.dots[part] if dot else ():
            canvas.dot(origin + place * unit, dot, colours[part])
        for place in drawn.rings[part]:
            canvas.ring(origin + place * unit, 4, colours[part])


def paletted(image: Image.Image) -> Image.Image:
    """Return an image in the colours that are drawn with and their way to white: small files, and no flicker."""
    return image.quantize(palette=_palette(), dither=0)


def png(image: Image.Image) -> bytes:
    """Return an image as a PNG file."""
    content = io.BytesIO()
    paletted(image).save(content, format="png", optimize=True)
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
def _font(size: int) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)
