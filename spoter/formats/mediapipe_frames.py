"""Frames of MediaPipe Holistic as the browser client sends them.

A frame is ``{"pose_landmarks": [33], "face_landmarks": [468 or 478], "left_hand_landmarks": [21],
"right_hand_landmarks": [21]}``, each a list of ``{"x", "y", "z", "visibility"}``. A part that was not found is ``[]``,
null or absent; a point with x or y null is missing. z and visibility are not used.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.landmarks.estimators import MEDIAPIPE, REFINED_FACE_POINTS

PARTS = {part: f"{part}_landmarks" for part in MEDIAPIPE.parts}
"""Key of each part of a frame."""

POINT_NAMES = {key: MEDIAPIPE.parts[part] for part, key in PARTS.items()}


# gc=False: a clip has thousands of points; none can be part of a reference cycle.
class Point(msgspec.Struct, gc=False):
    """A landmark; what else a client sends of it is skipped."""

    x: float | None = None
    y: float | None = None


_MISSING = Point()


def read_points(frames: Sequence[object], parts: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the points of some parts, (T, 543, 2) with NaN where missing; raises ``wrong_point_count``.

    Frames have the keys of `PARTS` as attributes; None = a frame without landmarks.
    """
    points = np.full((len(frames), len(MEDIAPIPE.names), 2), np.nan)
    for part in parts:
        key, size = PARTS[part], len(MEDIAPIPE.parts[part])
        rows: list[int] = []
        flat: list[Point | None] = []
        for i, frame in enumerate(frames):
            landmarks = getattr(frame, key, None)
            if not landmarks:
                continue
            if len(landmarks) != size and not (part == "face" and len(landmarks) == REFINED_FACE_POINTS):
                expected = f"{size} or {REFINED_FACE_POINTS}" if part == "face" else f"{size}"
                raise InputError(
                    ErrorCode.WRONG_POINT_COUNT,
                    f"found {len(landmarks)} points, expected {expected}, or none where the part was not found",
                    f"frame {i}, {key}",
                )
            rows.append(i)
            flat += landmarks[:size]
        if rows:
            points[rows, MEDIAPIPE.part(part)] = _coordinates(flat).reshape(len(rows), size, 2)
    return points


def _coordinates(points: Sequence[Point | None]) -> npt.NDArray[np.float64]:
    """Return x and y of points, (n, 2); NaN for null."""
    try:
        columns = [point.x for point in points], [point.y for point in points]  # type: ignore[union-attr]
    except AttributeError:  # a null in the place of a point is rare, and looking for it takes half as long again
        return _coordinates([_MISSING if point is None else point for point in points])
    return np.array(columns, dtype=np.float64).T
