"""Random augmentation of clips, which keeps their signs and is drawn again for each epoch.

Like the SPOTER paper, it changes the points of a layout in image units, before normalization: afterwards, hands and
body would move apart. `spoter.training.augment.transforms` has the transforms; this module draws their parameters.

In-plane rotation (13 degrees), squeeze (15 %), perspective (10 %), sequential joint rotation (4 degrees, each joint
with probability 0.3) and Gaussian noise are from the paper: Boháček and Hrúz, "Sign Pose-based Transformer for
Word-level Sign Language Recognition", WACV Workshops 2022, with the strengths of its code
(``DEFAULT_AUGMENTATIONS_CONFIG`` of ``datasets/czech_slr_dataset.py``). The paper's squeeze narrows the picture from
both sides; here it is a wider or narrower aspect ratio and a shift. `OriginalAugmentation` has the original squeeze.

Cropping, change of tempo and scaling of time series follow Um et al., "Data Augmentation of Wearable Sensor Data for
Parkinson's Disease Monitoring using Convolutional Neural Networks", ICMI 2017. Scale and shift are important here: the
normalization ``box`` measures the body from the center of the picture, so a signer farther left, lower or nearer than
all signers in the data would look new. Slow browsers and estimators drop frames and hands; so does the augmentation.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from spoter.landmarks.layouts import Layout
from spoter.training.augment import transforms

_FEWEST_FRAMES = 4
_HANDS = ("leftHand", "rightHand")
_SHOULDERS = ("pose_left_shoulder", "pose_right_shoulder")
# Widths of the boxes of `spoter.landmarks.normalize`, in shoulder distances and in longer sides of a hand.
_BODY_BOX, _HAND_BOX = 3.0, 1.2


class Augmenter(Protocol):
    """Interface of the augmentations."""

    def apply(self, points: np.ndarray, layout: Layout, max_frames: int, rng: np.random.Generator) -> np.ndarray:
        """Return an augmented copy (T', K, 2) of a clip, with at most `max_frames` frames.

        `points` (T, K, 2), float32, are the points of `layout` in image units; NaN = missing.
        """


@dataclass(frozen=True)
class NoAugmentation:
    """No augmentation."""

    def apply(self, points: np.ndarray, layout: Layout, max_frames: int, rng: np.random.Generator) -> np.ndarray:
        """Return `points` unchanged."""
        return points


@dataclass(frozen=True)
class Augmentation:
    """The default augmentation, with the strength of each transform; 0 switches it off (tempo: 1 and 1)."""

    crop: float = 0.1  # largest share of the frames that is cut off at each end
    slowest: float = 1.6  # bounds of the tempo, a factor of the number of frames, uniform on a logarithmic scale
    fastest: float = 0.4
    # Share of clips that are stretched to a random length up to the maximum of the model instead: without them, the
    # last learned positions would get no data.
    long: float = 0.02
    joints: float = 4.0  # largest rotation, in degrees, of an arm joint and everything beyond it
    joint_share: float = 0.3  # probability that a joint rotates
    rotation: float = 13.0  # largest rotation, in degrees, around the center of the picture
    scale: float = 0.3  # largest zoom: by the factor 1 + `scale` or its inverse
    shift: float = 0.12  # largest shift in x and y, as a share of the picture
    squeeze: float = 0.15  # largest change of the aspect ratio: by the factor 1 + `squeeze` or its inverse
    perspective: float = 0.1  # share of the picture by which the corners of the left or right side move inward
    # Probability that the picture is mirrored, with left and right exchanged. Off: the signing hand may be part of the
    # sign.
    mirror: float = 0.0
    noise: float = 0.002  # standard deviation of the noise on each coordinate, as a share of the picture
    drop_frames: float = 0.2  # largest probability that a frame is dropped
    drop_hand: float = 0.15  # probability, for each hand, that it is missing for up to a third of the clip

    def apply(self, points: np.ndarray, layout: Layout, max_frames: int, rng: np.random.Generator) -> np.ndarray:
        """Return an augmented copy, as `Augmenter.apply`, with random parameters of all transforms."""
        points = crop_time(points, self.crop, rng)
        points = drop_frames(points, self.drop_frames, rng)
        points = transforms.resample_time(points, self._draw_length(len(points), max_frames, rng))
        angles = draw_joint_angles(self.joints, self.joint_share, rng)
        points = transforms.rotate_arm_joints(points, layout.names, angles)
        points = transforms.rotate(points, rng.uniform(-self.rotation, self.rotation))
        size = np.exp(rng.uniform(-1, 1) * np.log1p(self.scale))
        aspect = np.exp(rng.uniform(-0.5, 0.5) * np.log1p(self.squeeze))
        points = transforms.rescale(points, size * aspect, size / aspect)
        points = transforms.shift(points, *rng.uniform(-self.shift, self.shift, size=2))
        points = transforms.perspective(points, rng.uniform(-self.perspective, self.perspective))
        if rng.random() < self.mirror:
            points = transforms.mirror(points, layout.names)
        for section in _HANDS:
            if rng.random() < self.drop_hand:
                points = drop_hand(points, layout.section(section), rng)
        return points + np.float32(self.noise) * rng.standard_normal(points.shape, dtype=np.float32)

    def _draw_length(self, length: int, max_frames: int, rng: np.random.Generator) -> int:
        """Draw the new number of frames of a clip with `length` frames."""
        if rng.random() < self.long:
            frames = np.exp(rng.uniform(np.log(min(length, max_frames)), np.log(max_frames)))
        else:
            frames = length * np.exp(rng.uniform(np.log(self.fastest), np.log(self.slowest)))
        return min(max(round(float(frames)), _FEWEST_FRAMES), max_frames)


@dataclass(frozen=True)
class OriginalAugmentation:
    """The augmentation of the original recipe, for comparison: half of the clips are changed in one of four ways.

    It follows the code of the SPOTER paper (``augmentations/__init__.py``), with its strengths as defaults; all clips
    get Gaussian noise. It is applied before normalization. A later variant of the Peruvian system, ``Lsp_dataset.py``,
    is applied after it, where each hand has a separate center of rotation and perspective. Squeeze, perspective and
    rotation of joints do not move the hands: normalization keeps only the shape of a hand.
    """

    share: float = 0.5  # probability that a clip is changed; the four ways have equal probabilities
    rotation: float = 13.0  # largest rotation, in degrees, around the center of the picture
    squeeze: float = 0.15  # largest share of the width by which each side moves inward
    perspective: float = 0.1  # largest share of the picture by which the corners of one side move inward
    joints: float = 4.0  # largest rotation of an arm joint, in degrees
    joint_share: float = 0.3  # probability that a joint rotates
    noise: float = 0.001  # standard deviation on each coordinate, as a share of the box of its later normalization

    def apply(self, points: np.ndarray, layout: Layout, max_frames: int, rng: np.random.Generator) -> np.ndarray:
        """Return a copy with noise and sometimes a change, as `Augmenter.apply`, with the same number of frames."""
        if rng.random() < self.share:
            points = self._change(points, layout, rng)
        return _add_noise(points, layout, self.noise, rng)

    def _change(self, points: np.ndarray, layout: Layout, rng: np.random.Generator) -> np.ndarray:
        kind = rng.integers(4)
        if kind == 0:
            return transforms.rotate(points, rng.uniform(-self.rotation, self.rotation))
        if kind == 1:
            angles = draw_joint_angles(self.joints, self.joint_share, rng)
            return transforms.rotate_arm_joints(points, layout.names, angles, hands=False)
        body = layout.section("pose", "face")
        points = points.copy()
        if kind == 2:
            left, right = rng.uniform(0, self.squeeze, size=2)
            points[:, body] = transforms.shift(
                transforms.rescale(points[:, body], 1 - left - right, 1.0), (left - right) / 2, 0.0
            )
        else:
            points[:, body] = transforms.perspective(points[:, body], rng.uniform(-self.perspective, self.perspective))
        return points


def crop_time(points: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Cut off up to `share` of the frames at each end."""
    start, end = (int(len(points) * rng.uniform(0, share)) for _ in range(2))
    return points[start : len(points) - end] if len(points) - start - end >= _FEWEST_FRAMES else points


def drop_frames(points: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Drop each frame with a random probability of up to `share`, like a slow camera or estimator."""
    keep = rng.random(len(points)) >= rng.uniform(0, share)
    return points[keep] if keep.sum() >= _FEWEST_FRAMES else points


def draw_joint_angles(degrees: float, share: float, rng: np.random.Generator) -> list[list[float]]:
    """Draw angles for `rotate_arm_joints`: each joint rotates with probability `share` by up to ±`degrees`."""
    turns = rng.random((2, 4)) < share
    angles: list[list[float]] = np.where(turns, rng.uniform(-degrees, degrees, size=(2, 4)), 0.0).tolist()
    return angles


def drop_hand(points: np.ndarray, columns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Remove the hand in `columns` from a random interval of up to a third of the clip."""
    length = int(rng.integers(1, max(len(points) // 3, 1) + 1))
    start = int(rng.integers(0, len(points) - length + 1))
    frames = np.zeros(len(points), dtype=bool)
    frames[start : start + length] = True
    return transforms.remove_points(points, columns, frames)


def _add_noise(points: np.ndarray, layout: Layout, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Add noise in proportion to the box of body or hand: the original adds it to normalized points."""
    box = np.ones((len(points), len(layout), 1), dtype=np.float32)
    left, right = (layout.column(name) for name in _SHOULDERS)
    if left is not None and right is not None:
        box[...] = _BODY_BOX * np.linalg.norm(points[:, left] - points[:, right], axis=1)[:, None, None]
    for section in _HANDS:
        hand = points[:, layout.section(section)]
        if hand.size:
            longer = (np.fmax.reduce(hand, axis=1) - np.fmin.reduce(hand, axis=1)).max(axis=1)
            box[:, layout.section(section)] = _HAND_BOX * longer[:, None, None]
    noise = np.float32(deviation) * rng.standard_normal(points.shape, dtype=np.float32)
    return points + np.nan_to_num(box) * noise
