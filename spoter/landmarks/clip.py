"""Clip: the landmarks of one person signing one sign."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.landmarks.arrays import BoolArray, Float32Array, Float64Array, FloatArray

# Estimators place some landmarks outside the picture (a wrist below the lower edge at y = 1.6; up to 3.2 in real
# clips). A coordinate beyond ten picture sizes is a pixel value or noise.
COORDINATE_LIMIT = 10.0


@dataclass(frozen=True)
class Clip:
    """Landmarks over time, in image units: x and y are fractions of the image's width and height, y points down.

    The origin is the image's upper left corner. A missing point has NaN in both coordinates, never in only one.
    """

    points: Float32Array  # (T, N, 2), float32
    names: tuple[str, ...]  # the landmark of each column, in the order of an estimator (`Estimator.names`) or layout
    estimator: str | None = None  # the source of the points; None if a request sends a layout's points without it
    fps: float | None = None  # frames per second, if known

    def __post_init__(self) -> None:
        expected = (len(self.points), len(self.names), 2)
        if isinstance(self.points, np.ma.MaskedArray):
            raise ValueError("points: found a masked array, expected NaN for missing points; use make_clip")
        if self.points.shape != expected or self.points.dtype != np.float32:
            raise ValueError(f"points: found {self.points.shape} {self.points.dtype}, expected {expected} float32")

    def __len__(self) -> int:
        return len(self.points)


def make_clip(
    points: npt.ArrayLike,
    names: tuple[str, ...],
    estimator: str | None = None,
    fps: float | None = None,
    used: BoolArray | None = None,
) -> Clip:
    """Make a `Clip` from untrusted points. Every wire format and data reader calls this function.

    `points` (T, N, 2) are in image units; a missing value is NaN, or masked in a masked array. If one coordinate of a
    point is missing, the point becomes missing. `used` (N,) marks the columns that the caller reads
    (`Layout.used_columns`); in the other columns, a point out of range becomes missing.

    Raises ``no_frames`` if T is 0; ``out_of_range`` for a coordinate that is infinite or farther than
    `COORDINATE_LIMIT` image sizes from the origin, with its frame and point; ``wrong_type`` for an fps that is not
    above 0 and at most 1000.
    """
    with np.errstate(over="ignore"):  # 1e300 becomes inf, which is reported below
        array: Float32Array = np.array(masked_to_nan(points), dtype=np.float32)
    if len(array) == 0:
        raise InputError(ErrorCode.NO_FRAMES, "found 0 frames, expected at least 1")
    if fps is not None and not 0 < fps <= 1000:
        raise InputError(ErrorCode.WRONG_TYPE, f"found fps {fps}, expected a number above 0 and at most 1000", "fps")
    missing = np.isnan(array)
    incomplete = missing[..., 0] != missing[..., 1]  # much faster than any(axis=2) with 543 points per frame
    if incomplete.any():
        array[incomplete] = np.nan
    out_of_range = np.abs(array) > COORDINATE_LIMIT  # False for NaN
    if used is not None and out_of_range.any():
        array[out_of_range.any(axis=2) & ~used] = np.nan
        out_of_range[:, ~used] = False
    if out_of_range.any():
        frame, column, axis = (int(i) for i in np.argwhere(out_of_range)[0])
        pixels = "; these look like pixels: divide x by the image's width and y by its height, or send width and height"
        raise InputError(
            ErrorCode.OUT_OF_RANGE,
            f"found {'xy'[axis]} = {array[frame, column, axis]:g}, expected image units "
            f"(0 to 1 inside the picture, at most {COORDINATE_LIMIT:g} outside it)" + pixels * is_in_pixels(array),
            f"frame {frame}, point {names[column]}",
        )
    return Clip(array, names, estimator, fps)


def masked_to_nan(points: Any) -> Any:
    """Return array-like points with NaN for masked values, also of masked arrays inside lists."""
    if isinstance(points, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(points), np.nan, points.data)
    if isinstance(points, list | tuple):
        return [masked_to_nan(item) for item in points]
    return points


def round_points(points: FloatArray, decimals: int) -> Float64Array:
    """Round coordinates, but never a nonzero one to 0: `spoter.landmarks.normalize` does not move points at x = 0.

    Instead of 0, the result is the smallest number with that many decimals, with the coordinate's sign.
    """
    exact = points.astype(np.float64)
    rounded = exact.round(decimals)
    return np.where((rounded == 0) & (exact != 0), np.copysign(10.0**-decimals, exact), rounded)


def is_in_pixels(points: FloatArray) -> bool:
    """Return whether the points must be pixels: more than half of the known coordinates lie outside -1 to 1."""
    outside = np.count_nonzero(np.abs(points) > 1)  # False for NaN
    return bool(outside > 0 and 2 * outside > np.count_nonzero(~np.isnan(points)))
