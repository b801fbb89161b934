"""application/x-npy: one clip as a NumPy array (T, N, 2), NaN = missing; N identifies the estimator."""

import io
import math

import numpy as np
import numpy.typing as npt

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats.plain_points import names_of_size
from spoter.formats.request import DEFAULT_TOP_K, NPY, Options, Request, finish_clip, quote
from spoter.landmarks.layouts import Layout
from spoter.limits import Limits


def decode(body: bytes, layout: Layout, limits: Limits, options: Options) -> Request:
    """Decode an .npy file; see `spoter.formats.decode`.

    Raises ``invalid_npy`` for another kind of file or data of another length than the header states, ``wrong_type`` for
    an array that is not numeric, ``wrong_shape``, and the errors of `names_of_size` and `finish_clip`.
    """
    array = _view_array(body)
    limits.check_frames(array.shape[0])
    names, estimator = names_of_size(array.shape[1], layout, options.estimator)
    clip = finish_clip(array.astype(np.float64), names, estimator, layout, options)
    return Request([clip], False, options.top_k or DEFAULT_TOP_K, NPY)


def _view_array(body: bytes) -> npt.NDArray[np.generic]:
    """Return the file's array (T, N, 2) as a view of `body`.

    `numpy.load` would trust the header, which could request terabytes or the unpickling of objects.
    """
    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read_header(stream)
    except Exception as error:  # NumPy parses the header as Python code, which can fail in many ways
        raise InputError(
            ErrorCode.INVALID_NPY, "found no header of an .npy file, expected a file written by numpy.save"
        ) from error
    if dtype.kind not in "fiu":
        raise InputError(ErrorCode.WRONG_TYPE, f"found an array of {dtype.name}, expected an array of numbers")
    if len(shape) != 3 or shape[2] != 2:
        raise InputError(ErrorCode.WRONG_SHAPE, f"found an array of shape {quote(shape)}, expected (frames, points, 2)")
    start = stream.tell()
    size, expected = len(body) - start, math.prod(shape) * dtype.itemsize
    # An empty array may claim any length, even one that NumPy cannot create.
    if any(not 0 <= length <= len(body) for length in shape) or size != expected:
        raise InputError(
            ErrorCode.INVALID_NPY,
            f"found {size} bytes of data, expected {expected} for {dtype.name} of shape {quote(shape)}",
        )
    return np.frombuffer(body, dtype, offset=start).reshape(shape, order="F" if fortran_order else "C")
