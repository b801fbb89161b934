"""Landmarks of a drawn figure that signs, which tests use instead of people."""

from __future__ import annotations

import numpy as np

from spoter.landmarks.clip import Clip, make_clip
from spoter.landmarks.estimators import ESTIMATORS, NECK, Estimator

_JOINTS = {
    "nose": (0.50, 0.30), "mouth": (0.50, 0.34), "eye": (0.53, 0.27), "ear": (0.57, 0.29), "shoulder": (0.64, 0.48),
    "elbow": (0.70, 0.68), "wrist": (0.64, 0.72), "hip": (0.58, 0.92), "knee": (0.58, 1.2), "ankle": (0.58, 1.5),
}  # fmt: skip


def figure(estimator: Estimator, frames: int = 20, seed: int = 0) -> np.ndarray:
    """Return (T, N, 2) float32 points of a figure that waves, with no missing point; its left side has the larger x."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 2 * np.pi, frames)[:, None]
    points = np.empty((frames, len(estimator.names), 2))
    wave = 0.05 * np.concatenate([np.cos(time), np.sin(2 * time)], axis=1)
    for column, name in enumerate(estimator.names):
        side = -1 if "right" in name else 1
        if name == NECK:
            place = np.array([0.5, 0.48])
        elif name.startswith(("left", "right")):  # a hand: a fan of points from the wrist
            offset = 0.02 * rng.normal(size=2) + (0.04, -0.03)
            place = np.array(_JOINTS["wrist"]) + offset
        elif name.startswith("face"):
            place = np.array([0.5 + abs(rng.normal()) * 0.03, 0.30 + 0.03 * rng.normal()])
        else:
            joint = next((joint for joint in _JOINTS if joint in name), "ankle")
            place = np.array(_JOINTS[joint]) + 0.004 * rng.normal(size=2)
        mirrored = np.array([0.5 + side * (place[0] - 0.5), place[1]])
        moves = "wrist" in name or "Hand" in name or "elbow" in name
        points[:, column] = mirrored + wave * [side, 1] * moves + 0.001 * rng.normal(size=(frames, 2))
    return points.astype(np.float32)


def figure_clip(name: str = "mediapipe", frames: int = 20, seed: int = 0, gaps: bool = True) -> Clip:
    """Return a clip of `figure` for an estimator; with `gaps`, hands are missing in some frames and the pose in one."""
    estimator = ESTIMATORS[name]
    points = figure(estimator, frames, seed)
    if gaps:
        points[: frames // 3, estimator.part("left_hand")] = np.nan
        points[frames // 2 : frames // 2 + 2, estimator.part("right_hand")] = np.nan
        points[frames - 2, estimator.part("pose")] = np.nan
    return make_clip(points, estimator.names, name, fps=25)
