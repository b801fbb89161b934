"""application/json and application/jsonlines: valid forms, options, and errors of single clips."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from spoter.errors import InputError
from spoter.formats import Limits, Options, decode, json_format
from spoter.landmarks.clip import Clip
from spoter.landmarks.estimators import ESTIMATORS, MEDIAPIPE, NECK
from spoter.landmarks.layouts import BUILT_IN, load_layout
from tests.generate import figure_clip
from tests.wire import FRAME_FORMS, LIMITS, by_name, dumps, holistic, mmpose, nested, openpose

LAYOUT = load_layout("54")
CLIP = figure_clip("mediapipe", 6)
POINTS = LAYOUT.select(CLIP)
ONE = {"layout": 54, "points": nested(POINTS)}


def read(body, layout=LAYOUT, options=Options()) -> Clip:  # noqa: B008
    request = decode(body if isinstance(body, bytes) else dumps(body), "application/json", layout, LIMITS, options)
    assert len(request.clips) == 1 and not request.many
    return request.clips[0]


def refuse_in(layout, body) -> InputError:
    with pytest.raises(InputError) as caught:
        decode(dumps(body), "application/json", layout, LIMITS)
    return caught.value


@pytest.mark.parametrize("layout", BUILT_IN)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_frames_of_each_estimator(estimator: str, layout: str) -> None:
    clip = figure_clip(estimator, 7)
    layout = load_layout(layout)
    decoded = read(FRAME_FORMS[estimator](clip), layout)
    assert decoded.estimator == estimator and decoded.names == clip.names and len(decoded) == 7
    np.testing.assert_allclose(layout.select(decoded), layout.select(clip), rtol=2e-7)


@pytest.mark.parametrize("key", ["keypoints", "keypoints_list", "frames", "instance_info"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_each_key_of_frames(estimator: str, key: str) -> None:
    body = FRAME_FORMS[estimator](figure_clip(estimator, 3))
    frames = next(value for value in body.values() if isinstance(value, list))
    assert len(read({key: frames, "width": 640, "height": 480})) == 3


def test_the_ten_extra_points_of_a_refined_face_are_dropped() -> None:
    layout = load_layout("71")
    np.testing.assert_array_equal(
        layout.select(read(holistic(CLIP, refined=True), layout)), layout.select(read(holistic(CLIP), layout))
    )


@pytest.mark.parametrize("part", ["pose", "face", "left_hand", "right_hand"])
@pytest.mark.parametrize("how", ["absent", "null", "empty"])
def test_only_the_points_of_a_missing_part_are_nan(part: str, how: str) -> None:
    body = holistic(figure_clip("mediapipe", 3, gaps=False))
    key = f"{part}_landmarks"
    if how == "absent":
        del body["keypoints"][1][key]
    else:
        body["keypoints"][1][key] = None if how == "null" else []
    missing = np.isnan(read(body, load_layout("71")).points[:, :, 0])
    expected = np.zeros_like(missing)
    expected[1, MEDIAPIPE.part(part)] = True
    np.testing.assert_array_equal(missing, expected)


@pytest.mark.parametrize("point", [None, {}, {"x": None, "y": 0.5}, {"x": 0.5, "y": None}, {"x": 0.5}])
def test_a_point_without_one_coordinate_is_missing(point: dict | None) -> None:
    body = holistic(figure_clip("mediapipe", 2, gaps=False))
    body["keypoints"][1]["pose_landmarks"][16] = point
    missing = np.isnan(read(body).points)
    assert missing[1, 16].all() and missing[:, MEDIAPIPE.part("pose")].sum() == 2


@pytest.mark.parametrize("frame", [None, {}, {"time": 0.04}])
def test_a_frame_without_landmarks_stays_a_frame(frame: dict | None) -> None:
    body = holistic(CLIP)
    body["keypoints"][2] = frame
    clip = read(body)
    assert len(clip) == len(CLIP) and np.isnan(clip.points[2]).all() and not np.isnan(clip.points[1]).all()


def test_landmarks_that_the_layout_does_not_use_are_not_checked() -> None:
    body = holistic(CLIP)
    for frame in body["keypoints"]:
        frame["face_landmarks"] = ["no", "landmarks", 17]
    assert len(read(body)) == len(CLIP)
    assert refuse_in(load_layout("71"), body).code == "wrong_type"


def test_openpose_frames_with_several_people_or_none() -> None:
    body = openpose(figure_clip("openpose", 4, gaps=False))
    body["frames"][0]["people"] = []
    body["frames"][1]["people"].append({"pose_keypoints_2d": [0.1] * 75})
    body["frames"][2]["people"][0]["hand_left_keypoints_2d"] = []
    del body["frames"][2]["people"][0]["face_keypoints_2d"]
    points = read(body).points
    assert np.isnan(points[0]).all() and not np.isnan(points[1]).any()
    assert np.isnan(points[2, ESTIMATORS["openpose"].part("left_hand")]).all()
    assert np.isnan(points[2, ESTIMATORS["openpose"].part("face")]).all()


def test_openpose_points_scaled_to_one_need_no_size() -> None:
    clip = figure_clip("openpose", 3)
    body = openpose(clip, 1, 1)
    del body["width"], body["height"]
    np.testing.assert_allclose(read(body).points, clip.points, rtol=1e-6)


def test_the_size_may_come_from_a_header_and_the_body_overrides_it() -> None:
    body = openpose(figure_clip("openpose", 3))
    expected = read(body).points
    del body["width"], body["height"]
    np.testing.assert_array_equal(read(body, options=Options(width=640, height=480)).points, expected)
    body |= {"width": 1280, "height": 480}  # the body overrides the header
    half = read(body, options=Options(width=640, height=480)).points
    np.testing.assert_allclose(half[..., 0], expected[..., 0] / 2, rtol=1e-6)
    del body["height"]  # width and height must come from the same source
    with pytest.raises(InputError, match="width without height"):
        read(body, options=Options(width=640, height=480))


def test_mmpose_without_scores_has_all_points() -> None:
    body = mmpose(figure_clip("wholepose", 2, gaps=False))
    for frame in body["instance_info"]:
        del frame["instances"][0]["keypoint_scores"]
    body["instance_info"].append({"frame_id": 3, "instances": []})
    points = read(body).points
    assert not np.isnan(points[:2]).any() and np.isnan(points[2]).all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_array_of_an_estimator(estimator: str) -> None:
    clip = figure_clip(estimator, 5)
    decoded = read({"estimator": estimator, "points": nested(clip.points), "fps": 30})
    np.testing.assert_array_equal(decoded.points, clip.points)
    assert (decoded.estimator, decoded.names, decoded.fps) == (estimator, clip.names, 30)
    # the number of points also identifies the estimator
    assert read({"points": nested(clip.points)}).estimator == estimator


def test_array_of_an_estimator_in_pixels() -> None:
    clip = figure_clip("openpose", 5)
    body = {"estimator": "openpose", "points": nested(clip.points * (640, 480)), "width": 640, "height": 480}
    np.testing.assert_allclose(read(body).points, clip.points, rtol=1e-6)


def test_a_size_does_not_change_points_in_image_units() -> None:
    body = {"estimator": "mediapipe", "points": nested(CLIP.points), "width": 1280, "height": 720}
    np.testing.assert_array_equal(read(body).points, CLIP.points)


def test_mediapipe_with_the_neck() -> None:
    points = np.concatenate([CLIP.points, CLIP.points[:, :1]], axis=1)
    decoded = read({"estimator": "mediapipe", "points": nested(points)})
    assert decoded.names[-1] == NECK
    np.testing.assert_array_equal(LAYOUT.select(decoded)[0, LAYOUT.column(NECK)], CLIP.points[0, 0])


@pytest.mark.parametrize("name", [54, "54"])
def test_array_of_the_layout(name: int | str) -> None:
    decoded = read({"layout": name, "points": nested(POINTS), "estimator": "wholepose"})
    np.testing.assert_array_equal(LAYOUT.select(decoded), POINTS)
    assert decoded.estimator == "wholepose"


@pytest.mark.parametrize("layout", BUILT_IN)
def test_points_by_name(layout: str) -> None:
    layout = load_layout(layout)
    points = layout.select(CLIP)
    tracks = by_name(points, layout.names)
    np.testing.assert_array_equal(layout.select(read({"points": tracks}, layout)), points)
    if NECK in tracks:  # derived from the shoulders
        del tracks[NECK]
        np.testing.assert_allclose(layout.select(read({"points": tracks}, layout)), points, rtol=1e-6)
    # unused landmarks are allowed, in any order, and a point may be missing in all frames
    tracks = {"pose_left_knee": [[0.5, 0.9]] * len(points)} | dict(reversed(tracks.items())) | {"pose_nose": None}
    assert np.isnan(layout.select(read({"points": tracks}, layout))[:, layout.column("pose_nose")]).all()


def test_null_marks_missing_frames_points_and_coordinates() -> None:
    points = nested(figure_clip("mediapipe", 4, gaps=False).points)
    points[0] = None
    points[1][15] = None
    points[2][16] = [0.5, None]
    missing = np.isnan(read({"points": points}).points[:, :, 0])
    assert missing[0].all() and missing[1].sum() == 1 and missing[2].sum() == 1
    assert missing[1, 15] and missing[2, 16] and not missing[3].any()


def test_nan_is_invalid_json_and_a_byte_order_mark_is_skipped() -> None:
    body = holistic(CLIP)
    np.testing.assert_array_equal(read(b"\xef\xbb\xbf" + dumps(body)).points, read(body).points)
    body["keypoints"][0]["pose_landmarks"][0]["x"] = float("nan")
    with pytest.raises(InputError) as caught:
        decode(json.dumps(body).encode(), None, LAYOUT, LIMITS)
    assert caught.value.code == "invalid_json"


def test_several_clips_are_decoded_in_order() -> None:
    bad = holistic(CLIP)
    bad["keypoints"][3]["pose_landmarks"].pop()
    clips = [
        {"layout": 54, "points": nested(POINTS)},
        bad,
        {"points": by_name(POINTS, LAYOUT.names), "fps": 10},
        {
            "estimator": "openpose",
            "points": nested(figure_clip("openpose", 5).points * 500),
            "width": 500,
            "height": 500,
        },
    ]
    request = decode(dumps({"clips": clips, "top_k": 3, "fps": 25}), "application/json", LAYOUT, LIMITS)
    assert request.many and request.top_k == 3 and request.content_type == "application/json"
    good, error, named, pixels = request.clips
    np.testing.assert_array_equal(LAYOUT.select(good), POINTS)
    assert (good.fps, named.fps, pixels.estimator) == (25, 10, "openpose")
    assert (error.code, error.where) == ("wrong_point_count", "clip 1, frame 3, pose_landmarks")
    one = decode(dumps({"clips": clips[:1]}), "application/json", LAYOUT, LIMITS)
    assert one.many and one.top_k == 5


@pytest.mark.parametrize(
    ("clip", "code", "where"),
    [
        ({"clips": []}, "unknown_form", "clip 1"),
        (17, "unknown_form", "clip 1"),
        ([], "unknown_form", "clip 1"),
        ({"layout": 54, "points": nested(POINTS), "top_k": 3}, "misplaced_option", "clip 1, top_k"),
        ({"layout": 54, "points": nested(POINTS), "width": -1}, "wrong_type", "clip 1, width"),
        ({"layout": 54, "points": []}, "no_frames", "clip 1"),
        ({"layout": 54, "points": nested(POINTS) * 7}, "too_many_frames", "clip 1"),
    ],
)
def test_a_bad_clip_does_not_affect_other_clips(clip: object, code: str, where: str) -> None:
    good = {"layout": 54, "points": nested(POINTS)}
    request = decode(dumps({"clips": [good, clip, good]}), "application/json", LAYOUT, LIMITS)
    assert isinstance(request.clips[0], Clip) and isinstance(request.clips[2], Clip)
    assert (request.clips[1].code, request.clips[1].where) == (code, where)


@pytest.mark.parametrize("max_clips", [12, json_format.MAX_FIELDS, 10 * json_format.MAX_FIELDS])
def test_clips_do_not_depend_on_the_limit_on_clips(max_clips: int) -> None:
    limits = dataclasses.replace(LIMITS, max_clips=max_clips)
    clips = [{"layout": 54, "points": nested(POINTS[: i % 5])} if i % 3 else [17, None, {}][i % 2] for i in range(12)]
    decoded, expected = (
        decode(dumps({"clips": clips}), "application/json", LAYOUT, each).clips
        for each in (limits, dataclasses.replace(LIMITS, max_clips=12))
    )
    assert [str(clip) if isinstance(clip, InputError) else clip.points.tobytes() for clip in decoded] == [
        str(clip) if isinstance(clip, InputError) else clip.points.tobytes() for clip in expected
    ]
    with pytest.raises(InputError) as caught:
        decode(b'{"clips":[%s]}' % b",".join([b"{}"] * (max_clips + 1)), "application/json", LAYOUT, limits)
    assert caught.value.code == "too_many_clips"


def test_top_k() -> None:
    body = {"layout": 54, "points": nested(POINTS)}
    assert decode(dumps(body), None, LAYOUT, LIMITS).top_k == 5
    assert decode(dumps(body), None, LAYOUT, LIMITS, Options(top_k=2)).top_k == 2
    assert decode(dumps(body | {"top_k": 10**30}), None, LAYOUT, LIMITS, Options(top_k=2)).top_k == 10**30


def test_a_face_of_another_size() -> None:
    body = holistic(figure_clip("mediapipe", 3))
    body["keypoints"][1]["face_landmarks"] = [{}] * 467
    assert read(body).points.shape == (3, 543, 2)  # layout 54 does not use it
    error = refuse_in(load_layout("71"), body)
    assert (error.code, error.where) == ("wrong_point_count", "frame 1, face_landmarks")
    assert "467" in error.message


def test_json_lines() -> None:
    lines = [dumps(ONE), b"{", b"", dumps(holistic(CLIP)), dumps(ONE | {"top_k": 1}), b""]
    request = decode(b"\r\n".join(lines), "application/jsonlines; charset=utf-8", LAYOUT, LIMITS, Options(top_k=2))
    assert request.many and request.top_k == 2 and request.content_type == "application/jsonlines"
    assert isinstance(request.clips[0], Clip) and isinstance(request.clips[2], Clip)
    invalid, misplaced = request.clips[1], request.clips[3]
    assert (invalid.code, invalid.where.split(",")[0]) == ("invalid_json", "line 2")
    assert (misplaced.code, misplaced.where) == ("misplaced_option", "line 5, top_k")


@pytest.mark.parametrize("kind", ["application/jsonl", "application/x-ndjson", "Application/JSONLines"])
def test_json_lines_under_other_content_types(kind: str) -> None:
    request = decode(dumps(ONE), kind, LAYOUT, LIMITS)
    assert request.many and request.content_type == "application/jsonlines"


def test_too_many_lines() -> None:
    with pytest.raises(InputError) as caught:
        decode(dumps(ONE) + b"\n{}" * 4, "application/jsonlines", LAYOUT, LIMITS)
    assert caught.value.code == "too_many_clips"


def test_real_requests_of_the_browser_client(shared_data) -> None:
    files = sorted((shared_data / "requests").glob("*.json"))
    assert files
    for file in files:
        body = file.read_bytes()
        for name in BUILT_IN:
            layout = load_layout(name)
            decoded = layout.select(decode(body, "application/json", layout, Limits()).clips[0])
            # compare with a slow and simple decoder
            frames = json.loads(body)["keypoints"]
            for t in (0, len(frames) // 2, len(frames) - 1):
                for column, landmark in enumerate(layout.landmarks):
                    index = landmark.index["mediapipe"]
                    if index < 543:
                        part = next(p for p in MEDIAPIPE.parts if index < MEDIAPIPE.part(p).stop)
                        landmarks = frames[t][f"{part}_landmarks"]
                        start = MEDIAPIPE.part(part).start
                        point = landmarks[index - start] if landmarks else {"x": np.nan, "y": np.nan}
                        np.testing.assert_array_equal(decoded[t, column], np.float32([point["x"], point["y"]]))


def test_an_unused_point_out_of_range_is_no_error() -> None:
    points = figure_clip("mediapipe", gaps=False).points.astype(float)
    unused = MEDIAPIPE.names.index("pose_left_ankle")
    points[3, unused] = (0.5, 11)
    clip = read({"estimator": "mediapipe", "points": points.tolist()})
    assert np.isnan(clip.points[3, unused]).all() and not np.isnan(clip.points[2, unused]).any()
    points[3, MEDIAPIPE.names.index("pose_left_wrist")] = (0.5, 11)
    with pytest.raises(InputError, match="frame 3, point pose_left_wrist"):
        read({"estimator": "mediapipe", "points": points.tolist()})


@pytest.mark.parametrize(("outside", "pixels"), [(0.5, False), (0.52, True)])
def test_points_count_as_pixels_if_more_than_half_lie_outside_the_picture(outside: float, pixels: bool) -> None:
    points = np.full((1, 54, 2), 0.5)
    points.reshape(-1)[: int(outside * 108)] = 1.5
    decoded = read({"layout": 54, "points": points.tolist(), "width": 2, "height": 2}).points
    np.testing.assert_allclose(decoded, points / 2 if pixels else points)


@pytest.mark.parametrize("confidence", [0, -0.5, None])
def test_an_openpose_point_without_confidence_is_missing(confidence: float | None) -> None:
    body = openpose(figure_clip("openpose", 2, gaps=False))
    body["frames"][1]["people"][0]["pose_keypoints_2d"][2] = confidence
    points = read(body).points
    assert np.isnan(points[1, 0]).all() and not np.isnan(points[0, 0]).any()
