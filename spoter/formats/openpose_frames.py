"""OpenPose's per-frame documents.

``{"people": [{"pose_keypoints_2d": [x, y, confidence, …] (25 points), "face_keypoints_2d" (70),
"hand_left_keypoints_2d", "hand_right_keypoints_2d" (21 each)}]}``: pixels, or 0..1 where OpenPose ran with
``--keypoint_scale 3``. Confidence 0 marks a missing point. An absent or empty part, and an empty list of people, are
missing too. Of several people one is followed (`spoter.formats.signer_tracking`).
Source: OpenPose's doc/02_output.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats.signer_tracking import person_place, signer_points
from spoter.landmarks.estimators import OPENPOSE

PARTS = {
    "pose": "pose_keypoints_2d",
    "face": "face_keypoints_2d",
    "left_hand": "hand_left_keypoints_2d",
    "right_hand": "hand_right_keypoints_2d",
}
"""Key of each part of a person."""

# Three numbers a point.
POINT_NAMES = {key: tuple(np.repeat(OPENPOSE.parts[part], 3).tolist()) for part, key in PARTS.items()}


class Person(msgspec.Struct, gc=False):
    """The landmarks of one person in one frame."""

    pose_keypoints_2d: list[float | None] | None = None
    face_keypoints_2d: list[float | None] | None = None
    hand_left_keypoints_2d: list[float | None] | None = None
    hand_right_keypoints_2d: list[float | None] | None = None


def read_points(people: Sequence[Sequence[Person]]) -> npt.NDArray[np.float64]:
    """Return one person's points, (T, 137, 2) with NaN where missing; raises ``wrong_point_count``."""
    return signer_points(people, _points, len(OPENPOSE.names))


def _points(persons: Sequence[Person], frame: int) -> npt.NDArray[np.float64]:
    """Return the points of the people of one frame, (P, 137, 2)."""
    numbers = np.full((len(persons), len(OPENPOSE.names), 3), np.nan)
    for j, person in enumerate(persons):
        for part, key in PARTS.items():
            values = getattr(person, key)
            if not values:
                continue
            size = len(OPENPOSE.parts[part])
            if len(values) != 3 * size:
                hint = ", as OpenPose writes with --model_pose BODY_25" if part == "pose" else ""
                raise InputError(
                    ErrorCode.WRONG_POINT_COUNT,
                    f"found {len(values)} numbers, expected {3 * size} (x, y and confidence of {size} points){hint}, "
                    "or none where the part was not found",
                    person_place(frame, j, key),
                )
            numbers[j, OPENPOSE.part(part)] = np.array(values, dtype=np.float64).reshape(size, 3)
    points = numbers[:, :, :2]
    points[~(numbers[:, :, 2] > 0)] = np.nan  # so that an unknown confidence is missing too
    return points
