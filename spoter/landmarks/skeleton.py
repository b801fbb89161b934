"""The skeleton of a clip as strokes for pictures of landmarks.

Points are joined by name, so an estimator's array and any layout are drawn in the same way; a limb skips the points
that the clip lacks. Joints follow MediaPipe's hand and pose topology.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from spoter.landmarks.arrays import Float32Array, IndexArray
from spoter.landmarks.estimators import NECK

COLOURS = {"body": "#555555", "left hand": "#0072b2", "right hand": "#d55e00"}
"""Color-blind people can distinguish blue and vermilion: Okabe and Ito, "Color Universal Design", 2008."""

_FINGERS = ("index_finger", "middle_finger", "ring_finger", "pinky")


def _body() -> list[tuple[str, ...]]:
    """Return the chains of points in body and face."""
    pose = (
        "right_ear right_eye nose left_eye left_ear",
        "right_shoulder left_shoulder left_hip right_hip right_shoulder",
        "left_shoulder left_elbow left_wrist",
        "right_shoulder right_elbow right_wrist",
    )
    half_face = (
        "eyebrow_outer eyebrow_middle eyebrow_inner",
        "eye_outer eye_inner",
        "jaw_up jaw_middle jaw_down",
        "mouth_corner mouth_up",
        "mouth_corner mouth_down",
    )
    return [
        (NECK, "pose_nose"),
        *(tuple(f"pose_{point}" for point in chain.split()) for chain in pose),
        *(
            tuple(f"face_{side}_{point}" for point in chain.split())
            for chain in half_face
            for side in ("left", "right")
        ),
        *((f"face_left_{point}", f"face_right_{point}") for point in ("jaw_down", "mouth_up", "mouth_down")),
    ]


def _hand(side: str) -> list[tuple[str, ...]]:
    """Return the chains of points in a hand: each finger starts at the pose's wrist and the hand's wrist."""
    root = (f"pose_{side}_wrist", f"{side}Hand_wrist")
    thumb = tuple(f"{side}Hand_thumb_{joint}" for joint in ("cmc", "mcp", "ip", "tip"))
    fingers = [tuple(f"{side}Hand_{finger}_{joint}" for joint in ("mcp", "pip", "dip", "tip")) for finger in _FINGERS]
    knuckles = tuple(f"{side}Hand_{finger}_mcp" for finger in _FINGERS)
    return [*(root + finger for finger in (thumb, *fingers)), knuckles]


CHAINS = {"body": _body(), "left hand": _hand("left"), "right hand": _hand("right")}
"""The chains of each part; consecutive points of a chain are joined."""


@lru_cache(maxsize=64)
def find_limbs(names: tuple[str, ...], part: str) -> IndexArray:
    """Return the pairs of columns to join in `part`, a key of `CHAINS`: (pairs, 2)."""
    column_of = {name: column for column, name in enumerate(names)}
    pairs: set[tuple[int, int]] = set()
    for chain in CHAINS[part]:
        pairs.update(pairwise(column_of[name] for name in chain if name in column_of))
    return np.array(sorted(pairs), dtype=np.intp).reshape(-1, 2)


@lru_cache(maxsize=64)
def find_columns(names: tuple[str, ...], part: str) -> IndexArray:
    """Return the columns of the points of `part`, a key of `CHAINS`."""
    hands = {"leftHand": "left hand", "rightHand": "right hand"}
    columns = [i for i, name in enumerate(names) if hands.get(name.partition("_")[0], "body") == part]
    return np.array(columns, dtype=np.intp)


@dataclass(frozen=True)
class Strokes:
    """The strokes of one frame: one float32 array for each part."""

    lines: dict[str, Float32Array]  # (L, 2, 2): limbs with two known ends
    dots: dict[str, Float32Array]  # (D, 2): known points
    rings: dict[str, Float32Array]  # (R, 2), R 0 or 1: the pose's wrist of a missing hand


def skeleton_strokes(points: Float32Array, names: tuple[str, ...]) -> Strokes:
    """Return the strokes of one frame's points (N, 2), NaN = missing."""
    lines, dots, rings = {}, {}, {}
    for part in CHAINS:
        ends = points[find_limbs(names, part)]
        lines[part] = ends[~np.isnan(ends).any(axis=(1, 2))]
        part_points = points[find_columns(names, part)]
        dots[part] = part_points[~np.isnan(part_points).any(axis=1)]
        wrist = f"pose_{part.removesuffix(' hand')}_wrist"
        wrists = points[[names.index(wrist)]] if wrist in names and not len(dots[part]) else points[:0]
        rings[part] = wrists[~np.isnan(wrists).any(axis=1)]
    return Strokes(lines, dots, rings)
