"""Pictures of a clip: each frame as it was sent, and SPOTER's input next to it.

The left half of a frame's panel shows the picture and the points outside it. The right half shows the box of body and
face, and below it the boxes of the two hands, in the units of SPOTER's input: -0.5 to 0.5 from edge to edge.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from spoter.drawing import GREY, INK, PAPER, Canvas, draw_strokes, encode_png, reduce_colours, text_width
from spoter.inspection.reader import InspectedClip
from spoter.landmarks.arrays import Float32Array
from spoter.landmarks.skeleton import COLOURS, find_columns, skeleton_strokes

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (".png", ".gif")
MAX_GIF_FRAMES = 250
"""For a longer clip, the GIF has every second frame, every third frame and so on."""

_USUAL_FPS = 25.0  # assumed for a clip without a frame rate
_MAX_FPS = 50.0  # the most that browsers show: the shortest delay in a GIF is 0.02 s
_COLUMNS = 4  # panels side by side in a strip
_LINE = 14  # pixels between lines of text
_FOOT = 68  # height of the timeline in pixels


class _Panel:
    """The drawing of one frame; `side` is the width of the left half, in pixels."""

    def __init__(self, clip: InspectedClip, side: int, scheme: str, aspect: float):
        self.clip, self.side, self.scheme = clip, side, scheme
        self.names = clip.layout.names
        self.hand = (side - 6) // 2
        self.width, self.height = 2 * side + 6, side + self.hand + 2 * _LINE + 6
        # the picture takes two thirds of the height; estimators place lowered hands below it
        unit = min(side / 1.25, 0.6 * (self.height - 40) / aspect)
        self.unit = np.array([unit, unit * aspect])
        self.origin = np.array([(side - unit) / 2, 2 * _LINE + 0.12 * self.unit[1] + 6])

    def draw(self, frame: int) -> Canvas:
        canvas = Canvas(self.width, self.height)
        canvas.box((0, 0), (self.width - 1, self.height - 1), edge="#e4e4e4")
        fps = self.clip.clip.fps
        canvas.text((5, 3), f"frame {frame}" + (f", {frame / fps:.2f} s" if fps else ""), 11)
        canvas.text((self.width - 6, 3), self.describe_missing(frame), 11, INK, "ra")
        canvas.text((5, 4 + _LINE), "as sent", 9.5, GREY)
        canvas.text((self.side + 8, 4 + _LINE), "SPOTER's input", 9.5, GREY)
        canvas.paste(self.draw_sent(frame), (1, 2 * _LINE + 6))
        left, top = self.side + 4, 2 * _LINE + 6
        if self.clip.normalized is None:
            canvas.box((left, top), (self.width - 2, self.height - 4))
            middle = (left + self.side / 2 - 4, self.height / 2)
            canvas.text(middle, "cannot be normalized", 11, GREY, "mm")
            return canvas
        points, suffix = self.clip.normalized[frame], "" if self.scheme == "none" else " in its box"
        canvas.paste(self.draw_normalized(points, frame, "body", self.side - 8, f"body{suffix}"), (left, top))
        for i, part in enumerate(("right hand", "left hand")):  # the picture shows the right hand on the left
            place = (left + i * (self.hand + 2), top + self.side - 6)
            canvas.paste(self.draw_normalized(points, frame, part, self.hand - 2, f"{part}{suffix}"), place)
        return canvas

    def describe_missing(self, frame: int) -> str:
        known = ~np.isnan(self.clip.points[frame, :, 0])
        if not known.any():
            return "no person"
        parts = {part: known[find_columns(self.names, part)] for part in COLOURS}
        missing_parts = [f"no {part}" for part, flags in parts.items() if flags.size and not flags.any()]
        single = sum(int((~flags).sum()) for flags in parts.values() if flags.any())
        return ", ".join(missing_parts + [f"{single} point{'s' * (single > 1)} missing"] * (single > 0))

    def draw_sent(self, frame: int) -> Canvas:
        canvas = Canvas(self.side, self.height - 2 * _LINE - 8)
        origin = self.origin - (0, 2 * _LINE + 2)
        canvas.box(origin, origin + self.unit, PAPER)
        points = self.clip.points
        if np.isnan(points[frame]).all():
            canvas.text(origin + self.unit / 2, "no person", 12, GREY, "mm")
            return canvas
        draw_strokes(canvas, skeleton_strokes(points[frame], self.names), origin, self.unit, dot=1.4)
        for part, place in find_last_places(points, frame, self.names):
            canvas.cross(origin + place * self.unit, 3, COLOURS[part])
        return canvas

    def draw_normalized(self, points: Float32Array, frame: int, part: str, side: int, caption: str) -> Canvas:
        """Draw one part of SPOTER's input `points`; a mark shows where the input puts missing points."""
        canvas = Canvas(side, side)
        unit, middle = side / (1.5 if part == "body" else 1.3), side / 2 + 4
        canvas.box((middle - unit / 2,) * 2, (middle + unit / 2,) * 2, PAPER)
        if self.scheme == "bohacek":
            points = points * np.array([1, -1], dtype=np.float32)  # y points up in this scheme
        columns = find_columns(self.names, part)
        is_known = ~np.isnan(self.clip.points[frame, columns, 0])
        known, missing = columns[is_known], columns[~is_known]
        drawn = np.full_like(points, np.nan)
        drawn[known] = points[known]
        strokes, dot = skeleton_strokes(drawn, self.names), 1.4 if part == "body" else 1.2
        draw_strokes(canvas, strokes, (middle, middle), (unit, unit), parts=(part,), dot=dot)
        is_absent = len(known) == 0 < len(missing)
        canvas.text((3, 2), f"{part} missing" if is_absent else caption, 9, INK if is_absent else GREY)
        if len(missing):
            place = np.clip(middle + points[missing[0]] * unit, 6, side - 7)
            mark = canvas.ring if is_absent and part != "body" else canvas.cross
            mark(place, 4, COLOURS[part])
        if len(missing) and not is_absent:
            canvas.text((side - 4, 2), f"{len(missing)} missing", 9, INK, "ra")
        return canvas


def draw_strip(
    clip: InspectedClip, title: Sequence[str], frames: Sequence[int], scheme: str, aspect: float = 1.0
) -> bytes:
    """Return a PNG file of some frames of a clip, with lines of text above and a timeline of all frames below.

    `scheme` is the normalization scheme; `aspect` is the picture's height divided by its width.
    """
    panel = _Panel(clip, 165, scheme, aspect)
    columns = max(2, min(_COLUMNS, len(frames)))
    rows = -(-len(frames) // columns)
    canvas, head = _titled_canvas(title, columns * (panel.width + 10) + 10, rows * (panel.height + 10))
    for i, frame in enumerate(frames):
        place = (10 + i % columns * (panel.width + 10), head + i // columns * (panel.height + 10))
        canvas.paste(panel.draw(frame), place)
    _draw_timeline(canvas, clip, frames)
    return encode_png(canvas.image())


def draw_animation(
    clip: InspectedClip,
    title: Sequence[str],
    scheme: str,
    aspect: float = 1.0,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda frames: frames,
) -> bytes:
    """Return a looping GIF at the clip's speed; `progress` receives the frame numbers and yields them."""
    panel = _Panel(clip, 240, scheme, aspect)
    count, fps = len(clip.points), clip.clip.fps or _USUAL_FPS
    step = max(-(-count // MAX_GIF_FRAMES), int(np.ceil(fps / _MAX_FPS)))
    frames = range(0, count, step)
    pictures: list[Image.Image] = []
    for frame in progress(frames):
        canvas, head = _titled_canvas(title, panel.width + 20, panel.height)
        canvas.paste(panel.draw(frame), (10, head))
        _draw_timeline(canvas, clip, (frame,))
        pictures.append(reduce_colours(canvas.image()))
    ends = np.round(100 * step / fps * np.arange(1, len(frames) + 1)) * 10  # round sums, so that the total is exact
    content = io.BytesIO()
    durations = np.diff(ends, prepend=0).astype(int).tolist()
    pictures[0].save(content, "gif", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    return content.getvalue()


def _titled_canvas(title: Sequence[str], width: int, height: int) -> tuple[Canvas, int]:
    """Return a canvas with title, legend, `height` free pixels and room for a timeline; and the y of the free part."""
    lines = _wrap_lines(title, width - 20)
    head = _LINE * len(lines) + 34
    canvas = Canvas(width, head + height + _FOOT)
    for i, line in enumerate(lines):
        canvas.text((10, 8 + i * _LINE), line, 12 if i == 0 else 11, INK if i == 0 else GREY)
    x, y = 10.0, 8 + len(lines) * _LINE + 10
    for part, colour in COLOURS.items():
        canvas.line([(x, y), (x + 16, y)], colour, 2.5)
        x = _draw_label(canvas, x + 20, y, part)
    canvas.ring((x + 5, y), 4, GREY)
    x = _draw_label(canvas, x + 14, y, "hand missing")
    canvas.cross((x + 5, y), 3, GREY)
    _draw_label(canvas, x + 14, y, "point missing")
    return canvas, head


def _wrap_lines(title: Sequence[str], width: float) -> list[str]:
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


def _draw_label(canvas: Canvas, x: float, y: float, text: str) -> float:
    """Write a label of the legend; return the x of the next entry."""
    canvas.text((x, y), text, 11, anchor="lm")
    return x + text_width(text, 11) + 16


def _draw_timeline(canvas: Canvas, clip: InspectedClip, marked: Sequence[int]) -> None:
    """Draw a bar per part at the bottom of the canvas: the frames that have the part. Mark the frames in `marked`."""
    names, count, top = clip.layout.names, len(clip.points), canvas.height - _FOOT + 8
    left, right = 80.0, canvas.width - 14.0
    width = (right - left) / count
    for row, (part, colour) in enumerate(COLOURS.items()):
        y = top + row * 13
        canvas.text((10, y + 5), part, 10, anchor="lm")
        canvas.box((left, y), (right, y + 9))
        has_part = ~np.isnan(clip.points[:, find_columns(names, part), 0]).all(axis=1)
        edges = np.flatnonzero(np.diff(has_part.astype(int), prepend=0, append=0))
        for start, end in edges.reshape(-1, 2):
            canvas.box((left + start * width, y), (left + end * width, y + 9), colour, None)
    bottom = top + 3 * 13
    for frame in marked:
        x = left + (frame + 0.5) * width
        canvas.line([(x, top - 3), (x, bottom)], "black", 1)
        canvas.text((x, bottom + 8), str(frame), 10, INK, "mm")
    canvas.text((10, bottom + 8), "found in frame", 10, GREY, "lm")


def find_last_places(points: Float32Array, frame: int, names: tuple[str, ...]) -> list[tuple[str, Float32Array]]:
    """Return the part of each single missing point, and its place in the nearest frame that has it."""
    places = []
    for part in COLOURS:
        columns = find_columns(names, part)
        missing = np.isnan(points[frame, columns, 0])
        if missing.all():
            continue
        for column in columns[missing]:
            known = np.flatnonzero(~np.isnan(points[:, column, 0]))
            if len(known):
                places.append((part, points[known[np.argmin(np.abs(known - frame))], column]))
    return places
