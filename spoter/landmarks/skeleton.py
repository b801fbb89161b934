"""The skeleton of a clip in strokes, and a canvas to draw them on: what every picture of landmarks is made of.

Which points are joined is said by names, so that an estimator's array and any layout are drawn alike: of a limb, those
points that the clip has. Joints follow MediaPipe's hand and pose topology.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from spoter.landmarks.estimators import NECK

if TYPE_CHECKING:
    from PIL import Image, ImageFont

COLOURS = {"body": "#555555", "left hand": "#0072b2", "right hand": "#d55e00"}
"""Blue and vermilion can be told apart by colour-blind people: Okabe and Ito, "Color Universal Design", 2008."""

GREY, PALE, INK, PAPER = "#767676", "#d0d0d0", "#222222", "#f6f6f6"

_FINGERS = ("index_finger", "middle_finger", "ring_finger", "pinky")
_FINER = 3  # times as many pixels are drawn on each side as are kept


def _body() -> list[tuple[str, ...]]:
    """Chains of points of body and face that are joined one to the next."""
    pose = [
        [f"pose_{point}" for point in chain.split()]
        for chain in (
            "right_ear right_eye nose left_eye left_ear",
            "right_shoulder left_shoulder left_hip right_hip right_shoulder",
            "left_shoulder left_elbow left_wrist",
            "right_shoulder right_elbow right_wrist",
        )
    ]
    half = [
        "eyebrow_outer eyebrow_middle eyebrow_inner",
        "eye_outer eye_inner",
        "jaw_up jaw_middle jaw_down",
        "mouth_corner mouth_up",
        "mouth_corner mouth_down",
    ]
    face = [[f"face_{side}_{point}" for point in chain.split()] for chain in half for side in ("left", "right")]
    closed = [
        [f"face_{side}_{point}" for side in ("left", "right")] for point in ("jaw_down", "mouth_up", "mouth_down")
    ]
    return [(NECK, "pose_nose"), *map(tuple, [*pose, *face, *closed])]


def _hand(side: str) -> list[tuple[str, ...]]:
    """Chains of a hand, each finger from the wrist to its tip; the wrist is the pose's where the hand has none."""
    root = (f"pose_{side}_wrist", f"{side}Hand_wrist")
    thumb = tuple(f"{side}Hand_thumb_{joint}" for joint in ("cmc", "mcp", "ip", "tip"))
    fingers = [tuple(f"{side}Hand_{finger}_{joint}" for joint in ("mcp", "pip", "dip", "tip")) for finger in _FINGERS]
    knuckles = tuple(f"{side}Hand_{finger}_mcp" for finger in _FINGERS)
    return [*(root + finger for finger in (thumb, *fingers)), knuckles]


CHAINS = {"body": _body(), "left hand": _hand("left"), "right hand": _hand("right")}
"""For each part, the chains of points that are joined one to the next."""


@lru_cache(maxsize=64)
def limbs(names: tuple[str, ...], part: str) -> np.ndarray:
    """Return the pairs of columns that are joined in `part`, a key of `CHAINS`: (pairs, 2)."""
    place = {name: column for column, name in enumerate(names)}
    pairs = set()
    for chain in CHAINS[part]:
        columns = [place[name] for name in chain if name in place]
        pairs.update(zip(columns, columns[1:], strict=False))
    return np.array(sorted(pairs), dtype=np.intp).reshape(-1, 2)


@lru_cache(maxsize=64)
def columns_of(names: tuple[str, ...], part: str) -> np.ndarray:
    """Return the columns of the points of `part`, a key of `CHAINS`."""
    hands = {"left hand": "leftHand_", "right hand": "rightHand_"}
    own = [
        column
        for column, name in enumerate(names)
        if (name.startswith(hands[part]) if part in hands else not name.startswith(tuple(hands.values())))
    ]
    return np.array(own, dtype=np.intp)


@dataclass(frozen=True)
class Strokes:
    """What is drawn of one frame's points, by part.

    Attributes
    ----------
    lines : dict of str to numpy.ndarray, shape (L, 2, 2)
        Limbs of which both ends are known.
    dots : dict of str to numpy.ndarray, shape (D, 2)
        Points that are known.
    rings : dict of str to numpy.ndarray, shape (R, 2)
        The pose's wrist of a hand that is missing as a whole; R is 0 or 1.
    """

    lines: dict[str, np.ndarray]
    dots: dict[str, np.ndarray]
    rings: dict[str, np.ndarray]


def strokes(points: np.ndarray, names: tuple[str, ...]) -> Strokes:
    """Return what is drawn of one frame's points (N, 2), NaN = missing."""
    lines, dots, rings = {}, {}, {}
    for part in CHAINS:
        ends = points[limbs(names, part)]
        lines[part] = ends[~np.isnan(ends).any(axis=(1, 2))]
        own = points[columns_of(names, part)]
        dots[part] = own[~np.isnan(own).any(axis=1)]
        wrist = f"pose_{part.split()[0]}_wrist"
        place = points[names.index(wrist)] if part != "body" and wrist in names else np.full(2, np.nan)
        rings[part] = place[None] if not len(dots[part]) and not np.isnan(place).any() else np.empty((0, 2))
    return Strokes(lines, dots, rings)


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
