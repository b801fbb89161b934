"""application/x-npy: one clip as a NumPy array (T, N, 2), NaN = missing; N tells whose points they are."""

from __future__ import annotations

import io
import math

import numpy as np

from spoter.errors import InputError
from spoter.formats.points_form import names_of_size
from spoter.formats.request import DEFAULT_TOP_K, NPY, Limits, Options, Request, finish_clip
from spoter.layouts import Layout


def decode(body: bytes, layout: Layout, limits: Limits, options: Options) -> Request:
    """Read an .npy file; as `spoter.formats.decode`.

    Raises
    ------
    InputError
        ``invalid_npy`` for what is no such file, or not as long as its header says; ``wrong_type`` for anything but
        numbers; ``wrong_shape``; those of `names_of_size` and `finish_clip`.
    """
    shape, dtype = _header(body)
    if len(shape) != 3 or shape[2] != 2:
        raise InputError("wrong_shape", f"found an array of shape {shape}, expected (frames, points, 2)")
    limits.check_frames(shape[0])
    names, estimator = names_of_size(shape[1], layout, options.estimator)
    points = np.load(io.BytesIO(body), allow_pickle=False).astype(np.float64)
    clip = finish_clip(points, names, estimator, layout, options, estimator in ("openpose", "wholepose"))
    return Request([clip], False, options.top_k or DEFAULT_TOP_K, NPY)


def _header(body: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and dtype, checked against the size of the body: a header alone could ask for terabytes."""
    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise InputError("invalid_npy", "found no header of an .npy file, expected what numpy.save writes") from error
    if dtype.kind not in "fiu":
        raise InputError("wrong_type", f"found an array of {dtype.name}, expected floating-point numbers")
    found, expected = len(body) - stream.tell(), math.prod(shape) * dtype.itemsize
    if any(length < 0 for length in shape) or found != expected:
        raise InputError(
            "invalid_npy", f"found {found} bytes of data, expected {expected} for {dtype.name} of shape {shape}"
        )
    return shape, dtype
