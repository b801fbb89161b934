"""Clips as landmark files to upload to the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from spoter.files import atomic_write_bytes


def write_clip(path: Path, points: np.ndarray) -> Path:
    """Write points of layout 54, shape (T, 54, 2), NaN = missing, as compact JSON."""
    rows = [[None if np.isnan(point).any() else point.tolist() for point in frame] for frame in points.astype(float)]
    atomic_write_bytes(path, json.dumps({"layout": "54", "points": rows}).encode())
    return path


def read_clip(path: Path) -> np.ndarray:
    """Return the points of a compact JSON file; NaN = missing."""
    rows = json.loads(path.read_text())["points"]
    return np.array([[point or (np.nan, np.nan) for point in frame] for frame in rows])


def upside_down(points: np.ndarray, seed: int | None = None) -> np.ndarray:
    """Return a clip that is none of the bundled model's signs; `seed` varies it slightly, like another person."""
    flipped = points * [1, -1] + [0, 1]
    if seed is None:
        return flipped
    rng = np.random.default_rng(seed)
    return flipped * rng.uniform(0.9, 1.1) + rng.uniform(-0.03, 0.03, 2) + rng.normal(0, 0.002, points.shape)
