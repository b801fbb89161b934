"""Clips as landmark files, to be given to the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from spoter.files import atomic_write_bytes


def write_clip(path: Path, points: np.ndarray) -> Path:
    """Write points of layout 54, (T, 54, 2), NaN = missing, as compact JSON."""
    rows = [[None if np.isnan(point).any() else point.tolist() for point in frame] for frame in points.astype(float)]
    atomic_write_bytes(path, json.dumps({"layout": "54", "points": rows}).encode())
    return path


def read_clip(path: Path) -> np.ndarray:
    """Return the points of a compact JSON, NaN = missing."""
    rows = json.loads(path.read_text())["points"]
    return np.array([[point or (np.nan, np.nan) for point in frame] for frame in rows])


def upside_down(points: np.ndarray, seed: int | None = None) -> np.ndarray:
    """Return a clip that is no sign of the embedded model's; `seed` makes another person sign it, a little apart."""
    turned = points * [1, -1] + [0, 1]
    if seed is None:
        return turned
    draw = np.random.default_rng(seed)
    return turned * draw.uniform(0.9, 1.1) + draw.uniform(-0.03, 0.03, 2) + draw.normal(0, 0.002, points.shape)
