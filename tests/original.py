"""The original systems' normalisations, written point by point as they are described: what the fast one must equal.

Only what they define: every frame has shoulders, a hand is found as a whole or not at all. Missing is 0, as theirs.
"""

from __future__ import annotations

import numpy as np


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
    """Return (T, 2K): the Peruvian system's body box and hand boxes."""
    out = []
    for frame in points.astype(np.float64):
        at = dict(zip(names, frame, strict=True))
        left, right = at["pose_left_shoulder"], at["pose_right_shoulder"]
        half = ((left[0] - right[0]) ** 2 + (left[1] - right[1]) ** 2) ** 0.5 / 2
        start = (0.5 - 3 * half, at["pose_right_eye"][1] - half / 2)
        end = (0.5 + 3 * half, 0.5 + 4.5 * half)
        row = {name: _within(xy, start, end) for name, xy in at.items() if not name[4:].startswith("Hand")}
        row |= _hands(at)
        out.append([value - 0.5 for name in names for value in row[name]])
    return np.array(out)


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
        row = {name: _within(xy, low, high) for name, xy in at.items() if not name[4:].startswith("Hand")}
        row |= _hands(at)
        out.append([value - 0.5 for name in names for value in row[name]])
    return np.array(out)


def _hands(at: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    row = {}
    for hand in ("leftHand_", "rightHand_"):
        points = {name: xy for name, xy in at.items() if name.startswith(hand)}
        xs, ys = [xy[0] for xy in points.values()], [xy[1] for xy in points.values()]
        width, height = max(xs) - min(xs), max(ys) - min(ys)
        if width > height:
            dx = 0.1 * width
            dy = dx + (width - height) / 2
        else:
            dy = 0.1 * height
            dx = dy + (height - width) / 2
        start, end = (min(xs) - dx, min(ys) - dy), (max(xs) + dx, max(ys) + dy)
        if start[0] == end[0] or start[1] == end[1]:
            row |= {name: tuple(xy) for name, xy in points.items()}
        else:
            row |= {name: _within(xy, start, end) for name, xy in points.items()}
    return row


def _within(xy: np.ndarray, start: tuple, end: tuple) -> tuple[float, float]:
    if xy[0] == 0:
        return tuple(xy)
    return (xy[0] - start[0]) / (end[0] - start[0]), (xy[1] - start[1]) / (end[1] - start[1])
