"""Pictures of the augmentation: one row per transform, with the same frames of the clip in each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from spoter.drawing import GREY, PALE, PAPER, Canvas, draw_strokes, text_width
from spoter.errors import DataError, InputError
from spoter.landmarks.layouts import Layout
from spoter.landmarks.skeleton import COLOURS, skeleton_strokes
from spoter.training.augment.augmentation import Augmentation, Augmenter, OriginalAugmentation
from spoter.training.data import DataSet

if TYPE_CHECKING:
    from PIL import Image

_SIDE = 115  # width and height of a frame's picture, in pixels
_CELL = 1.3  # distance between the left edges of two frames, in picture widths
_ABOVE, _BELOW = 0.15, 0.6  # margins in picture heights: estimators place lowered hands below the picture
_CAPTION, _HEAD = 190, 75
_IN_GREY = dict.fromkeys(COLOURS, PALE)

NO_CHANGE = Augmentation(**dict.fromkeys(vars(Augmentation()), 0.0) | {"slowest": 1.0, "fastest": 1.0})
_USUAL = Augmentation()


def _only(**strength: float) -> Augmentation:
    return replace(NO_CHANGE, **strength)


EXAMPLES: dict[str, Augmentation | OriginalAugmentation] = {
    f"both ends cut,\nup to {_USUAL.crop:.0%} each": _only(crop=_USUAL.crop),
    f"faster, down to\n{_USUAL.fastest:g} x the frames": _only(fastest=_USUAL.fastest),
    f"slower, up to\n{_USUAL.slowest:g} x the frames": _only(slowest=_USUAL.slowest),
    f"stretched to any length\n({_USUAL.long:.0%} of clips)": _only(long=1.0),
    f"frames dropped,\nup to {_USUAL.drop_frames:.0%}": _only(drop_frames=_USUAL.drop_frames),
    f"rotated, up to {_USUAL.rotation:g}°": _only(rotation=_USUAL.rotation),
    f"zoomed, up to\n{1 + _USUAL.scale:g} x or 1/{1 + _USUAL.scale:g}": _only(scale=_USUAL.scale),
    f"shifted, up to {_USUAL.shift:.0%}": _only(shift=_USUAL.shift),
    f"squeezed, up to {_USUAL.squeeze:.0%}": _only(squeeze=_USUAL.squeeze),
    f"perspective, up to {_USUAL.perspective:.0%}": _only(perspective=_USUAL.perspective),
    f"arm joints rotated,\nup to {_USUAL.joints:g}° each\n(each joint: {_USUAL.joint_share:.0%})": _only(
        joints=_USUAL.joints, joint_share=_USUAL.joint_share
    ),
    f"noise, {_USUAL.noise:.1%}": _only(noise=_USUAL.noise),
    f"a hand missing in an interval\n({_USUAL.drop_hand:.0%} of clips each)": _only(drop_hand=1.0),
    "mirrored, left and right\nexchanged (off by default)": _only(mirror=1.0),
    "all transforms of training": _USUAL,
    "the original recipe,\none of four changes": OriginalAugmentation(share=1.0),
}
"""Captions and augmentations; transforms that training applies to some clips are always applied here."""


def strongest_draw(
    augmenter: Augmenter, points: np.ndarray, layout: Layout, max_frames: int, seed: int, draws: int = 16
) -> np.ndarray:
    """Augment the points (T, K, 2) of a clip `draws` times, and return the result (T', K, 2) that differs most."""
    rng = np.random.default_rng(seed)
    drawn = [augmenter.apply(points, layout, max_frames, rng) for _ in range(draws)]
    return max(drawn, key=lambda augmented: mean_distance(points, augmented))


def mean_distance(points: np.ndarray, augmented: np.ndarray) -> float:
    """Return the mean distance between points of the same frames; a point that only one clip has counts as 1."""
    shared = min(len(points), len(augmented))
    distance = np.linalg.norm(points[:shared] - augmented[:shared], axis=2)
    distance[np.isnan(points[:shared, :, 0]) & np.isnan(augmented[:shared, :, 0])] = 0
    lacking = abs(len(points) - len(augmented)) * points.shape[1]
    return float((np.nan_to_num(distance, nan=1.0).clip(max=1).sum() + lacking) / points[..., 0].size)


def choose_clip(data: DataSet, name: str, layout: Layout) -> tuple[str, np.ndarray]:
    """Return name and points of the clip `name`; if empty, of the first clip with both hands, or else the first."""
    first = None
    for clip in data.clips:
        if name not in ("", clip.name):
            continue
        try:
            points = layout.select(clip.clip)
        except InputError as error:
            raise DataError(f"{data.place}, {clip.name}: {error}") from None
        if name or all((~np.isnan(points[:, layout.section(hand)])).any() for hand in ("leftHand", "rightHand")):
            return clip.name, points
        first = first or (clip.name, points)
    if first is None:
        raise DataError(f"{data.place}: found no clip named {name!r}, expected a name such as {data.clips[0].name!r}")
    return first


def draw_strip(
    points: np.ndarray, names: tuple[str, ...], frames: Sequence[int], behind: np.ndarray | None = None
) -> Canvas:
    """Draw frames of a clip in one row, over the same frames of the clip `behind` in light gray.

    Points (T, N, 2) are in image units, y down; NaN = missing. `frames` may include numbers after the last frame, which
    become an empty box with the text "ended". A frame without any point has the text "no person". A missing hand is a
    ring at the wrist of the pose, in the color of the hand.
    """
    canvas = Canvas(round(_SIDE * _CELL * len(frames)), round(_SIDE * (1 + _ABOVE + _BELOW)))
    for cell, frame in enumerate(frames):
        ended = frame >= len(points)
        left, top = _SIDE * (_CELL * cell + 0.15), _SIDE * _ABOVE
        center = left + _SIDE / 2, top + _SIDE / 2
        canvas.box((left, top), (left + _SIDE, top + _SIDE), fill=None if ended else PAPER)
        if ended:
            canvas.text(center, "ended", 10, GREY, "mm")
            continue
        for shown, colors in ((behind, _IN_GREY), (points, COLOURS)):
            if shown is not None:
                draw_strokes(canvas, skeleton_strokes(shown[frame], names), (left, top), (_SIDE, _SIDE), colors)
        if np.isnan(points[frame]).all():
            canvas.text(center, "no person", 10, GREY, "mm")
    return canvas


def draw_rows(
    rows: Mapping[str, np.ndarray], names: tuple[str, ...], frames: Sequence[int], title: str, behind: str
) -> Image.Image:
    """Draw clips (T, N, 2) as rows of frames, one below the other.

    `rows` maps captions, which may have several lines, to points. The clip with the caption `behind` is also drawn in
    gray behind all others of the same length.
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
    """Draw the legend of the colors, ending at `right`."""
    for part, color in [("hand missing", "black"), *reversed(COLOURS.items())]:
        right -= text_width(part, 11)
        canvas.text((right, middle), part, 11, anchor="lm")
        if part in COLOURS:
            canvas.line([(right - 24, middle), (right - 6, middle)], color, 2.5)
        else:
            canvas.ring(np.array((right - 13, middle)), 4, color)
        right -= 40
