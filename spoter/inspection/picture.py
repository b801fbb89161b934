"""Pictures of a clip to look at: each frame as it was sent, and beside it as SPOTER is fed it.

A frame's panel has the picture on its left, with what lies outside of it, and on its right the box of the body (and
face) and below it the boxes of the two hands, each in the units of SPOTER's input: -0.5 to 0.5 from edge to edge.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from spoter.drawing import GREY, INK, PAPER, Canvas, draw, paletted, png, text_width
from spoter.inspection.reader import Shown
from spoter.landmarks.skeleton import COLOURS, find_columns, skeleton_strokes

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (".png", ".gif")
MOST_GIF_FRAMES = 250
"""Of a longer clip every second frame, every third and so on is in the GIF."""

_USUAL_FPS = 25.0  # where a clip does not say
_FASTEST = 50.0  # frames per second that browsers show; two hundredths of a second are a GIF's shortest
_PANELS = 4  # side by side in a strip
_SHORT = 14  # pixels between lines of text

Title = Sequence[str]


class _Panel:
    """How one frame of a clip is drawn; `side` is the width of the picture's half, in pixels."""

    def __init__(self, shown: Shown, side: int, scheme: str, aspect: float):
        self.shown, self.side, self.scheme = shown, side, scheme
        self.hand = (side - 6) // 2
        self.width, self.height = 2 * side + 6, side + self.hand + 2 * _SHORT + 6
        # two thirds of the panel's height are the picture's; estimators guess lowered hands below it
        unit = min(side / 1.25, 0.6 * (self.height - 40) / aspect)
        self.unit = np.array([unit, unit * aspect])
        self.origin = np.array([(side - unit) / 2, 2 * _SHORT + 0.12 * self.unit[1] + 6])

    def draw(self, frame: int) -> Canvas:
        canvas = Canvas(self.width, self.height)
        canvas.box((0, 0), (self.width - 1, self.height - 1), edge="#e4e4e4")
        missing = self._said(frame)
        fps = self.shown.clip.fps
        canvas.text((5, 3), f"frame {frame}" + (f", {frame / fps:.2f} s" if fps else ""), 11)
        canvas.text((self.width - 6, 3), missing, 11, INK, "ra")
        canvas.text((5, 4 + _SHORT), "as sent", 9.5, GREY)
        canvas.text((self.side + 8, 4 + _SHORT), "as SPOTER is fed it", 9.5, GREY)
        canvas.paste(self._sent(frame), (1, 2 * _SHORT + 6))
        left, top = self.side + 4, 2 * _SHORT + 6
        if self.shown.fed is None:
            canvas.box((left, top), (self.width - 2, self.height - 4))
            middle = (left + self.side / 2 - 4, self.height / 2)
            canvas.text(middle, "cannot be normalised", 11, GREY, "mm")
            return canvas
        its_box = "" if self.scheme == "none" else ", its box"
        canvas.paste(self._fed(frame, "body", self.side - 8, f"body{its_box}"), (left, top))
        for i, part in enumerate(("right hand", "left hand")):  # as they are seen: the signer's right is on the left
            place = (left + i * (self.hand + 2), top + self.side - 6)
            canvas.paste(self._fed(frame, part, self.hand - 2, f"{part}{its_box}"), place)
        return canvas

    def _said(self, frame: int) -> str:
        """Say what is missing in a frame."""
        known = ~np.isnan(self.shown.points[frame, :, 0])
        names = self.shown.layout.names
        if not known.any():
            return "nobody"
        parts = {part: known[find_columns(names, part)] for part in COLOURS}
        said = [f"no {part}" for part, there in parts.items() if there.size and not there.any()]
        single = sum(int((~there).sum()) for there in parts.values() if there.any())
        return ", ".join(said + [f"{single} point{'s' * (single > 1)} missing"] * (single > 0))

    def _sent(self, frame: int) -> Canvas:
        canvas = Canvas(self.side, self.height - 2 * _SHORT - 8)
        origin = self.origin - (0, 2 * _SHORT + 2)
        canvas.box(origin, origin + self.unit, PAPER)
        points, names = self.shown.points, self.shown.layout.names
        if np.isnan(points[frame]).all():
            canvas.text(origin + self.unit / 2, "nobody", 12, GREY, "mm")
            return canvas
        draw(canvas, skeleton_strokes(points[frame], names), origin, self.unit, dot=1.4)
        for part, place in _last_seen(points, frame, names):
            canvas.cross(origin + place * self.unit, 3, COLOURS[part])
        return canvas

    def _fed(self, frame: int, part: str, side: int, caption: str) -> Canvas:
        """Draw a part where SPOTER's input has it; what is missing lies where missing points are fed."""
        canvas = Canvas(side, side)
        unit, middle = side / (1.5 if part == "body" else 1.3), side / 2 + 4
        canvas.box((middle - unit / 2,) * 2, (middle + unit / 2,) * 2, PAPER)
        names = self.shown.layout.names
        own = find_columns(names, part)
        fed = self.shown.fed[frame].astype(float)
        if self.scheme == "bohacek":
            fed = fed * (1, -1)  # y points up there
        there = np.full(len(names), False)
        there[own] = ~np.isnan(self.shown.points[frame, own, 0])
        alone = np.where(there[:, None], fed, np.nan)
        draw(
            canvas,
            skeleton_strokes(alone, names),
            (middle, middle),
            (unit, unit),
            parts=(part,),
            dot=1.4 if part == "body" else 1.2,
        )
        lacking = own[~there[own]]
        nothing = len(own) > 0 and len(lacking) == len(own)
        canvas.text((3, 2), f"{part} missing" if nothing else caption, 9, INK if nothing else GREY)
        if len(lacking):
            place = np.clip(middle + fed[lacking[0]] * unit, 6, side - 7)
            mark = canvas.ring if nothing and part != "body" else canvas.cross
            mark(place, 4, COLOURS[part])
        if len(lacking) and not nothing:
            canvas.text((side - 4, 2), f"{len(lacking)} missing", 9, INK, "ra")
        return canvas


def strip(shown: Shown, title: Title, frames: Sequence[int], scheme: str, aspect: float = 1.0) -> bytes:
    """Draw some frames of a clip and what is there in all of them.

    Parameters
    ----------
    shown : Shown
    title : sequence of str
        Lines to write above.
    frames : sequence of int
        Which frames to show.
    scheme : str
        Of the normalisation.
    aspect : float
        Height of the picture by its width.

    Returns
    -------
    bytes
        A PNG file.
    """
    panel = _Panel(shown, 165, scheme, aspect)
    columns = max(2, min(_PANELS, len(frames)))
    rows = -(-len(frames) // columns)
    width = columns * (panel.width + 10) + 10
    title = _wrapped(title, width - 20)
    head, foot = _SHORT * len(title) + 34, 68
    canvas = Canvas(width, head + rows * (panel.height + 10) + foot)
    _head(canvas, title)
    for i, frame in enumerate(frames):
        place = (10 + i % columns * (panel.width + 10), head + i // columns * (panel.height + 10))
        canvas.paste(panel.draw(frame), place)
    _timeline(canvas, shown, canvas.height - foot + 8, frames)
    return png(canvas.image())


def animation(
    shown: Shown,
    title: Title,
    scheme: str,
    aspect: float = 1.0,
    progress: Callable[[Sequence[int]], Sequence[int]] = lambda frames: frames,
) -> bytes:
    """Draw a clip as a GIF that moves as fast as the clip and begins anew at its end; otherwise as `strip`.

    Parameters
    ----------
    progress : callable
        Is given the numbers of the frames to draw, and hands them on.
    """
    panel = _Panel(shown, 240, scheme, aspect)
    count, fps = len(shown.points), shown.clip.fps or _USUAL_FPS
    step = max(-(-count // MOST_GIF_FRAMES), int(np.ceil(fps / _FASTEST)))
    frames = range(0, count, step)
    title = _wrapped(title, panel.width)
    head, foot = _SHORT * len(title) + 34, 68
    pictures: list[Image.Image] = []
    for frame in progress(frames):
        canvas = Canvas(panel.width + 20, head + panel.height + foot)
        _head(canvas, title)
        canvas.paste(panel.draw(frame), (10, head))
        _timeline(canvas, shown, canvas.height - foot + 8, (frame,))
        pictures.append(paletted(canvas.image()))
    ends = np.round(100 * step / fps * np.arange(1, len(frames) + 1)) * 10  # hundredths, that none are lost
    content = io.BytesIO()
    pictures[0].save(
        content,
        format="gif",
        save_all=True,
        append_images=pictures[1:],
        duration=np.diff(ends, prepend=0).astype(int).tolist(),
        loop=0,
    )
    return content.getvalue()


def _wrapped(title: Title, width: float) -> list[str]:
    """Break lines that are too long."""
    lines: list[str] = []
    for text in title:
        line = ""
        for word in text.split():
            if line and text_width(f"{line} {word}", 12) > width:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}".strip()
        lines.append(line)
    return lines


def _head(canvas: Canvas, title: Title) -> None:
    """Write the title, and which stroke is what."""
    for i, line in enumerate(title):
        canvas.text((10, 8 + i * _SHORT), line, 12 if i == 0 else 11, INK if i == 0 else GREY)
    x, y = 10.0, 8 + len(title) * _SHORT + 10
    for part, colour in COLOURS.items():
        canvas.line([(x, y), (x + 16, y)], colour, 2.5)
        x = _legend(canvas, x + 20, y, part)
    canvas.ring((x + 5, y), 4, GREY)
    x = _legend(canvas, x + 14, y, "hand missing")
    canvas.cross((x + 5, y), 3, GREY)
    _legend(canvas, x + 14, y, "point missing")


def _legend(canvas: Canvas, x: float, y: float, word: str) -> float:
    canvas.text((x, y), word, 11, anchor="lm")
    return x + text_width(word, 11) + 16


def _timeline(canvas: Canvas, shown: Shown, top: int, marked: Sequence[int]) -> None:
    """Draw, for all frames, which parts are there, and mark those that are shown."""
    names, count = shown.layout.names, len(shown.points)
    left, right = 80.0, canvas.width - 14.0
    wide = (right - left) / count
    for row, (part, colour) in enumerate(COLOURS.items()):
        y = top + row * 13
        canvas.text((10, y + 5), part, 10, anchor="lm")
        canvas.box((left, y), (right, y + 9))
        there = ~np.isnan(shown.points[:, find_columns(names, part), 0]).all(axis=1)
        edges = np.flatnonzero(np.diff(there.astype(int), prepend=0, append=0))
        for start, end in edges.reshape(-1, 2):
            canvas.box((left + start * wide, y), (left + end * wide, y + 9), colour, None)
    bottom = top + 3 * 13
    for frame in marked:
        x = left + (frame + 0.5) * wide
        canvas.line([(x, top - 3), (x, bottom)], "black", 1)
        canvas.text((x, bottom + 8), str(frame), 10, INK, "mm")
    canvas.text((10, bottom + 8), "found in frame", 10, GREY, "lm")


def _last_seen(points: np.ndarray, frame: int, names: tuple[str, ...]) -> list[tuple[str, np.ndarray]]:
    """Return part and place of each missing point of a part that is there: in the nearest frame that has it."""
    places = []
    for part in COLOURS:
        own = find_columns(names, part)
        absent = np.isnan(points[frame, own, 0])
        if absent.all():
            continue
        for column in own[absent]:
            seen = np.flatnonzero(~np.isnan(points[:, column, 0]))
            if len(seen):
                places.append((part, points[seen[np.argmin(np.abs(seen - frame))], column]))
    return places
