"""Random changes of a clip that leave its sign what it is, applied anew each time training looks at the clip.

They work on a layout's points (T, K, 2) in image units, before normalisation, as those of the SPOTER paper do; after it
a hand and the body would be moved apart. Missing points (NaN) stay missing.

In-plane rotation, squeeze and Gaussian noise are the paper's (Boháček and Hrúz, "Sign Pose-based Transformer for
Word-level Sign Language Recognition", WACV Workshops 2022; their ``augmentations``: 13 degrees, 15 % of the width).
Cropping, change of tempo and scaling of time series follow Um et al., "Data Augmentation of Wearable Sensor Data for
Parkinson's Disease Monitoring using Convolutional Neural Networks", ICMI 2017. Scale and shift matter more here than
elsewhere: scheme ``box`` measures the body from the picture's centre, so that a signer who sits farther left, lower or
nearer than any in the data would otherwise look new. Frames and hands are dropped as slow browsers and estimators do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spoter.layouts import Layout

_FEWEST_FRAMES = 4


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
    rotation : float
        Degrees either way, around the picture's centre.
    scale, shift, squeeze : float
        Size by a factor of up to 1 + `scale` either way; place by a share of the picture; width against height by a
        factor of up to 1 + `squeeze` either way.
    noise : float
        Standard deviation of the noise on each coordinate, as a share of the picture.
    drop_frames : float
        Largest share of single frames left out.
    drop_hand : float
        Probability that a hand is missing for a stretch of up to a third of the clip.
    """

    crop: float = 0.1
    slowest: float = 1.6
    fastest: float = 0.4
    long: float = 0.02
    rotation: float = 13.0
    scale: float = 0.3
    shift: float = 0.12
    squeeze: float = 0.15
    noise: float = 0.002
    drop_frames: float = 0.2
    drop_hand: float = 0.15


def augment(
    points: np.ndarray, layout: Layout, changes: Augmentation, max_frames: int, rng: np.random.Generator
) -> np.ndarray:
    """Apply all changes, each drawn anew.

    Parameters
    ----------
    points : numpy.ndarray, shape (T, K, 2), float32
        A layout's points in image units, NaN = missing. Left as it is.
    layout : Layout
        Tells the hands' columns.
    changes : Augmentation
    max_frames : int
        No clip gets longer than this.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray, shape (T', K, 2), float32
    """
    points = crop_time(points, changes.crop, rng)
    points = drop_frames(points, changes.drop_frames, rng)
    if rng.random() < changes.long:
        frames = np.exp(rng.uniform(np.log(min(len(points), max_frames)), np.log(max_frames)))
    else:
        frames = len(points) * np.exp(rng.uniform(np.log(changes.fastest), np.log(changes.slowest)))
    points = resample_time(points, min(max(round(frames), _FEWEST_FRAMES), max_frames))
    points = rotate(points, changes.rotation, rng)
    points = rescale(points, changes.scale, changes.shift, changes.squeeze, rng)
    for section in ("leftHand", "rightHand"):
        points = drop_hand(points, layout.section(section), changes.drop_hand, rng)
    return add_noise(points, changes.noise, rng)


def crop_time(points: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Cut up to `share` of the frames off each end."""
    start, end = (int(len(points) * rng.uniform(0, share)) for _ in range(2))
    return points[start : len(points) - end] if len(points) - start - end >= _FEWEST_FRAMES else points


def drop_frames(points: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Leave out single frames, up to `share` of them, as a camera or an estimator that cannot keep up does."""
    keep = rng.random(len(points)) >= rng.uniform(0, share)
    return points[keep] if keep.sum() >= _FEWEST_FRAMES else points


def resample_time(points: np.ndarray, frames: int) -> np.ndarray:
    """Play the clip in `frames` frames, by linear interpolation between neighbours.

    Where one neighbour lacks a point, the nearer one decides, so that gaps keep their length.
    """
    place = np.linspace(0, len(points) - 1, frames)
    before = np.floor(place).astype(np.intp)
    after = np.minimum(before + 1, len(points) - 1)
    part = (place - before).astype(np.float32)[:, None, None]
    first, second = points[before], points[after]
    between = first + (second - first) * part
    return np.where(np.isnan(between), np.where(part < 0.5, first, second), between)


def rotate(points: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """Turn the picture around its centre by up to `degrees` either way."""
    angle = np.radians(rng.uniform(-degrees, degrees))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=np.float32)
    return (points - np.float32(0.5)) @ turn.T + np.float32(0.5)


def rescale(points: np.ndarray, scale: float, shift: float, squeeze: float, rng: np.random.Generator) -> np.ndarray:
    """Change the signer's size and place in the picture, and the picture's width against its height."""
    size = np.exp(rng.uniform(-1, 1) * np.log1p(scale))
    aspect = np.exp(rng.uniform(-0.5, 0.5) * np.log1p(squeeze))
    factor = np.array([size * aspect, size / aspect], dtype=np.float32)
    move = rng.uniform(-shift, shift, size=2).astype(np.float32)
    return (points - np.float32(0.5)) * factor + np.float32(0.5) + move


def drop_hand(points: np.ndarray, columns: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    """With `probability`, let the hand in `columns` be missing for a stretch of up to a third of the clip."""
    if rng.random() >= probability:
        return points
    length = int(rng.integers(1, max(len(points) // 3, 1) + 1))
    start = int(rng.integers(0, len(points) - length + 1))
    points = points.copy()
    points[start : start + length, columns] = np.nan
    return points


def add_noise(points: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise to every coordinate."""
    return points + np.float32(deviation) * rng.standard_normal(points.shape, dtype=np.float32)
