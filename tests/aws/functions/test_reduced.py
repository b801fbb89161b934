"""What is too large for the endpoint is reduced to what the model is fed, and answered as if it had not been."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spoter.aws.functions.build_proxy import kept_points
from spoter.errors import InputError
from spoter.formats import Limits, decode
from spoter.formats.request import parse_attributes
from spoter.landmarks import layouts
from spoter.landmarks.clip import Clip
from spoter.landmarks.estimators import MEDIAPIPE, OPENPOSE, WHOLEPOSE
from spoter.landmarks.layouts import BUILT_IN, Layout, load_layout
from spoter.messages import RawRequest
from spoter.serving.service import respond
from tests.aws.functions.lambda_runtime import Context
from tests.aws.functions.test_events import v2
from tests.generate import figure
from tests.wire import dumps, holistic, mmpose, openpose


def clip(frames: int, seed: int = 0) -> Clip:
    """Return a clip of MediaPipe's points with holes, coordinates as long as a browser's."""
    rng = np.random.default_rng(seed)
    points = figure(MEDIAPIPE, frames) + rng.normal(0, 1e-3, (frames, len(MEDIAPIPE.names), 2))
    points[rng.random(points.shape[:2]) < 0.1] = np.nan
    points[frames // 2, MEDIAPIPE.part("left_hand")] = np.nan
    return Clip(points.astype(np.float32), MEDIAPIPE.names, MEDIAPIPE.name)


def layout_of(proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Layout:
    """Have the proxy, which is new in each test, reduce for a model of this layout, and return that."""
    (tmp_path / "kept_points.json").write_text(json.dumps(kept_points(load_layout(name))))
    monkeypatch.setattr(proxy, "__file__", str(tmp_path / "endpoint_proxy.py"))
    return load_layout(name)


def decoded(body: bytes, layout: Layout, attributes: str | None = None) -> list[np.ndarray]:
    """Return what the server takes out of a body: the layout's points of each clip."""
    limits = Limits(max_bytes=100_000_000)
    request = decode(body, "application/json", layout, limits, parse_attributes(attributes))
    return [layout.select(clip) for clip in request.clips]


@pytest.mark.parametrize("layout", BUILT_IN)
@pytest.mark.parametrize("refined", [False, True])
def test_what_the_model_is_fed_stays_to_the_last_bit(proxy, tmp_path, monkeypatch, layout, refined):
    layout = layout_of(proxy, tmp_path, monkeypatch, layout)
    one, two = holistic(clip(6), refined), holistic(clip(4, 1), refined)
    for key in ("keypoints", "keypoints_list", "frames"):
        for document in ({key: one["keypoints"], "top_k": 3, "fps": 25}, {"clips": [one, two], "top_k": 3}):
            body = dumps(document)
            less = proxy.reduce_body(body)
            assert len(less) < len(body) / (3 if layout.name == "71" else 8)
            assert json.loads(less)["top_k"] == 3
            for before, after in zip(decoded(body, layout), decoded(less, layout), strict=True):
                np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("place", ["body", "clip", "attributes"])
def test_pixels_are_told_by_the_same_points(proxy, tmp_path, monkeypatch, place):
    layout = layout_of(proxy, tmp_path, monkeypatch, "54")
    points = clip(3)
    # Of the points of layout 54 most lie within the picture, of all those that are sent most lie beyond it.
    unused = np.setdiff1d(np.arange(33), kept_points(layout)["points"]["pose_landmarks"])
    for part in ("left_hand", "right_hand"):
        points.points[:, MEDIAPIPE.part(part)] = np.nan
    points.points[:, unused] = 1.5
    size = {"width": 640, "height": 480}
    document, attributes = holistic(points), None
    if place == "attributes":
        attributes = "width=640,height=480"
    elif place == "body":
        document |= size
    else:
        document = {"clips": [document | size]}
    body = dumps(document)
    less = proxy.reduce_body(body, attributes)
    assert len(less) < len(body) / 4
    [before], [after] = decoded(body, layout, attributes), decoded(less, layout, attributes)
    np.testing.assert_array_equal(before, after)
    assert np.nanmax(before) < 0.01  # the case is what it is made for: it counts as pixels


@pytest.mark.parametrize("fault", ["count", "text", "frame", "hand", "unused", "true", "people", "instances"])
def test_a_fault_is_told_alike(proxy, runtime, recognizer, fault):
    document = holistic(clip(4))
    frame = document["keypoints"][2]
    if fault == "count":
        frame["pose_landmarks"].pop()
    elif fault == "text":
        frame["pose_landmarks"][15] = {"x": "left", "y": 0.5}
    elif fault == "frame":
        document["keypoints"][2] = "no frame"
    elif fault in ("unused", "true"):
        assert 9 not in kept_points(recognizer.layout)["points"]["pose_landmarks"]
        frame["pose_landmarks"][9]["y"] = "low" if fault == "unused" else True
    elif fault in ("people", "instances"):  # two estimators in one frame
        frame[fault] = []
    else:
        frame["right_hand_landmarks"] = {"x": 1}
    body = dumps(document)
    before, after = respond(recognizer, [RawRequest(body), RawRequest(proxy.reduce_body(body))])[0]
    assert before.status == 400
    assert json.loads(before.body) == json.loads(after.body)


@pytest.mark.parametrize(
    "body",
    [
        b"clip,rank\n",
        b"\x93NUMPY\xff",
        b"[" * 100_000,
        b"[1]",
        b"{}",
        b'{"keypoints": [{"pose_landmarks": [{"x": NaN}]}]}',
        b'{"keypoints": [{"pose_landmarks": [{"x": 1e999}]}]}',
        '{"keypoints": [{"pose_landmarks": []}]}'.encode("utf-16"),
        b'{"keypoints": [{"pose_landmarks": []}], "\xed\xa0\x80": 1}',
        b'{"keypoints": 7, "clips": 7}',
        dumps({"keypoints": [None, 3, {}]}),
        dumps(openpose(Clip(figure(OPENPOSE, 2), OPENPOSE.names, OPENPOSE.name))),
        dumps(mmpose(Clip(figure(WHOLEPOSE, 2), WHOLEPOSE.names, WHOLEPOSE.name))),
    ],
)
def test_what_is_no_frames_of_mediapipe_is_left_alone(proxy, body):
    assert proxy.reduce_body(body) is None


def test_parts_that_the_server_reads_though_no_point_is_used_keep_their_faults(proxy, tmp_path, monkeypatch):
    """A layout of one's own, without a left hand: what is there must still be points."""
    rows = (Path(layouts.__file__).parent / "tables" / "points_54.csv").read_text().splitlines()
    table = tmp_path / "right.csv"
    table.write_text("\n".join(row for row in rows if "leftHand" not in row))
    layout = layout_of(proxy, tmp_path, monkeypatch, str(table))
    document = holistic(clip(2))
    body = dumps(document)
    np.testing.assert_array_equal(decoded(body, layout)[0], decoded(proxy.reduce_body(body), layout)[0])
    document["keypoints"][0]["left_hand_landmarks"] = [{"x": "left"}]
    body = dumps(document)
    for sent in (body, proxy.reduce_body(body)):
        with pytest.raises(InputError, match="expected"):
            decoded(sent, layout)


def test_nothing_is_reduced_for_a_model_that_mediapipe_cannot_feed(proxy, tmp_path, monkeypatch):
    head, *rows = (Path(layouts.__file__).parent / "tables" / "points_54.csv").read_text().splitlines()
    cells = [row.split(",") for row in rows]
    table = tmp_path / "openpose.csv"
    table.write_text("\n".join([head, *(",".join([*row[:2], "", *row[3:]]) for row in cells)]))
    layout_of(proxy, tmp_path, monkeypatch, str(table))
    assert proxy.reduce_body(dumps(holistic(clip(2)))) is None


def test_too_large_an_event_is_answered_as_one_that_is_not(proxy, runtime, recognizer, lines, monkeypatch):
    body = dumps(holistic(clip(150)))
    monkeypatch.setenv("SPOTER_PAYLOAD_LIMIT", "4194304")
    assert len(body) > 4_194_304
    [expected] = respond(recognizer, [RawRequest(body)])[0]
    reply = proxy.handler(v2(body=body.decode(), headers={"content-type": "application/json"}), Context())
    assert (reply["statusCode"], json.loads(reply["body"])) == (200, json.loads(expected.body))
    assert len(runtime.asked[-1].body) == lines()[-1]["reduced"] < 700_000
    assert proxy.handler(json.loads(body), Context()) == json.loads(expected.body)["instances"]


def test_a_request_at_the_limit_is_sent_as_it_is(proxy, runtime, samples, monkeypatch):
    body = (samples / "hallo.json").read_bytes()
    event = v2(body=body.decode(), headers={})
    monkeypatch.setenv("SPOTER_PAYLOAD_LIMIT", str(len(body)))
    assert proxy.handler(event, Context())["statusCode"] == 200
    monkeypatch.setenv("SPOTER_PAYLOAD_LIMIT", str(len(body) - 1))
    assert proxy.handler(event, Context())["statusCode"] == 200
    first, second = runtime.asked
    assert first.body == body and len(second.body) < len(body)


@pytest.mark.parametrize(("sample", "found"), [("hallo.json", "are left without"), ("ich-welt.jsonl", "only JSON")])
def test_what_cannot_be_reduced_enough_is_refused_with_a_reason(proxy, runtime, samples, monkeypatch, sample, found):
    monkeypatch.setenv("SPOTER_PAYLOAD_LIMIT", "1000")
    reply = proxy.handler(v2(body=(samples / sample).read_text()), Context())
    error = json.loads(reply["body"])["error"]
    assert (reply["statusCode"], error["code"], runtime.asked) == (413, "body_too_large", [])
    assert found in error["message"] and "at most 1000" in error["message"]


def test_real_requests_of_the_browser(proxy, runtime, recognizer, shared_data):
    bodies = [path.read_bytes() for path in sorted((shared_data / "requests").glob("*.json"))]
    assert len(bodies) == 5
    for body in bodies:
        less = proxy.reduce_body(body)
        assert len(less) < len(body) / 2
        before, after = respond(recognizer, [RawRequest(body), RawRequest(less)])[0]
        assert (before.status, before.body) == (200, after.body)
