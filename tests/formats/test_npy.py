"""application/x-npy: valid and invalid files."""

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
    decoded = read(clip.points.astype(dtype))
    assert (decoded.estimator, decoded.names) == (estimator, clip.names)
    np.testing.assert_array_equal(decoded.points, clip.points.astype(dtype).astype(np.float32))


@pytest.mark.parametrize("layout", BUILT_IN)
def test_array_of_the_layout(layout: str) -> None:
    layout = load_layout(layout)
    points = layout.select(CLIP)
    decoded = read(points, layout, Options(estimator="openpose", fps=25))
    assert (decoded.estimator, decoded.fps) == ("openpose", 25)
    np.testing.assert_array_equal(layout.select(decoded), points)
    np.testing.assert_array_equal(read(np.asfortranarray(points), layout).points, points)


def test_pixels() -> None:
    clip = figure_clip("openpose", 4, gaps=False)
    pixels = np.round(clip.points * np.float32([640, 480]))
    expected = pixels / np.float32([640, 480])
    for dtype in (np.int16, np.uint16, np.float32):
        decoded = read(pixels.astype(dtype), options=Options(width=640, height=480))
        np.testing.assert_allclose(decoded.points, expected, rtol=1e-6)


def claim(header: str, data: bytes = b"data") -> bytes:
    """Return a file with a header that claims more data than the file has."""
    stream = io.BytesIO()
    text = header.encode().ljust(117) + b"\n"
    stream.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data)
    return stream.getvalue()


class Payload:
    """An object that records its unpickling."""

    was_unpickled = False

    def __reduce__(self):
        return setattr, (Payload, "was_unpickled", True)


BAD = {
    "text": (b"0.1,0.2", "invalid_npy", "header"),
    "magic only": (b"\x93NUMPY\x01\x00", "invalid_npy", "header"),
    "version 9": (b"\x93NUMPY\x09\x00" + npy(CLIP.points)[8:], "invalid_npy", "header"),
    "zip": (b"PK\x03\x04" + b"\0" * 100, "invalid_npy", "header"),
    "claim of terabytes": (
        claim("{'descr': '<f4', 'fortran_order': False, 'shape': (500, 500000000, 2)}"), "invalid_npy", "4 bytes",
    ),
    "empty array of endless frames": (
        claim(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**30}, 0, 2)}}", b""), "invalid_npy", "0 bytes",
    ),
    "empty array of endless points": (
        claim(f"{{'descr': '<f4', 'fortran_order': False, 'shape': (0, {10**30}, 2)}}", b""), "invalid_npy", "0 bytes",
    ),
    "size that overflows": (
        claim(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62}, 4, 0)}}", b""), "wrong_shape", "(461",
    ),
    "negative shape": (claim("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 543, 2)}"), "invalid_npy", ""),
    "no dictionary": (claim("[1, 2"), "invalid_npy", "header"),
    "nested header": (claim("(" * 110), "invalid_npy", "header"),
    "objects": (npy(np.array([[[Payload(), 1]]], dtype=object)), "wrong_type", "object"),
    "text array": (npy(np.full((2, 54, 2), "x")), "wrong_type", "str"),
    "booleans": (npy(np.ones((2, 54, 2), dtype=bool)), "wrong_type", "bool"),
    "complex": (npy(np.ones((2, 54, 2), dtype=complex)), "wrong_type", "complex128"),
    "records": (npy(np.zeros((2, 54, 2), dtype=[("x", "f4")])), "wrong_type", "numbers"),
    "cut off": (npy(CLIP.points)[:-1], "invalid_npy", "bytes"),
    "too long": (npy(CLIP.points) + b"\0", "invalid_npy", "bytes"),
    "two axes": (npy(np.zeros((6, 108))), "wrong_shape", "(6, 108)"),
    "with z": (npy(np.zeros((6, 54, 3))), "wrong_shape", "(6, 54, 3)"),
    "a batch": (npy(np.zeros((1, 6, 54, 2))), "wrong_shape", "(1, 6, 54, 2)"),
    "no frames": (npy(np.zeros((0, 54, 2))), "no_frames", "0 frames"),
    "too many frames": (npy(np.zeros((41, 54, 2), np.float32)), "too_many_frames", "41 frames"),
    "unknown N": (npy(np.zeros((3, 55, 2))), "wrong_point_count", "55 points"),
    "all missing": (npy(np.full((3, 54, 2), np.nan)), "no_usable_frames", "3 frames"),
    "infinite": (npy(np.full((3, 54, 2), np.inf)), "out_of_range", "x = inf"),
    "1e300": (npy(np.full((3, 54, 2), 1e300)), "out_of_range", "x = inf"),
    "pixels": (npy(np.full((3, 54, 2), 300)), "out_of_range", "pixels"),
    "pixels of OpenPose": (npy(np.full((3, 137, 2), 300)), "missing_image_size", "up to 300"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_array(name: str) -> None:
    body, code, words = BAD[name]
    with pytest.raises(InputError) as caught:
        read(body)
    assert (caught.value.code, caught.value.status) == (code, 400), caught.value
    assert words in caught.value.message
    assert not Payload.was_unpickled


def test_an_array_of_another_estimator_than_the_named_one_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        read(CLIP.points, options=Options(estimator="openpose"))
    assert caught.value.code == "wrong_estimator" and "543 points" in caught.value.message
