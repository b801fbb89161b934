"""Frames of COCO-WholeBody points as MMPose writes them.

A frame is ``{"frame_id": …, "instances": [{"keypoints": [[x, y] * 133], "keypoint_scores": [133]}]}``: pixels. A point
with a score of 0 or below is missing; an empty list of instances is a frame without a person. The first one is read.
Source: MMPose's demo scripts with ``--save-predictions``, which write ``{"meta_info": …, "instance_info": [frame…]}``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from spoter.errors import InputError
from spoter.estimators import WHOLEPOSE

POINT_NAMES = {"keypoints": WHOLEPOSE.names, "keypoint_scores": WHOLEPOSE.names}


Pair = tuple[float | None, float | None]
"""A point as ``[x, y]``; a third number is an error, for nobody can tell whether it is z or a confidence."""

_MISSING = (None, None)


class Instance(msgspec.Struct, gc=False):
    """The landmarks of one person in one frame."""

    keypoints: list[Pair | None] | None = None
    keypoint_scores: list[float | None] | None = None


def read(instances: Sequence[list[Instance] | None]) -> np.ndarray:
    """Return the points of the first person of each frame, (T, 133, 2) with NaN where missing.

    Raises
    ------
    InputError
        ``wrong_point_count``
    """
    size = len(WHOLEPOSE.names)
    points = np.full((len(instances), size, 2), np.nan)
    for i, persons in enumerate(instances):
        if not persons:
            continue
        for key in ("keypoints", "keypoint_scores"):
            values = getattr(persons[0], key)
            if values is None and key == "keypoint_scores":
                continue  # all points count
            if len(values or ()) != size:
                raise InputError(
                    "wrong_point_count",
                    f"found {len(values or ())} items, expected {size} (COCO-WholeBody)",
                    f"frame {i}, {key}",
                )
        points[i] = coordinates(persons[0].keypoints)
        if persons[0].keypoint_scores is not None:
            scores = np.array(persons[0].keypoint_scores, dtype=np.float64)
            points[i, ~(scores > 0)] = np.nan
    return points


def coordinates(pairs: Sequence[Pair | None]) -> np.ndarray:
    """Return points as an array, (n, 2) float64; NaN for null."""
    pairs = [_MISSING if pair is None else pair for pair in pairs]
    return np.array(([x for x, _ in pairs], [y for _, y in pairs]), dtype=np.float64).T
