"""Deterministic transforms of the points of a clip, with parameters from augmentation or the robustness table.

All take points (T, N, 2), float32, in image units (x and y as fractions of width and height, y down) and return new
points; NaN, a missing point, stays NaN. N is the number of points of an estimator or a layout. Transforms that depend
on the meaning of points also take their names (`spoter.landmarks.estimators`).

Rotation, squeeze (`rescale` and `shift`), perspective and rotation of arm joints are from the SPOTER paper (Boháček
and Hrúz, "Sign Pose-based Transformer for Word-level Sign Language Recognition", WACV Workshops 2022, section 4.2;
``augmentations/__init__.py`` of its code).
"""

import math
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from spoter.landmarks.arrays import BoolArray, Float32Array, IndexArray
from spoter.landmarks.estimators import NECK

_CENTER = np.float32(0.5)
_NEAREST = 0.1  # smallest denominator of the perspective: points far outside the picture would go to infinity
_OPPOSITE = {"left": "right", "right": "left"}


def resample_time(points: Float32Array, frames: int) -> Float32Array:
    """Resample the clip to `frames` frames, at least 1, by linear interpolation between neighboring frames.

    If one neighbor lacks a point, the nearer neighbor decides, so that gaps keep their length. After Um et al., "Data
    Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring using Convolutional Neural Networks", ICMI
    2017.
    """
    positions = np.linspace(0, len(points) - 1, frames)
    before = np.floor(positions).astype(np.intp)
    after = np.minimum(before + 1, len(points) - 1)
    fraction = (positions - before).astype(np.float32)[:, None, None]
    first, second = points[before], points[after]
    interpolated = first + (second - first) * fraction
    nearer = points[np.where(fraction[:, 0, 0] < 0.5, before, after)]
    return np.where(np.isnan(interpolated), nearer, interpolated)


def rotate(points: Float32Array, degrees: float) -> Float32Array:
    """Rotate the picture clockwise by `degrees` around its center."""
    center = np.complex64(complex(_CENTER, _CENTER))
    return _from_complex((_to_complex(points) - center) * _rotation_factor(degrees) + center)


def rescale(points: Float32Array, factor_x: float, factor_y: float) -> Float32Array:
    """Stretch the picture around its center: equal factors zoom, different factors change the aspect ratio."""
    factors = _tile((factor_x, factor_y), points)
    rescaled: Float32Array = points.reshape(len(points), -1) * factors + _CENTER * (1 - factors)
    return rescaled.reshape(points.shape)


def shift(points: Float32Array, dx: float, dy: float) -> Float32Array:
    """Move the picture right by `dx` of its width and down by `dy` of its height."""
    shifted: Float32Array = points.reshape(len(points), -1) + _tile((dx, dy), points)
    return shifted.reshape(points.shape)


def perspective(points: Float32Array, ratio: float) -> Float32Array:
    """Show the picture as seen from the left or right, as in the SPOTER paper.

    Both corners of one side move inward by `ratio` of the width and of the height, and the picture becomes the
    trapezium between the four corners. The homography from the unit square to the trapezium is, for the left side, with
    the ratio m and the distance v from the middle of the height,
    ``x' = ((1 - 3m) x + m) / (1 - 2m x)``, ``v' = (1 - 2m) v / (1 - 2m x)``.

    `ratio` is between -0.3 and 0.3; above 0 the left side recedes, below 0 the right one.
    """
    m = np.float32(abs(ratio))
    x = points[..., 0] if ratio >= 0 else 1 - points[..., 0]
    depth = np.maximum(1 - 2 * m * x, np.float32(_NEAREST))
    out = np.empty_like(points)
    x = ((1 - 3 * m) * x + m) / depth
    out[..., 0] = x if ratio >= 0 else 1 - x
    out[..., 1] = (points[..., 1] - _CENTER) * (1 - 2 * m) / depth + _CENTER
    return out


def mirror(points: Float32Array, names: tuple[str, ...]) -> Float32Array:
    """Mirror the picture and exchange left and right: the right hand of the signer becomes a left hand.

    Numbered points of a face mesh have no side in their names; they are mirrored and stay in their columns.
    """
    out = points[:, _mirrored_columns(names)]
    out[..., 0] = 1 - out[..., 0]
    return out


def rotate_arm_joints(
    points: Float32Array, names: tuple[str, ...], degrees: Sequence[Sequence[float]], hands: bool = True
) -> Float32Array:
    """Rotate each arm at its joints, one joint after the other: the sequential joint rotation of the paper.

    Everything beyond a joint in the arm rotates around the joint. A joint that a frame or the layout lacks is skipped.

    `degrees` are the clockwise angles of the left and the right arm at neck, shoulder, elbow and wrist. With `hands`,
    the hand follows its wrist. The code of the paper does not move hands, because it normalizes each hand separately.
    """
    before = _to_complex(points)
    after = before.copy()
    for side, turns in zip(("left", "right"), degrees, strict=True):
        if not any(turns):
            continue
        joints, hand = _arm_columns(names, side)
        # Per frame: the last joint before and after rotation, and the rotation so far; rotations in a plane add up.
        start = end = np.zeros(len(points), dtype=np.complex64)
        turn = np.ones(len(points), dtype=np.complex64)
        for joint, angle in zip(joints, turns, strict=True):
            if joint is None:
                continue
            place = before[:, joint]
            after[:, joint] = moved = end + (place - start) * turn
            present = ~np.isnan(place)
            start, end = np.where(present, place, start), np.where(present, moved, end)
            turn = np.where(present, turn * _rotation_factor(angle), turn)
        if hands:
            after[:, hand] = end[:, None] + (before[:, hand] - start[:, None]) * turn[:, None]
    return _from_complex(after)


def remove_points(points: Float32Array, columns: IndexArray, frames: BoolArray) -> Float32Array:
    """Make the points with the indices `columns` missing in `frames`, a mask (T,), bool."""
    out = points.copy()
    out[np.ix_(frames, columns)] = np.nan
    return out


def _tile(pair: tuple[float, float], points: Float32Array) -> Float32Array:
    """Return the values for x and y repeated for N points (2N,): NumPy is slow along a last axis of 2."""
    return np.tile(np.array(pair, dtype=np.float32), points.shape[1])


def _to_complex(points: Float32Array) -> npt.NDArray[np.complex64]:
    """Return points (T, N, 2) as complex numbers x + iy (T, N): a rotation is then a product."""
    return np.ascontiguousarray(points).view(np.complex64)[..., 0]


def _from_complex(plane: npt.NDArray[np.complex64]) -> Float32Array:
    return plane[..., None].view(np.float32)


def _rotation_factor(degrees: float) -> np.complex64:
    """Return the factor that rotates a point around the origin; y points down, so positive angles are clockwise."""
    angle = math.radians(degrees)
    return np.complex64(complex(math.cos(angle), math.sin(angle)))


@lru_cache(maxsize=64)
def _mirrored_columns(names: tuple[str, ...]) -> IndexArray:
    """Return the source column of each column in a mirrored clip."""
    place = {name: column for column, name in enumerate(names)}
    twins = [re.sub("left|right", lambda side: _OPPOSITE[side[0]], name) for name in names]
    return np.array([place.get(twin, column) for column, twin in enumerate(twins)], dtype=np.intp)


@lru_cache(maxsize=64)
def _arm_columns(names: tuple[str, ...], side: str) -> tuple[tuple[int | None, ...], IndexArray]:
    """Return the columns of the joints of an arm, from neck to wrist, and the columns of its hand."""
    place = {name: column for column, name in enumerate(names)}
    joints = (NECK, *(f"pose_{side}_{joint}" for joint in ("shoulder", "elbow", "wrist")))
    fingers = [f"pose_{side}_{finger}" for finger in ("thumb", "index", "pinky")]  # in the pose of MediaPipe
    hand = [column for name, column in place.items() if name.startswith(f"{side}Hand_") or name in fingers]
    return tuple(place.get(joint) for joint in joints), np.array(hand, dtype=np.intp)
