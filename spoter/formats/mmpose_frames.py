"""Frames of COCO-WholeBody points as MMPose writes them.

A frame is ``{"frame_id": …, "instances": [{"keypoints": [[x, y] * 133], "keypoint_scores": [133]}]}``: pixels. A point
with a score of 0 or below is missing; an empty list of instances is a frame without a person. Of several one is
followed (`spoter.formats.signer_tracking`).
Source: MMPose's demo scripts with ``--save-predictions``, which write ``{"meta_info": …, "instance_info": [frame…]}``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats.signer_tracking import points_of_signer
from spoter.landmarks.estimators import WHOLEPOSE

POINT_NAMES = {"keypoints": WHOLEPOSE.names, "keypoint_scores": WHOLEPOSE.names}


Pair = tuple[float | None, float | None]
"""A point as ``[x, y]``; a third number is an error, for nobody can tell whether it is z or a confidence."""

_MISSING = (None, None)


class Instance(msgspec.Struct, gc=False):
    """The landmarks of one person in one frame."""

    keypoints: list[Pair | None] | None = None
    keypoint_scores: list[float | None] | None = None


def read(instances: Sequence[list[Instance] | None]) -> np.ndarray:
    """Return the points of one person through all frames, (T, 133, 2) with NaN where missing.

    Raises
    ------
    InputError
        ``wrong_point_count``
    """
    return points_of_signer(instances, _points, len(WHOLEPOSE.names))


def _points(persons: Sequence[Instance], frame: int) -> np.ndarray:
    """Return the points of the people of one frame, (P, 133, 2)."""
    size = len(WHOLEPOSE.names)
    points = np.empty((len(persons), size, 2))
    for j, person in enumerate(persons):
        for key in ("keypoints", "keypoint_scores"):
            values = getattr(person, key)
            if values is None and key == "keypoint_scores":
                continue  # all points count
            if len(values or ()) != size:
                whose = f"person {j}, " if j else ""
                raise InputError(
                    ErrorCode.WRONG_POINT_COUNT,
                    f"found {len(values or ())} items, expected {size} (COCO-WholeBody)",
                    f"frame {frame}, {whose}{key}",
                )
        points[j] = coordinates(person.keypoints)
        if person.keypoint_scores is not None:
            scores = np.array(person.keypoint_scores, dtype=np.float64)
            points[j, ~(scores > 0)] = np.nan
    return points


def coordinates(pairs: Sequence[Pair | None]) -> np.ndarray:
    """Return points as an array, (n, 2) float64; NaN for null."""
    pairs = [_MISSING if pair is None else pair for pair in pairs]
    return np.array(([x for x, _ in pairs], [y for _, y in pairs]), dtype=np.float64).T
