"""TODO: spoter.training.augment.base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from spoter.landmarks.layouts import Layout


class Augmenter(Protocol):
    """What training does to a clip each time it looks at it."""

    def apply(self, points: np.ndarray, layout: Layout, max_frames: int, rng: np.random.Generator) -> np.ndarray:
        """Return changed points (T', K, 2), T' at most `max_frames`, of a layout's points (T, K, 2), left as they are.

        Image units, NaN = missing, as `spoter.landmarks.clip.Clip`.
        """


@dataclass(frozen=True)
class NoAugmentation:
    """Clips as they are."""

    def apply(self, points: np.ndarray, layout: Layout, max_frames: int, rng: np.random.Generator) -> np.ndarray:
        return points
