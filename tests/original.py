"""The original systems' normalizations, point by point as described, as references for the fast implementation.

They cover only the cases that those systems define: every frame has shoulders, and a hand is complete or missing. A
missing value is 0, as in those systems.
"""

from __future__ import annotations

import numpy as np

from benchmarks.baseline.pipeline import hand_box, normalize, within


def fill(points: np.ndarray, names: list[str]) -> np.ndarray:
    """Return (T, K, 2) points with NaN in the form of the Peruvian extractor: a missing hand is copies of its wrist."""
    points = points.copy()
    for frame in points:
        for hand, wrist in (("leftHand_", "pose_left_wrist"), ("rightHand_", "pose_right_wrist")):
            columns = [i for i, name in enumerate(names) if name.startswith(hand)]
            if np.isnan(frame[columns]).all():
                frame[columns] = frame[names.index(wrist)]
    return np.nan_to_num(points)


def box(points: np.ndarray, names: list[str]) -> np.ndarray:
    """Return (T, 2K): points (T, K, 2) from `fill`, normalized with the Peruvian system's body box and hand boxes."""
    return normalize({name: points[:, i].astype(np.float64).tolist() for i, name in enumerate(names)})


def bohacek(points: np.ndarray, names: list[str]) -> np.ndarray:
    """Return (T, 2K): points normalized with the paper authors' boxes; as in their data, y is up and 0 is missing."""
    out = []
    for frame in points.astype(np.float64):
        at = dict(zip(names, frame, strict=True))
        left, right = at["pose_left_shoulder"], at["pose_right_shoulder"]
        head = ((left[0] - right[0]) ** 2 + (left[1] - right[1]) ** 2) ** 0.5
        neck, eye = at["pose_chest_middle_up"], at["pose_left_eye"]
        start = [neck[0] - 3 * head, eye[1] + head]
        end = [neck[0] + 3 * head, start[1] - 6 * head]
        start, end = [max(value, 0) for value in start], [max(value, 0) for value in end]
        low, high = (start[0], end[1]), (end[0], start[1])
        row = {name: within(xy, low, high) for name, xy in at.items() if not name[4:].startswith("Hand")}
        row |= _hands(at)
        out.append([value - 0.5 for name in names for value in row[name]])
    return np.array(out)


def _hands(at: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    row = {}
    for hand in ("leftHand_", "rightHand_"):
        points = {name: xy for name, xy in at.items() if name.startswith(hand)}
        corners = hand_box(list(points.values()))
        row |= {name: within(xy, *corners) if corners else tuple(xy) for name, xy in points.items()}
    return row
