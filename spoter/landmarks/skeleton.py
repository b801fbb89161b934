"""The skeleton of a clip in strokes, and a canvas to draw them on: what every picture of landmarks is made of.

Which points are joined is said by names, so that an estimator's array and any layout are drawn alike: of a limb, those
points that the clip has. Joints follow MediaPipe's hand and pose topology.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from spoter.landmarks.estimators import NECK

COLOURS = {"body": "#555555", "left hand": "#0072b2", "right hand": "#d55e00"}
"""Blue and vermilion can be told apart by colour-blind people: Okabe and Ito, "Color Universal Design", 2008."""

_FINGERS = ("index_finger", "middle_finger", "ring_finger", "pinky")


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
def find_limbs(names: tuple[str, ...], part: str) -> np.ndarray:
    """Return the pairs of columns that are joined in `part`, a key of `CHAINS`: (pairs, 2)."""
    place = {name: column for column, name in enumerate(names)}
    pairs = set()
    for chain in CHAINS[part]:
        columns = [place[name] for name in chain if name in place]
        pairs.update(zip(columns, columns[1:], strict=False))
    return np.array(sorted(pairs), dtype=np.intp).reshape(-1, 2)


@lru_cache(maxsize=64)
def find_columns(names: tuple[str, ...], part: str) -> np.ndarray:
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


def skeleton_strokes(points: np.ndarray, names: tuple[str, ...]) -> Strokes:
    """Return what is drawn of one frame's points (N, 2), NaN = missing."""
    lines, dots, rings = {}, {}, {}
    for part in CHAINS:
        ends = points[find_limbs(names, part)]
        lines[part] = ends[~np.isnan(ends).any(axis=(1, 2))]
        own = points[find_columns(names, part)]
        dots[part] = own[~np.isnan(own).any(axis=1)]
        wrist = f"pose_{part.split()[0]}_wrist"
        place = points[names.index(wrist)] if part != "body" and wrist in names else np.full(2, np.nan)
        rings[part] = place[None] if not len(dots[part]) and not np.isnan(place).any() else np.empty((0, 2))
    return Strokes(lines, dots, rings)
