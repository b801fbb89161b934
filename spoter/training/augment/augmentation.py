"""Random changes of a clip that leave its sign what it is, drawn anew each time training looks at the clip.

They work on a layout's points in image units, before normalisation, as those of the SPOTER paper do: after it a hand
and the body would be moved apart. The changes are those of `spoter.training.augment.transforms`; their numbers are drawn here.

In-plane rotation (13 degrees), squeeze (15 %), perspective (10 %), sequential joint rotation (4 degrees, each joint
with probability 0.3) and Gaussian noise are the paper's: Boháček and Hrúz, "Sign Pose-based Transformer for Word-level
Sign Language Recognition", WACV Workshops 2022, with the strengths of its code (``DEFAULT_AUGMENTATIONS_CONFIG`` of
``datasets/czech_slr_dataset.py``). Its squeeze, which narrows the picture from both sides, is taken apart here into a
change of width against height, either way, and a shift. `spoter.training.augment.paper` does it as that code does.

Cropping, change of tempo and scaling of time series follow Um et al., "Data Augmentation of Wearable Sensor Data for
Parkinson's Disease Monitoring using Convolutional Neural Networks", ICMI 2017. Scale and shift matter more here than
elsewhere: scheme ``box`` measures the body from the picture's centre, so that a signer who sits farther left, lower or
nearer than any in the data would otherwise look new. Frames and hands are dropped as slow browsers and estimators do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spoter.landmarks.layouts import Layout
from spoter.training.augment.transforms import (
    hide,
    keep_frames,
    mirror,
    perspective,
    resample_time,
    rescale,
    rotate,
    rotate_arm_joints,
    shift,
)

_FEWEST_FRAMES = 4
_HANDS = ("leftHand", "rightHand")


@dataclass(frozen=True)
class Augmentation:
    """How strong each change may be; 0 (for tempo 1, 1) switches it off.

    Attributes
    ----------
    crop : float
        Largest share of the frames cut off at each end.
    slowest, fastest : float
        Bounds of the tempo, a factor on the number of frames, drawn evenly on a logarithmic scale.
    long : float
        Share of clips that are stretched to any length up to the model's most frames instead, so that every learned
        position meets data.
    joints : float
        Degrees either way by which a joint of an arm turns, all that comes after it in the arm going with it.
    joint_share : float
        Probability of each joint to turn.
    rotation : float
        Degrees either way, around the picture's centre.
    scale, shift, squeeze : float
        Size by a factor of up to 1 + `scale` either way; place by a share of the picture; width against height by a
        factor of up to 1 + `squeeze` either way.
    perspective : float
        Share of the picture by which the corners of one side move inward, the left or the right one.
    mirror : float
        Probability that the picture is mirrored and left and right exchanged. Off, because which hand signs may belong
        to the sign.
    noise : float
        Standard deviation of the noise on each coordinate, as a share of the picture.
    drop_frames : float
        Largest probability with which each single frame is left out.
    drop_hand : float
        Probability, for each hand, that it is missing for a stretch of up to a third of the clip.
    """

    crop: float = 0.1
    slowest: float = 1.6
    fastest: float = 0.4
    long: float = 0.02
    joints: float = 4.0
    joint_share: float = 0.3
    rotation: float = 13.0
    scale: float = 0.3
    shift: float = 0.12
    squeeze: float = 0.15
    perspective: float = 0.1
    mirror: float = 0.0
    noise: float = 0.002
    drop_frames: float = 0.2
    drop_hand: float = 0.15

    def apply(self, points: np.ndarray, layout: Layout, max_frames: int, rng: np.random.Generator) -> np.ndarray:
        """Apply all changes, each drawn anew.

        Parameters
        ----------
        points : numpy.ndarray, shape (T, K, 2), float32
            A layout's points in image units, NaN = missing. Left as it is.
        layout : Layout
            Names the K columns.
        max_frames : int
            No clip gets longer than this.
        rng : numpy.random.Generator

        Returns
        -------
        numpy.ndarray, shape (T', K, 2), float32
        """
        points = crop_time(points, self.crop, rng)
        points = drop_frames(points, self.drop_frames, rng)
        points = resample_time(points, self._frames(len(points), max_frames, rng))
        points = rotate_arm_joints(points, layout.names, draw_joint_angles(self.joints, self.joint_share, rng))
        points = rotate(points, rng.uniform(-self.rotation, self.rotation))
        size = np.exp(rng.uniform(-1, 1) * np.log1p(self.scale))
        aspect = np.exp(rng.uniform(-0.5, 0.5) * np.log1p(self.squeeze))
        points = rescale(points, size * aspect, size / aspect)
        points = shift(points, *rng.uniform(-self.shift, self.shift, size=2))
        points = perspective(points, rng.uniform(-self.perspective, self.perspective))
        if rng.random() < self.mirror:
            points = mirror(points, layout.names)
        for section in _HANDS:
            if rng.random() < self.drop_hand:
                points = drop_hand(points, layout.section(section), rng)
        return add_noise(points, self.noise, rng)

    def _frames(self, found: int, max_frames: int, rng: np.random.Generator) -> int:
        """Draw the number of frames that a clip of `found` frames is played in."""
        if rng.random() < self.long:
            frames = np.exp(rng.uniform(np.log(min(found, max_frames)), np.log(max_frames)))
        else:
            frames = found * np.exp(rng.uniform(np.log(self.fastest), np.log(self.slowest)))
        return min(max(round(frames), _FEWEST_FRAMES), max_frames)


def crop_time(points: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Cut up to `share` of the frames off each end."""
    start, end = (int(len(points) * rng.uniform(0, share)) for _ in range(2))
    return points[start : len(points) - end] if len(points) - start - end >= _FEWEST_FRAMES else points


def drop_frames(points: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Leave out single frames, up to `share` of them, as a camera or an estimator that cannot keep up does."""
    keep = rng.random(len(points)) >= rng.uniform(0, share)
    return keep_frames(points, keep) if keep.sum() >= _FEWEST_FRAMES else points


def draw_joint_angles(degrees: float, share: float, rng: np.random.Generator) -> np.ndarray:
    """Draw what `rotate_arm_joints` is told, (2, 4): each joint turns with probability `share`, up to `degrees` either way."""
    return np.where(rng.random((2, 4)) < share, rng.uniform(-degrees, degrees, size=(2, 4)), 0.0)


def drop_hand(points: np.ndarray, columns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Let the hand in `columns` be missing for a stretch of up to a third of the clip."""
    length = int(rng.integers(1, max(len(points) // 3, 1) + 1))
    start = int(rng.integers(0, len(points) - length + 1))
    frames = np.zeros(len(points), dtype=bool)
    frames[start : start + length] = True
    return hide(points, columns, frames)


def add_noise(points: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise to every coordinate."""
    noise = rng.standard_normal(points.shape, dtype=np.float32)
    noise *= np.float32(deviation)
    noise += points
    return noise
