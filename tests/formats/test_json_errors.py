"""application/json: the code, place and values in the error for each kind of invalid body."""

from __future__ import annotations

import copy

import pytest

from spoter.errors import InputError
from spoter.formats import decode
from spoter.landmarks.layouts import load_layout
from tests.generate import figure_clip
from tests.wire import LIMITS, by_name, dumps, holistic, mmpose, nested, openpose

LAYOUT = load_layout("54")
POINTS = LAYOUT.select(figure_clip("mediapipe", 3))


def refuse(body) -> InputError:
    with pytest.raises(InputError) as caught:
        decode(body if isinstance(body, bytes) else dumps(body), "application/json", LAYOUT, LIMITS)
    return caught.value


def changed(body: dict, *path, value) -> dict:
    """Return a copy of a body with the value at `path` replaced."""
    body = copy.deepcopy(body)
    inner = body
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return body


H = holistic(figure_clip("mediapipe", 3, gaps=False))
O = openpose(figure_clip("openpose", 3, gaps=False))  # noqa: E741
M = mmpose(figure_clip("wholepose", 3, gaps=False))
L = {"layout": 54, "points": nested(POINTS)}
N = {"points": by_name(POINTS, LAYOUT.names)}
WRIST = ("keypoints", 2, "pose_landmarks", 15, "x")

BAD = {
    "not JSON": (b"hello", "invalid_json", "byte 0", "JSON"),
    "cut off": (dumps(H)[:-7], "invalid_json", f"byte {len(dumps(H)) - 7}", "JSON"),
    "trailing": (dumps(L) + b"}", "invalid_json", f"byte {len(dumps(L)) + 1}", "JSON"),
    "NaN": (b'{"keypoints":[{"pose_landmarks":[{"x":NaN}]}]}', "invalid_json", "byte 38", "null"),
    "Infinity": (b'{"layout":54,"points":[[[-Infinity,1]]]}', "invalid_json", "byte 26", "null"),
    "not UTF-8": (b'{"layout":"\xff"}', "invalid_json", "byte 11", "UTF-8"),
    "not UTF-8, skipped": (b'{"who":"\xff"}', "invalid_json", "byte 8", "UTF-8"),
    "half a surrogate": (b'{"layout":"\\ud800"}', "invalid_json", None, ""),
    "deep": (b'{"a":' + b"[" * 100_000, "invalid_json", None, "nested"),
    "deep points": (b'{"points":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json", None, "nested"),
    "a list": ([H["keypoints"]], "unknown_form", None, "keypoints"),
    "a number": (b"17", "unknown_form", None, "object"),
    "null": (b"null", "unknown_form", None, "object"),
    "no keys": ({}, "unknown_form", None, "no keys"),
    "other keys": ({"video": "1.webm"}, "unknown_form", None, "'video', expected one of keypoints"),
    "two forms": (H | L, "ambiguous_form", None, "keypoints"),
    "null frames": ({"keypoints": None}, "wrong_type", "keypoints", "null"),
    "no frames": ({"keypoints": []}, "no_frames", None, "0 frames"),
    "too many frames": ({"keypoints": [{}] * 41}, "too_many_frames", None, "41 frames"),
    "no usable frames": ({"keypoints": [{"pose_landmarks": []}, {}]}, "no_usable_frames", None, "layout 54"),
    "string as frame": (
        changed(H, "keypoints", 1, value="x"),
        "wrong_type", "frame 1", "string",
    ),
    "string as x": (
        changed(H, *WRIST, value="1"),
        "wrong_type", "frame 2, point pose_left_wrist", "number",
    ),
    "true as x": (changed(H, *WRIST, value=True), "wrong_type", "frame 2, point pose_left_wrist", "boolean"),
    "1e30": (changed(H, *WRIST, value=1e30), "out_of_range", "frame 2, point pose_left_wrist", "x = 1e+30"),
    "1e400": (
        dumps(changed(H, *WRIST, value="?")).replace(b'"?"', b"1e400"),
        "out_of_range", "frame 2, point pose_left_wrist", "large",
    ),
    "pixels": (
        {"keypoints": [{"pose_landmarks": [{"x": 300, "y": 200}] * 33}]},
        "out_of_range", "frame 0, point pose_nose", "pixels",
    ),
    "32 points": (
        changed(H, "keypoints", 1, "pose_landmarks", value=H["keypoints"][0]["pose_landmarks"][:32]),
        "wrong_point_count", "frame 1, pose_landmarks", "32 points, expected 33",
    ),
    "22 points": (
        changed(H, "keypoints", 0, "left_hand_landmarks", value=[{}] * 22),
        "wrong_point_count", "frame 0, left_hand_landmarks", "22 points, expected 21",
    ),
    "too many points, one wrong": (
        changed(H, "keypoints", 0, "left_hand_landmarks", value=[{}] * 30 + ["x"]),
        "wrong_type", "frame 0, left_hand_landmarks, item 30", "string",
    ),
    "mixed": (changed(H, "keypoints", 2, value=O["frames"][0]), "mixed_forms", "frame 2", "MediaPipe"),
    "mixed in a frame": (
        {"frames": [M["instance_info"][0] | O["frames"][0]]},
        "mixed_forms", "frame 0", "MMPose",
    ),
    "another estimator": (
        H | {"estimator": "openpose"},
        "wrong_estimator", None, "openpose",
    ),
    "unknown estimator": (
        L | {"estimator": "alphapose"},
        "unknown_estimator", "estimator", "'alphapose'",
    ),
    "estimator 5": (L | {"estimator": 5}, "wrong_type", "estimator", "integer"),
    "OpenPose without size": (
        {"frames": O["frames"]}, "missing_image_size", None, "size",
    ),
    "OpenPose with half a size": (
        {"frames": O["frames"], "width": 640},
        "missing_image_size", None, "height",
    ),
    "OpenPose of 18 points": (
        changed(O, "frames", 1, "people", 0, "pose_keypoints_2d", value=[1.0] * 54),
        "wrong_point_count", "frame 1, pose_keypoints_2d", "54 numbers, expected 75",
    ),
    "OpenPose string": (
        changed(O, "frames", 1, "people", 0, "pose_keypoints_2d", 22, value="x"),
        "wrong_type", "frame 1, point pose_left_wrist", "string",
    ),
    "second person": (
        changed(O, "frames", 1, "people", value=[{}, {"pose_keypoints_2d": "x"}]),
        "wrong_type", "frame 1, person 1, pose_keypoints_2d", "string",
    ),
    "MMPose without size": ({"frames": M["instance_info"]}, "missing_image_size", None, "width and height"),
    "MMPose of 17 points": (
        changed(M, "instance_info", 1, "instances", 0, "keypoints", value=[[1, 2]] * 17),
        "wrong_point_count", "frame 1, keypoints", "17 items, expected 133",
    ),
    "MMPose 132 scores": (
        changed(M, "instance_info", 1, "instances", 0, "keypoint_scores", value=[1] * 132),
        "wrong_point_count", "frame 1, keypoint_scores", "132 items",
    ),
    "MMPose in 3D": (
        changed(M, "instance_info", 1, "instances", 0, "keypoints", 9, value=[1, 2, 3]),
        "wrong_type", "frame 1, point pose_left_wrist", "[x, y]",
    ),
    "width 0": (O | {"width": 0}, "wrong_type", "width", "> 0"),
    "width as text": (O | {"width": "640"}, "wrong_type", "width", "string"),
    "width 1e400": (dumps(O | {"width": "?"}).replace(b'"?"', b"1e400"), "out_of_range", "width", "large"),
    "fps 0": (L | {"fps": 0}, "wrong_type", "fps", "> 0"),
    "top_k 0": (L | {"top_k": 0}, "wrong_type", "top_k", ">= 1"),
    "top_k 1.5": (L | {"top_k": 1.5}, "wrong_type", "top_k", "integer"),
    "unknown layout": (L | {"layout": 55}, "unknown_layout", "layout", "'55', expected 54"),
    "another layout": (L | {"layout": "29"}, "wrong_layout", "layout", "expected 54"),
    "frames and another layout": (H | {"layout": 71}, "wrong_layout", "layout", "expected 54"),
    "layout 5.4": (L | {"layout": 5.4}, "wrong_type", "layout", "integer or string"),
    "53 points": (
        changed(L, "points", 1, value=[[0, 0]] * 53),
        "wrong_point_count", "frame 1", "53 points, expected 54",
    ),
    "ragged estimator": (
        {"points": [[[0.5, 0.5]] * 133, [[0.5, 0.5]] * 132]},
        "wrong_point_count", "frame 1", "132 points, expected 133",
    ),
    "unknown N": (
        {"points": [None, [[0, 0]] * 99]},
        "wrong_point_count", "frame 1", "543 or 544 (mediapipe), 137 (openpose)",
    ),
    "N of another estimator": (
        {"estimator": "mediapipe", "points": [[[0, 0]] * 133]}, "wrong_estimator", "frame 0", "wholepose",
    ),
    "unknown N for the named estimator": (
        {"estimator": "openpose", "points": [[[0, 0]] * 99]},
        "wrong_point_count", "frame 0", "137 (openpose), or 54",
    ),
    "triples": (
        changed(L, "points", 1, 9, value=[0, 0, 0]),
        "wrong_type", f"frame 1, point {LAYOUT.names[9]}", "[x, y]",
    ),
    "one number": (changed(L, "points", 1, 9, value=[0]), "wrong_type", f"frame 1, point {LAYOUT.names[9]}", "[x, y]"),
    "number for a point": ({"points": [[0.5]]}, "wrong_type", "frame 0, point 0", "number"),
    "null points": ({"points": None}, "wrong_type", "points", "null"),
    "text for points": ({"points": "x"}, "wrong_type", "points", "string"),
    "only null frames": ({"points": [None, None]}, "no_usable_frames", None, "2 frames"),
    "pixels of the layout": (
        changed(L, "points", 1, 9, value=[640, 0]),
        "out_of_range", f"frame 1, point {LAYOUT.names[9]}", "",
    ),
    "pixels of OpenPose": (
        {"estimator": "openpose", "points": [[[300, 200]] * 137]}, "missing_image_size", None, "up to 300",
    ),
    "no landmark": ({"points": {}}, "no_frames", None, ""),
    "unknown landmark": (
        {"points": N["points"] | {"pose_left_wirst": []}}, "unknown_landmark", None, "pose_left_wrist",
    ),
    "unknown landmark, none similar": ({"points": {"tail": []}}, "unknown_landmark", None, "'tail'"),
    "missing landmarks": (
        {"points": {name: track for name, track in N["points"].items() if "index" not in name}},
        "missing_landmarks", None, "lacks 8 ",
    ),
    "tracks of different lengths": (
        changed(N, "points", "pose_nose", value=[[0, 0]] * 2), "wrong_frame_count", None, "frames",
    ),
    "string in a track": (
        changed(N, "points", "pose_nose", value=[None, ["a", 0], None]),
        "wrong_type", "point pose_nose, frame 1", "string",
    ),
    "number for a track": (
        changed(N,
        "points", "pose_nose", value=5), "wrong_type", "point pose_nose", "integer",
    ),
    "no clips": ({"clips": []}, "no_clips", None, "0 clips"),
    "too many clips": ({"clips": [L] * 5}, "too_many_clips", None, "4 clips"),
    "clips of the wrong type": ({"clips": {}}, "wrong_type", "clips", "object"),
    "clips and a form": (L | {"clips": [L]}, "ambiguous_form", None, "clips"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_body(name: str) -> None:
    body, code, where, words = BAD[name]
    error = refuse(body)
    assert (error.code, error.status) == (code, 400), error
    if name == "tracks of different lengths":
        assert error.where.startswith("point ")
    elif where is not None or code not in ("invalid_json",):
        assert error.where == where
    assert words in error.message
    assert len(str(error)) < 600


def test_only_the_start_of_an_unknown_key_in_enrolled_is_quoted():
    key = "gl" + 40 * "0.5057,\n"
    body = {"points": [], "enrolled": {"space": "", "glosses": [{key: 1}]}}
    error = refuse(body)
    assert error.code == "wrong_type" and "unknown field gl0.5057" in error.message
    assert len(error.message) < 100 and error.message.isprintable()
