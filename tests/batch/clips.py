"""Clips for tests of `spoter predict … --out` and `spoter batch-pack`, and the pieces that these find in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spoter.batch.inputs import Piece, parts
from tests.training.datasets import generated_points


def signs(count: int) -> list[tuple[str, str, np.ndarray]]:
    """Return name, gloss and points (T, 543, 2) of so many clips, the same ones each time."""
    rng = np.random.default_rng(0)
    return [(f"camera/{i}", "WAVE", generated_points("WAVE", 4 + i % 5, rng)) for i in range(count)]


def found(root: Path) -> list[Piece]:
    """Return what a folder or file of clips is read as."""
    return [piece for part in parts([root], 1000) for piece in part.pieces]
