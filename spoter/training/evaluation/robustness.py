"""The robustness table: the same clips, as another camera, a slower machine or another estimator would have given them.

Each change turns a Clip into a Clip, in image units; the Recognizer then takes it like any other clip. The random
numbers of a change depend only on the seed and the clip's name.
"""

from __future__ import annotations

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

# From a clip to its changed points, (T, P, 2).
Change = Callable[[Clip, np.random.Generator], Float32Array]


@dataclass(frozen=True)
class Condition:
    """One row of the table."""

    key: str  # for programs
    title: str  # for people
    meaning: str  # a sentence for people
    change: Change
    rate: float = 1.0  # factor of the clip's frames per second

    def apply(self, clip: Clip, name: str, seed: int) -> Clip:
        """Return the clip, named `name` in its data set, under this condition."""
        rng = np.random.default_rng([seed, zlib.crc32(f"{self.key}/{name}".encode())])
        return replace(clip, points=self.change(clip, rng), fps=clip.fps and clip.fps * self.rate)


def lose_hands(clip: Clip, rng: np.random.Generator) -> Float32Array:
    """Let single hands drop out for stretches, until `MISSING_HANDS` of the hands that were found in any frame is gone.

    A stretch takes one hand for up to a fifth of the clip; the last one is cut so that the share is met, to the nearest
    hand of a frame.
    """
    hands = [hand_columns(clip.names, side) for side in ("left", "right")]
    found = np.stack([~np.isnan(clip.points[:, hand]).all(axis=(1, 2)) for hand in hands])  # (2, T)
    gone = np.zeros_like(found)
    wanted = round(MISSING_HANDS * np.count_nonzero(found))
    while (lacking := wanted - np.count_nonzero(gone)) > 0:
        hand, start = rng.choice(np.argwhere(found & ~gone))
        length = rng.integers(1, max(len(clip) // 5, 1) + 1)
        stretch = start + np.flatnonzero((found & ~gone)[hand, start : start + length])
        gone[hand, stretch[:lacking]] = True
    points = clip.points
    for columns, frames in zip(hands, gone, strict=True):
        points = transforms.remove_points(points, columns, frames)
    return points


def drop_half(clip: Clip, rng: np.random.Generator) -> Float32Array:
    """Leave out half of the frames, drawn at random; of an odd number one more is kept."""
    keep = np.zeros(len(clip), dtype=bool)
    keep[rng.choice(len(clip), size=(len(clip) + 1) // 2, replace=False)] = True
    return clip.points[keep]


def shift_anywhere(clip: Clip, rng: np.random.Generator) -> Float32Array:
    """Move the signer by `SHIFT` of the picture's width and height in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    return transforms.shift(clip.points, SHIFT * np.cos(angle), SHIFT * np.sin(angle))


def hand_columns(names: tuple[str, ...], side: str) -> IndexArray:
    """Return the columns of the left or right hand's own points; the pose's few points of a hand are not among them."""
    return np.array([i for i, name in enumerate(names) if name.startswith(f"{side}Hand_")], dtype=np.intp)


def _rotate(degrees: float) -> Change:
    return lambda clip, _: transforms.rotate(clip.points, degrees)


def _zoom(factor_x: float, factor_y: float) -> Change:
    return lambda clip, _: transforms.rescale(clip.points, factor_x, factor_y)


AS_RECORDED = Condition("as_recorded", "as recorded", "Nothing was changed.", lambda clip, _: clip.points)
CONDITIONS = (
    # The original system's server did this.
    Condition(
        "half_rate", "half frame rate", "Every second frame is left out, evenly.", lambda clip, _: clip.points[::2], 0.5
    ),
    Condition(
        "double_rate",
        "double frame rate",
        "A frame is put half-way between each two.",
        lambda clip, _: transforms.resample_time(clip.points, 2 * len(clip) - 1),
        rate=2.0,
    ),
    Condition(
        "hands_missing",
        f"{MISSING_HANDS:.0%} hands missing",
        f"Single hands drop out for stretches until {MISSING_HANDS:.0%} of all hands that were found are gone.",
        lose_hands,
    ),
    Condition("frames_dropped", "50% frames dropped", "Half of the frames are left out, at random.", drop_half),
    Condition(
        "tilt_right",
        f"tilt +{TILT:g}°",
        "The picture, taken for square, is turned clockwise: a camera that hangs askew.",
        _rotate(TILT),
    ),
    Condition("tilt_left", f"tilt -{TILT:g}°", "The same anticlockwise.", _rotate(-TILT)),
    Condition("zoom_out", "zoom 0.7x", "The signer is smaller, around the picture's centre.", _zoom(0.7, 0.7)),
    Condition("zoom_in", "zoom 1.3x", "The signer is larger, around the picture's centre.", _zoom(1.3, 1.3)),
    Condition(
        "shifted",
        f"shifted by {SHIFT:.0%}",
        f"The signer stands {SHIFT:.0%} of the picture farther to a side, up or down; the direction is random.",
        shift_anywhere,
    ),
    Condition(
        "mirrored",
        "mirrored",
        "Left and right are exchanged: the sign made with the other hand.",
        lambda clip, _: transforms.mirror(clip.points, clip.names),
    ),
    # x and y are fractions of width and height, each by itself, and nothing tells the picture's shape: what was
    # recorded at 4:3 has its widths shrunk to three quarters where the same signer is filmed at 16:9.
    Condition("wider", "16:9 for 4:3", "A camera with a wider picture: x is squeezed to 0.75.", _zoom(_WIDER, 1.0)),
    Condition(
        "narrower", "4:3 for 16:9", "A camera with a narrower picture: x is stretched to 1.33.", _zoom(1 / _WIDER, 1.0)
    ),
    Condition(
        "shuffled",
        "frames shuffled",
        "The frames come in a random order. A model for which order counts should fall here; one that does not fall "
        "looks at postures alone.",
        lambda clip, rng: clip.points[rng.permutation(len(clip))],
    ),
)
"""All rows but the first, which is `AS_RECORDED`, in the order of the table."""
