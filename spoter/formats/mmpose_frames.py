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
import numpy.typing as npt

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats.signer_tracking import person_place, signer_points
from spoter.landmarks.estimators import WHOLEPOSE

POINT_NAMES = {"keypoints": WHOLEPOSE.names, "keypoint_scores": WHOLEPOSE.names}

Pair = tuple[float | None, float | None]
"""A point as ``[x, y]``; a third number is an error, since it may be z or a confidence."""

_MISSING: Pair = (None, None)


class Instance(msgspec.Struct, gc=False):
    """The landmarks of one person in one frame."""

    keypoints: list[Pair | None] | None = None
    keypoint_scores: list[float | None] | None = None


def read_points(instances: Sequence[Sequence[Instance]]) -> npt.NDArray[np.float64]:
    """Return one person's points, (T, 133, 2) with NaN where missing; raises ``wrong_point_count``."""
    return signer_points(instances, _points, len(WHOLEPOSE.names))


def _points(persons: Sequence[Instance], frame: int) -> npt.NDArray[np.float64]:
    """Return the points of the people of one frame, (P, 133, 2)."""
    size = len(WHOLEPOSE.names)
    points = np.empty((len(persons), size, 2))
    for j, person in enumerate(persons):
        pairs, scores = person.keypoints or [], person.keypoint_scores
        for key, values in (("keypoints", pairs), ("keypoint_scores", scores)):
            if values is not None and len(values) != size:
                raise InputError(
                    ErrorCode.WRONG_POINT_COUNT,
                    f"found {len(values)} items, expected {size} (COCO-WholeBody)",
                    person_place(frame, j, key),
                )
        points[j] = coordinates(pairs)
        if scores is not None:  # without scores all points count
            points[j, ~(np.array(scores, dtype=np.float64) > 0)] = np.nan
    return points


def coordinates(pairs: Sequence[Pair | None]) -> npt.NDArray[np.float64]:
    """Return points as an array, (n, 2); NaN for null."""
    filled = [_MISSING if pair is None else pair for pair in pairs]
    return np.array(([x for x, _ in filled], [y for _, y in filled]), dtype=np.float64).T
