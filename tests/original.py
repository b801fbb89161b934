"""The original systems' normalisations, written point by point as they are described: what the fast one must equal.

Only what they define: every frame has shoulders, a hand is found as a whole or not at all. Missing is 0, as theirs.
"""

from __future__ import annotations

import numpy as np

from benchmarks.baseline.pipeline import hand_box, normalize, within


def fill(points: np.ndarray, names: list[str]) -> np.ndarray:
    """Turn (T, K, 2) points with NaN into what the Peruvian extractor wrote: a missing hand is copies of its wrist."""
    points = points.copy()
    for frame in points:
        for hand, wrist in (("leftHand_", "pose_left_wrist"), ("rightHand_", "pose_right_wrist")):
            columns = [i for i, name in enumerate(names) if name.startswith(hand)]
            if np.isnan(frame[columns]).all():
                frame[columns] = frame[names.index(wrist)]
    return np.nan_to_num(points)


def box(points: np.ndarray, names: list[str]) -> np.ndarray:
    """Return (T, 2K): the Peruvian system's body box and hand boxes, of points (T, K, 2) after `fill`."""
    return normalize({name: points[:, i].astype(np.float64).tolist() for i, name in enumerate(names)})


def bohacek(points: np.ndarray, names: list[str]) -> np.ndarray:
    """Return (T, 2K): the paper authors' boxes; `points` have y up and 0 for missing, as theirs."""
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
