"""application/x-npy, right and wrong."""

from __future__ import annotations

import io

import numpy as np
import pytest

from spoter.errors import InputError
from spoter.formats import Options, decode
from spoter.landmarks.estimators import ESTIMATORS
from spoter.landmarks.layouts import BUILT_IN, load_layout
from tests.generate import figure_clip
from tests.wire import LIMITS, npy

LAYOUT = load_layout("54")
CLIP = figure_clip("mediapipe", 6)


def read(body: bytes | np.ndarray, layout=LAYOUT, options=Options()):  # noqa: B008
    body = body if isinstance(body, bytes) else npy(body)
    request = decode(body, "application/x-npy", layout, LIMITS, options)
    assert not request.many and request.content_type == "application/x-npy"
    return request.clips[0]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
def test_array_of_an_estimator(estimator: str, dtype: str) -> None:
    clip = figure_clip(estimator, 5)
    found = read(clip.points.astype(dtype))
    assert (found.estimator, found.names) == (estimator, clip.names)
    np.testing.assert_array_equal(found.points, clip.points.astype(dtype).astype(np.float32))


@pytest.mark.parametrize("layout", BUILT_IN)
def test_array_of_the_layout(layout: str) -> None:
    layout = load_layout(layout)
    points = layout.select(CLIP)
    found = read(points, layout, Options(estimator="openpose", fps=25))
    assert (found.estimator, found.fps) == ("openpose", 25)
    np.testing.assert_array_equal(layout.select(found), points)
    np.testing.assert_array_equal(read(np.asfortranarray(points), layout).points, points)


def test_pixels() -> None:
    clip = figure_clip("openpose", 4, gaps=False)
    pixels = np.round(clip.points * np.float32([640, 480]))
    expected = pixels / np.float32([640, 480])
    for dtype in (np.int16, np.uint16, np.float32):
        found = read(pixels.astype(dtype), options=Options(width=640, height=480))
        np.testing.assert_allclose(found.points, expected, rtol=1e-6)


def claim(header: str, data: bytes = b"data") -> bytes:
    """Return a file of a header and hardly any data."""
    stream = io.BytesIO()
    text = header.encode().ljust(117) + b"\n"
    stream.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data)
    return stream.getvalue()


class Payload:
    """Something whose unpickling would be seen."""

    seen = False

    def __reduce__(self):
        return setattr, (Payload, "seen", True)


BAD = {
    "text": (b"0.1,0.2", "invalid_npy", "no header"),
    "magic only": (b"\x93NUMPY\x01\x00", "invalid_npy", "no header"),
    "version 9": (b"\x93NUMPY\x09\x00" + npy(CLIP.points)[8:], "invalid_npy", "no header"),
    "zip": (b"PK\x03\x04" + b"\0" * 100, "invalid_npy", "no header"),
    "terabytes": (
        claim("{'descr': '<f4', 'fortran_order': False, 'shape': (500, 500000000, 2)}"), "invalid_npy", "found 4 bytes",
    ),
    "nothing, endlessly": (
        claim(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**30}, 0, 2)}}", b""), "invalid_npy", "found 0",
    ),
    "no frames of endless points": (
        claim(f"{{'descr': '<f4', 'fortran_order': False, 'shape': (0, {10**30}, 2)}}", b""), "invalid_npy", "found 0",
    ),
    "axes that wrap around": (
        claim(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62}, 4, 0)}}", b""), "wrong_shape", "(461",
    ),
    "a shape below 0": (claim("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 543, 2)}"), "invalid_npy", ""),
    "no dictionary": (claim("[1, 2"), "invalid_npy", "no header"),
    "nested header": (claim("(" * 110), "invalid_npy", "no header"),
    "objects": (npy(np.array([[[Payload(), 1]]], dtype=object)), "wrong_type", "array of object"),
    "text array": (npy(np.full((2, 54, 2), "x")), "wrong_type", "array of str"),
    "booleans": (npy(np.ones((2, 54, 2), dtype=bool)), "wrong_type", "array of bool"),
    "complex": (npy(np.ones((2, 54, 2), dtype=complex)), "wrong_type", "array of complex128"),
    "records": (npy(np.zeros((2, 54, 2), dtype=[("x", "f4")])), "wrong_type", "expected floating-point numbers"),
    "cut off": (npy(CLIP.points)[:-1], "invalid_npy", "bytes of data, expected"),
    "too long": (npy(CLIP.points) + b"\0", "invalid_npy", "bytes of data, expected"),
    "two axes": (npy(np.zeros((6, 108))), "wrong_shape", "shape (6, 108), expected (frames, points, 2)"),
    "with z": (npy(np.zeros((6, 54, 3))), "wrong_shape", "shape (6, 54, 3)"),
    "a batch": (npy(np.zeros((1, 6, 54, 2))), "wrong_shape", "shape (1, 6, 54, 2)"),
    "no frames": (npy(np.zeros((0, 54, 2))), "no_frames", "0 frames"),
    "too many frames": (npy(np.zeros((41, 54, 2), np.float32)), "too_many_frames", "found 41 frames"),
    "N of nobody": (npy(np.zeros((3, 55, 2))), "wrong_point_count", "found 55 points a frame"),
    "all missing": (npy(np.full((3, 54, 2), np.nan)), "no_usable_frames", "any of 3 frames"),
    "infinite": (npy(np.full((3, 54, 2), np.inf)), "out_of_range", "found x = inf"),
    "1e300": (npy(np.full((3, 54, 2), 1e300)), "out_of_range", "found x = inf"),
    "pixels": (npy(np.full((3, 54, 2), 300)), "out_of_range", "look like pixels"),
    "pixels of OpenPose": (npy(np.full((3, 137, 2), 300)), "missing_image_size", "up to 300"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_array(name: str) -> None:
    body, code, words = BAD[name]
    with pytest.raises(InputError) as caught:
        read(body)
    assert (caught.value.code, caught.value.status) == (code, 400), caught.value
    assert words in caught.value.message
    assert not Payload.seen


def test_another_estimator_than_the_one_named() -> None:
    with pytest.raises(InputError) as caught:
        read(CLIP.points, options=Options(estimator="openpose"))
    assert caught.value.code == "wrong_estimator" and "mediapipe's 543 points" in caught.value.message
