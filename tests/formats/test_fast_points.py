"""`parse_point_array` gives the same results as the general decoder, or leaves the array to it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoter.errors import InputError
from spoter.formats import Limits, decode, plain_points
from spoter.formats.plain_points import parse_point_array
from spoter.landmarks.layouts import load_layout

LAYOUT = load_layout("29")
COORDINATES = st.integers(-3, 3) | st.floats(-10, 10) | st.sampled_from([1e-310, 0.1234567890123456789, -0.0])
NUMBERS = COORDINATES | st.floats(allow_nan=False, allow_infinity=False) | st.just(10**25)
PAIRS = st.lists(COORDINATES, min_size=2, max_size=2)
ODD = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=2), st.lists(NUMBERS | st.none(), max_size=3)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=1), inner, max_size=2),
    max_leaves=5,
)
FRAMES = st.lists(
    st.lists(PAIRS | st.none(), min_size=len(LAYOUT), max_size=len(LAYOUT)) | st.none(), min_size=1, max_size=4
)


def read(points: str, head: str) -> tuple:
    """Return the clip that `decode` reads from a body, or the error as sent to a client."""
    try:
        [clip] = decode(f'{{{head}"points": {points}}}'.encode(), "application/json", LAYOUT, Limits()).clips
    except InputError as error:
        return (error.to_dict(),)
    return clip.points.tobytes(), clip.names, clip.estimator


def both_ways(points: str, head: str) -> tuple[tuple, tuple]:
    """Return the results with and without `parse_point_array`."""
    fast = read(points, head)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_points, "parse_point_array", lambda raw, size: None)
        return fast, read(points, head)


@given(FRAMES, st.data(), st.sampled_from(['"layout": 29, ', "", '"estimator": "mediapipe", ']))
def test_both_decoders_agree(frames, data, head):
    if data.draw(st.booleans()):  # an unusual value at a random place
        frame = data.draw(st.integers(0, len(frames) - 1))
        if frames[frame] is None or data.draw(st.booleans()):
            frames[frame] = data.draw(ODD)
        else:
            frames[frame][data.draw(st.integers(0, len(LAYOUT) - 1))] = data.draw(ODD)
    fast, general = both_ways(json.dumps(frames, indent=data.draw(st.sampled_from([None, 1]))), head)
    assert fast == general


@given(st.data())
def test_both_decoders_agree_on_malformed_json(data):
    points = list(json.dumps([[[0.25, 1e-3], None, [1, -2.5]]] * 2))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(points) - 1))
        points[place] = data.draw(st.sampled_from([*'[],.-+eE019n"{}: ', "null", ""]))
    fast, general = both_ways("".join(points), data.draw(st.sampled_from(['"layout": 29, ', ""])))
    assert fast == general


def test_points_and_missing_points_keep_their_positions():
    array = parse_point_array(b"[[[0.5,1],null,[2e-1,-3]],\n [null, [4,5], [6,7.25]]]", None)
    assert array.shape == (2, 3, 2) and array.dtype == np.float64
    assert array[0, 0].tolist() == [0.5, 1] and array[0, 2].tolist() == [0.2, -3] and array[1, 2].tolist() == [6, 7.25]
    assert np.argwhere(np.isnan(array[..., 0])).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"[[]]",
        b"[null]",
        b"[[[1,2]],null]",
        b"[[[1,2],[3,4]],[[5,6]]]",
        b"[[[1,null]]]",
        b"[[[1,2,3]]]",
        b"[[1,2]]",
        b"[[[1,true]]]",
        b'[[[1,"2"]]]',
        b"[[[1,1e400]]]",
        b"null",
        b"3",
    ],
)
def test_other_arrays_are_left_to_the_general_decoder(raw):
    assert parse_point_array(raw, None) is None


def test_an_array_with_another_number_of_points_than_requested_is_left_to_the_general_decoder():
    assert parse_point_array(b"[[[1,2],[3,4]]]", 3) is None
    assert not math.isnan(parse_point_array(b"[[[1,2],[3,4]]]", 2).sum())
