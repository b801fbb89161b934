"""The conditions of the robustness table: changes as by another camera, a slower machine or another estimator.

Each condition turns a Clip into a Clip, in image units, before the Recognizer. Its random numbers depend only on the
seed and the name of the clip.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from spoter.landmarks.arrays import Float32Array, IndexArray
from spoter.landmarks.clip import Clip
from spoter.training.augment import transforms

MISSING_HANDS = 0.3
SHIFT = 0.15
TILT = 15.0
_WIDER = (4 / 3) / (16 / 9)

# Returns the changed points (T, P, 2) of a clip.
Change = Callable[[Clip, np.random.Generator], Float32Array]


@dataclass(frozen=True)
class Condition:
    """One condition, a row of the table."""

    key: str  # for programs
    title: str  # for people
    meaning: str  # a sentence for people
    change: Change
    rate: float = 1.0  # factor of the frames per second

    def apply(self, clip: Clip, name: str, seed: int) -> Clip:
        """Return the changed clip; `name` is its name in the data set."""
        rng = np.random.default_rng([seed, zlib.crc32(f"{self.key}/{name}".encode())])
        return replace(clip, points=self.change(clip, rng), fps=clip.fps and clip.fps * self.rate)


def lose_hands(clip: Clip, rng: np.random.Generator) -> Float32Array:
    """Remove single hands for intervals, until `MISSING_HANDS` of the hands in all frames are missing.

    An interval removes one hand for up to a fifth of the clip. The last interval is shortened to meet the share,
    rounded to whole hands.
    """
    hands = [hand_columns(clip.names, side) for side in ("left", "right")]
    present = np.stack([~np.isnan(clip.points[:, hand]).all(axis=(1, 2)) for hand in hands])  # (2, T)
    removed = np.zeros_like(present)
    target = round(MISSING_HANDS * np.count_nonzero(present))
    while (remaining := target - np.count_nonzero(removed)) > 0:
        hand, start = rng.choice(np.argwhere(present & ~removed))
        length = rng.integers(1, max(len(clip) // 5, 1) + 1)
        interval = start + np.flatnonzero((present & ~removed)[hand, start : start + length])
        removed[hand, interval[:remaining]] = True
    points = clip.points
    for columns, frames in zip(hands, removed, strict=True):
        points = transforms.remove_points(points, columns, frames)
    return points


def drop_half(clip: Clip, rng: np.random.Generator) -> Float32Array:
    """Drop half of the frames at random, rounded down."""
    keep = np.zeros(len(clip), dtype=bool)
    keep[rng.choice(len(clip), size=(len(clip) + 1) // 2, replace=False)] = True
    return clip.points[keep]


def shift_anywhere(clip: Clip, rng: np.random.Generator) -> Float32Array:
    """Move the signer by `SHIFT` of the picture's width and height in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    return transforms.shift(clip.points, SHIFT * np.cos(angle), SHIFT * np.sin(angle))


def hand_columns(names: tuple[str, ...], side: str) -> IndexArray:
    """Return the columns of the left or right hand, without the few hand points of the pose."""
    return np.array([i for i, name in enumerate(names) if name.startswith(f"{side}Hand_")], dtype=np.intp)


def _rotate(degrees: float) -> Change:
    return lambda clip, _: transforms.rotate(clip.points, degrees)


def _zoom(factor_x: float, factor_y: float) -> Change:
    return lambda clip, _: transforms.rescale(clip.points, factor_x, factor_y)


AS_RECORDED = Condition("as_recorded", "as recorded", "Nothing was changed.", lambda clip, _: clip.points)
CONDITIONS = (
    # The server of the original system did this.
    Condition("half_rate", "half frame rate", "Every second frame is dropped.", lambda clip, _: clip.points[::2], 0.5),
    Condition(
        "double_rate",
        "double frame rate",
        "One frame is interpolated between each two frames.",
        lambda clip, _: transforms.resample_time(clip.points, 2 * len(clip) - 1),
        rate=2.0,
    ),
    Condition(
        "hands_missing",
        f"{MISSING_HANDS:.0%} hands missing",
        f"Single hands are removed for intervals until {MISSING_HANDS:.0%} of all hands are missing.",
        lose_hands,
    ),
    Condition("frames_dropped", "50% frames dropped", "Half of the frames are dropped at random.", drop_half),
    Condition(
        "tilt_right",
        f"tilt +{TILT:g}°",
        "The picture, assumed square, is rotated clockwise, as by a tilted camera.",
        _rotate(TILT),
    ),
    Condition(
        "tilt_left", f"tilt -{TILT:g}°", "The picture, assumed square, is rotated counterclockwise.", _rotate(-TILT)
    ),
    Condition("zoom_out", "zoom 0.7x", "The picture is made smaller around its center.", _zoom(0.7, 0.7)),
    Condition("zoom_in", "zoom 1.3x", "The picture is made larger around its center.", _zoom(1.3, 1.3)),
    Condition(
        "shifted",
        f"shifted by {SHIFT:.0%}",
        f"The signer is moved by {SHIFT:.0%} of the picture in a random direction.",
        shift_anywhere,
    ),
    Condition(
        "mirrored",
        "mirrored",
        "Left and right are exchanged: the sign is made with the other hand.",
        lambda clip, _: transforms.mirror(clip.points, clip.names),
    ),
    # x and y are fractions of width and height, and the aspect ratio is unknown: if a signer recorded at 4:3 is filmed
    # at 16:9 instead, x distances shrink to three quarters.
    Condition("wider", "16:9 for 4:3", "As by a camera with a wider picture: x is scaled by 0.75.", _zoom(_WIDER, 1.0)),
    Condition(
        "narrower",
        "4:3 for 16:9",
        "As by a camera with a narrower picture: x is scaled by 1.33.",
        _zoom(1 / _WIDER, 1.0),
    ),
    Condition(
        "shuffled",
        "frames shuffled",
        "The frames are in random order. If the accuracy stays the same, the model uses only postures.",
        lambda clip, rng: clip.points[rng.permutation(len(clip))],
    ),
)
"""All conditions except `AS_RECORDED`, the first row of the table, in order."""
