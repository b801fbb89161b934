"""`decode` answers any bytes with clips or an InputError."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spoter.errors import InputError
from spoter.formats import Options, decode
from spoter.formats.request import parse_attributes
from spoter.landmarks.clip import Clip
from spoter.landmarks.layouts import load_layout
from tests.generate import figure_clip
from tests.wire import LIMITS, by_name, csv, dumps, holistic, long, mmpose, nested, npy, openpose, spoter_table, wide

LAYOUT = load_layout("spoter54")
CLIP = figure_clip("mediapipe", 2)
POINTS = LAYOUT.select(CLIP)
ARRAY = dumps({"layout": "spoter54", "points": nested(POINTS), "fps": 25})
VALID = {
    "holistic": ("application/json", dumps(holistic(CLIP))),
    "openpose": ("application/json", dumps(openpose(figure_clip("openpose", 2)))),
    "mmpose": ("application/json", dumps(mmpose(figure_clip("wholepose", 2)))),
    "array": ("application/json", ARRAY),
    "by name": ("application/json", dumps({"points": by_name(POINTS, LAYOUT.names)})),
    "clips": ("application/json", b'{"clips":[' + ARRAY + b"," + ARRAY + b"]}"),
    "lines": ("application/jsonlines", ARRAY + b"\n" + ARRAY),
    "wide": ("text/csv", csv(wide(POINTS, LAYOUT.names))),
    "quoted": ("text/csv", csv(wide(POINTS, LAYOUT.names)).replace(b"pose_nose_x", b'"pose_nose_x"')),
    "long": ("text/csv", csv(long(CLIP)[400:600])),
    "data set": ("text/csv", csv(spoter_table(POINTS[None]))),
    "npy": ("application/x-npy", npy(POINTS)),
}
TOKENS = [
    *(
        token.encode()
        for token in [
            r"null",
            r"NaN",
            r"-1",
            r"1e400",
            r"1e30",
            r'"',
            r",",
            r"[",
            r"]",
            r"{",
            r"}",
            r":",
            r"true",
            r"\ud800",
            r"_x",
            r"0",
            r";",
            r"[]",
            r"{}",
            r'""',
        ]
    ),
    *(b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf"),
]
FUZZ = settings(
    max_examples=100, deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


def check_error(error: InputError, code: str | None = None) -> None:
    assert error.code == (code or error.code) and error.message and 400 <= error.status < 500
    assert len(str(error)) < 1000


def check_decode(body: bytes, content_type: str | None) -> None:
    """Decode a body and check the guarantees of the interface."""
    try:
        request = decode(body, content_type, LAYOUT, LIMITS, Options())
    except InputError as error:
        check_error(error)
        return
    assert 0 < len(request.clips) <= LIMITS.max_clips and (request.many or len(request.clips) == 1)
    for clip in request.clips:
        assert isinstance(clip, Clip | InputError)
        if isinstance(clip, Clip):
            assert 0 < len(clip) <= LIMITS.max_frames
            points = LAYOUT.select(clip)
            assert not np.isinf(points).any() and not np.isnan(points).all()
        else:
            assert request.many


@pytest.mark.parametrize("name", VALID)
def test_unmutated_bodies_are_decoded(name: str) -> None:
    kind, body = VALID[name]
    assert all(isinstance(clip, Clip) for clip in decode(body, kind, LAYOUT, LIMITS).clips)


@pytest.mark.parametrize("kind", ["application/json", "application/jsonlines", "text/csv", "application/x-npy", None])
@FUZZ
@given(body=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes(kind: str | None, body: bytes) -> None:
    check_decode(body, kind)
    check_decode(b"\x93NUMPY" + body, "application/x-npy")
    check_decode(b"pose_nose_x," + body, "text/csv")
    check_decode(b"frame,type,landmark_index,x,y\n" + body, "text/csv")


@pytest.mark.parametrize("name", VALID)
@FUZZ
@given(data=st.data())
def test_mutated_bodies(name: str, data) -> None:
    kind, body = VALID[name]
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(body)))
        end = min(len(body), start + data.draw(st.integers(0, 12)))
        body = body[:start] + data.draw(st.sampled_from(TOKENS) | st.binary(max_size=4)) + body[end:]
    check_decode(body, kind)


_WORDS = st.sampled_from(
    [
        "keypoints",
        "keypoints_list",
        "frames",
        "instance_info",
        "points",
        "clips",
        "layout",
        "estimator",
        "fps",
        "width",
        "height",
        "top_k",
        "people",
        "instances",
        "pose_landmarks",
        "left_hand_landmarks",
        "pose_keypoints_2d",
        "keypoint_scores",
        "x",
        "y",
        "pose_nose",
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=12,
)


@FUZZ
@given(
    body=st.dictionaries(
        st.sampled_from(["keypoints", "frames", "points", "clips", "instance_info"]), _JSON, max_size=2
    )
)
def test_json_with_known_keys_in_wrong_places(body: dict) -> None:
    check_decode(dumps(body), "application/json")


@FUZZ
@given(
    text=st.text(max_size=60)
    | st.lists(st.sampled_from(["top_k", "=", ",", "3", "width", "nan", " ", "-"])).map("".join)
)
def test_any_attributes(text: str) -> None:
    try:
        assert isinstance(parse_attributes(text), Options)
    except InputError as error:
        check_error(error, "bad_attributes")
