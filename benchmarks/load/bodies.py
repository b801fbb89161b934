"""Requests of usual sizes with random landmarks, whose values do not change the cost of a request."""

import json

import numpy as np

from spoter.landmarks.estimators import MEDIAPIPE
from spoter.landmarks.layouts import Layout, load_layout

FRAMES = 60


def full_request(frames: int = FRAMES) -> bytes:
    """Return a browser's request: face mesh, z, visibility and all digits of a double; 2.6 MB for 60 frames."""
    rng = np.random.default_rng(0)

    def landmarks(part: str) -> list[dict[str, float]]:
        values = rng.uniform(0.2, 0.8, size=(len(MEDIAPIPE.parts[part]), 3))
        points = [dict(zip("xyz", map(float, row), strict=True)) for row in values]
        if part == "pose":
            points = [point | {"visibility": float(rng.uniform())} for point in points]
        return points

    return json.dumps(
        {"keypoints": [{f"{part}_landmarks": landmarks(part) for part in MEDIAPIPE.parts} for _ in range(frames)]}
    ).encode()


def compact_request(layout: Layout | None = None, frames: int = FRAMES) -> bytes:
    """Return a compact request: only the landmarks of a layout (default: 54), 4 decimals."""
    layout = layout or load_layout("54")
    points = np.random.default_rng(0).uniform(0.2, 0.8, size=(frames, len(layout), 2)).round(4)
    return json.dumps({"layout": layout.name, "points": points.tolist()}, separators=(",", ":")).encode()


BODIES = {"compact": compact_request, "full": full_request}
"""Functions that make a request, by the name in options."""
