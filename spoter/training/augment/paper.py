"""The augmentation of the original recipe, for comparison.

It is that of the SPOTER paper's code (Boháček and Hrúz, WACV Workshops 2022; ``datasets/czech_slr_dataset.py`` and
``augmentations/__init__.py``): every second clip is changed in one of four ways, and all get Gaussian noise. It comes
before normalisation; the Peruvian system's later variant (``Lsp_dataset.py``) comes after the box, where each hand has
another centre for rotation and perspective. Squeeze, perspective and the rotation of joints leave the hands in place:
normalisation keeps only a hand's shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spoter.landmarks.layouts import Layout
from spoter.training.augment.augmentation import draw_joint_angles
from spoter.training.augment.transforms import perspective, rescale, rotate, rotate_arm_joints, shift

_SHOULDERS = ("pose_left_shoulder", "pose_right_shoulder")
# Widths of the boxes of `spoter.landmarks.normalize`, in distances of the shoulders and longer sides of a hand.
_BODY_BOX, _HAND_BOX = 3.0, 1.2


@dataclass(frozen=True)
class OriginalAugmentation:
    """How strong each change may be; the defaults are the original's."""

    share: float = 0.5  # probability that a clip is changed, in one of the four ways with equal chances
    rotation: float = 13.0  # degrees either way, around the picture's centre
    squeeze: float = 0.15  # largest share of the width by which each side moves inward
    perspective: float = 0.1  # largest share of the picture by which the corners of one side move inward
    joints: float = 4.0  # degrees either way by which a joint of an arm turns
    joint_share: float = 0.3  # probability of each joint to turn
    noise: float = 0.001  # standard deviation on each coordinate, as a share of the box by which it will be normalised

    def apply(self, points: np.ndarray, layout: Layout, max_frames: int, rng: np.random.Generator) -> np.ndarray:
        """Change a clip or leave it, and add noise; as `Augmenter.apply`. The number of frames stays."""
        if rng.random() < self.share:
            points = self._change(points, layout, rng)
        return _add_noise(points, layout, self.noise, rng)

    def _change(self, points: np.ndarray, layout: Layout, rng: np.random.Generator) -> np.ndarray:
        way = rng.integers(4)
        if way == 0:
            return rotate(points, rng.uniform(-self.rotation, self.rotation))
        if way == 1:
            angles = draw_joint_angles(self.joints, self.joint_share, rng)
            return rotate_arm_joints(points, layout.names, angles, hands=False)
        body = layout.section("pose", "face")
        points = points.copy()
        if way == 2:
            left, right = rng.uniform(0, self.squeeze, size=2)
            points[:, body] = shift(rescale(points[:, body], 1 - left - right, 1.0), (left - right) / 2, 0.0)
        else:
            points[:, body] = perspective(points[:, body], rng.uniform(-self.perspective, self.perspective))
        return points


def _add_noise(points: np.ndarray, layout: Layout, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Add noise as the original adds it to normalised points: in proportion to the box of body or hand."""
    box = np.ones((len(points), len(layout), 1), dtype=np.float32)
    left, right = (layout.column(name) for name in _SHOULDERS)
    if left is not None and right is not None:
        box[...] = _BODY_BOX * np.linalg.norm(points[:, left] - points[:, right], axis=1)[:, None, None]
    for section in ("leftHand", "rightHand"):
        hand = points[:, layout.section(section)]
        if hand.size:
            longer = (np.fmax.reduce(hand, axis=1) - np.fmin.reduce(hand, axis=1)).max(axis=1)
            box[:, layout.section(section)] = _HAND_BOX * longer[:, None, None]
    noise = np.float32(deviation) * rng.standard_normal(points.shape, dtype=np.float32)
    return points + np.nan_to_num(box) * noise
