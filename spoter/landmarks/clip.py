"""Clip: the landmarks of one person signing one sign."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.landmarks.arrays import BoolArray, Float32Array, Float64Array, FloatArray

# Estimators place landmarks a little outside the picture (a wrist below its lower edge has y = 1.6; 3.2 was seen in
# real clips). Ten picture sizes away is no landmark: it is a pixel value, or noise.
COORDINATE_LIMIT = 10.0


@dataclass(frozen=True)
class Clip:
    """Landmarks over time, in image units: x and y are fractions of the image's width and height, y points down.

    The origin is the image's upper left corner. NaN = missing: both of a point's coordinates are NaN, or neither is.
    """

    points: Float32Array  # (T, N, 2), float32
    names: tuple[str, ...]  # the landmark of each column: an estimator's own order (`Estimator.names`), or a layout's
    estimator: str | None = None  # that made the points; None where a request holds a layout's without naming it
    fps: float | None = None  # frames per second, where known

    def __post_init__(self) -> None:
        expected = (len(self.points), len(self.names), 2)
        if isinstance(self.points, np.ma.MaskedArray):
            raise ValueError("points: found a masked array, expected NaN for missing points; make_clip converts it")
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
    """Make a `Clip` of untrusted points. Every wire format and data reader calls this function.

    `points` (T, N, 2) are in image units; NaN, or masked in a masked array = missing. A point with one missing
    coordinate becomes missing as a whole. `used` (N,) are the columns that the caller reads (`Layout.used_columns`):
    in others a point out of range becomes missing.

    Raises ``no_frames`` where T is 0; ``out_of_range`` for an infinite coordinate or one farther than
    `COORDINATE_LIMIT` image sizes from the origin, naming the first such frame and point; and ``wrong_type`` for an fps
    that is not a positive number.
    """
    with np.errstate(over="ignore"):  # 1e300 becomes inf, which is reported below
        array: Float32Array = np.array(masked_to_nan(points), dtype=np.float32)
    if len(array) == 0:
        raise InputError(ErrorCode.NO_FRAMES, "found 0 frames, expected at least 1")
    if fps is not None and not 0 < fps <= 1000:
        raise InputError(ErrorCode.WRONG_TYPE, f"found fps {fps}, expected a number above 0, at most 1000", "fps")
    missing = np.isnan(array)
    half = missing[..., 0] != missing[..., 1]  # much faster than any(axis=2), for arrays of 543 points a frame
    if half.any():
        array[half] = np.nan
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
    """Return array-like points with NaN in the place of masked values, of a masked array or of those in a list."""
    if isinstance(points, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(points), np.nan, points.data)
    if isinstance(points, list | tuple):
        return [masked_to_nan(item) for item in points]
    return points


def round_points(points: FloatArray, decimals: int) -> Float64Array:
    """Round coordinates, but none to 0 that is not 0: `spoter.landmarks.normalize` does not move a point whose x is 0.

    Where rounding gives 0, the result is the smallest number with that many decimals, with the coordinate's sign.
    """
    exact = points.astype(np.float64)
    rounded = exact.round(decimals)
    return np.where((rounded == 0) & (exact != 0), np.copysign(10.0**-decimals, exact), rounded)


def is_in_pixels(points: FloatArray) -> bool:
    """Tell whether more than half of the known coordinates lie outside 0..1, so that they must be pixels."""
    outside = np.count_nonzero(np.abs(points) > 1)  # False for NaN
    return bool(outside > 0 and 2 * outside > np.count_nonzero(~np.isnan(points)))
