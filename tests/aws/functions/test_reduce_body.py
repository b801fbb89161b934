"""Requests above the endpoint's limit: reduced to the points that the model uses, with the same answer."""

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
    """Return a clip with MediaPipe's points, some missing, and as many digits as from a browser."""
    rng = np.random.default_rng(seed)
    points = figure(MEDIAPIPE, frames) + rng.normal(0, 1e-3, (frames, len(MEDIAPIPE.names), 2))
    points[rng.random(points.shape[:2]) < 0.1] = np.nan
    points[frames // 2, MEDIAPIPE.part("left_hand")] = np.nan
    return Clip(points.astype(np.float32), MEDIAPIPE.names, MEDIAPIPE.name)


def layout_of(proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Layout:
    """Let the proxy, which is new in each test, reduce for a model with this layout; return the layout."""
    (tmp_path / "kept_points.json").write_text(json.dumps(kept_points(load_layout(name))))
    monkeypatch.setattr(proxy, "__file__", str(tmp_path / "endpoint_proxy.py"))
    return load_layout(name)


def decoded(body: bytes, layout: Layout, attributes: str | None = None) -> list[np.ndarray]:
    """Return the points that the server decodes from a body: those of the layout, for each clip."""
    limits = Limits(max_bytes=100_000_000)
    request = decode(body, "application/json", layout, limits, parse_attributes(attributes))
    return [layout.select(clip) for clip in request.clips]


@pytest.mark.parametrize("layout", BUILT_IN)
@pytest.mark.parametrize("refined", [False, True])
def test_used_points_do_not_change(proxy, tmp_path, monkeypatch, layout, refined):
    layout = layout_of(proxy, tmp_path, monkeypatch, layout)
    first, second = holistic(clip(6), refined), holistic(clip(4, 1), refined)
    for key in ("keypoints", "keypoints_list", "frames"):
        for document in ({key: first["keypoints"], "top_k": 3, "fps": 25}, {"clips": [first, second], "top_k": 3}):
            body = dumps(document)
            reduced = proxy.reduce_body(body)
            assert len(reduced) < len(body) / (3 if layout.name == "71" else 8)
            assert json.loads(reduced)["top_k"] == 3
            for before, after in zip(decoded(body, layout), decoded(reduced, layout), strict=True):
                np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("size_in", ["body", "clip", "attributes"])
def test_pixels_are_detected_with_the_same_points(proxy, tmp_path, monkeypatch, size_in):
    layout = layout_of(proxy, tmp_path, monkeypatch, "54")
    points = clip(3)
    # Most points of layout 54 lie inside the picture, but most of all sent points lie outside it.
    unused = np.setdiff1d(np.arange(33), kept_points(layout)["points"]["pose_landmarks"])
    for part in ("left_hand", "right_hand"):
        points.points[:, MEDIAPIPE.part(part)] = np.nan
    points.points[:, unused] = 1.5
    size = {"width": 640, "height": 480}
    document, attributes = holistic(points), None
    if size_in == "attributes":
        attributes = "width=640,height=480"
    elif size_in == "body":
        document |= size
    else:
        document = {"clips": [document | size]}
    body = dumps(document)
    reduced = proxy.reduce_body(body, attributes)
    assert len(reduced) < len(body) / 4
    [before], [after] = decoded(body, layout, attributes), decoded(reduced, layout, attributes)
    np.testing.assert_array_equal(before, after)
    assert np.nanmax(before) < 0.01  # the coordinates were detected as pixels


@pytest.mark.parametrize("fault", ["count", "text", "frame", "hand", "unused", "true", "people", "instances"])
def test_reduced_request_gets_the_same_error(proxy, runtime, recognizer, fault):
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
def test_other_bodies_are_not_reduced(proxy, body):
    assert proxy.reduce_body(body) is None


def test_errors_in_parts_without_used_points_stay(proxy, tmp_path, monkeypatch):
    """A custom layout without a left hand: the server still checks the points of the left hand."""
    rows = (Path(layouts.__file__).parent / "tables" / "points_54.csv").read_text().splitlines()
    table = tmp_path / "right.csv"
    table.write_text("\n".join(row for row in rows if "leftHand" not in row))
    layout = layout_of(proxy, tmp_path, monkeypatch, str(table))
    document = holistic(clip(2))
    body = dumps(document)
    np.testing.assert_array_equal(decoded(body, layout)[0], decoded(proxy.reduce_body(body), layout)[0])
    document["keypoints"][0]["left_hand_landmarks"] = [{"x": "left"}]
    body = dumps(document)
    for variant in (body, proxy.reduce_body(body)):
        with pytest.raises(InputError) as error:
            decoded(variant, layout)
        assert error.value.where.startswith("frame 0, ")


def test_nothing_is_reduced_for_a_layout_that_mediapipe_lacks(proxy, tmp_path, monkeypatch):
    head, *rows = (Path(layouts.__file__).parent / "tables" / "points_54.csv").read_text().splitlines()
    cells = [row.split(",") for row in rows]
    table = tmp_path / "openpose.csv"
    table.write_text("\n".join([head, *(",".join([*row[:2], "", *row[3:]]) for row in cells)]))
    layout_of(proxy, tmp_path, monkeypatch, str(table))
    assert proxy.reduce_body(dumps(holistic(clip(2)))) is None


def test_large_event_gets_the_same_answer(proxy, runtime, recognizer, log_lines, monkeypatch):
    body = dumps(holistic(clip(150)))
    monkeypatch.setenv("SPOTER_PAYLOAD_LIMIT", "4194304")
    assert len(body) > 4_194_304
    [expected] = respond(recognizer, [RawRequest(body)])[0]
    reply = proxy.handler(v2(body=body.decode(), headers={"content-type": "application/json"}), Context())
    assert (reply["statusCode"], json.loads(reply["body"])) == (200, json.loads(expected.body))
    assert len(runtime.requests[-1].body) == log_lines()[-1]["reduced"] < 700_000
    assert proxy.handler(json.loads(body), Context()) == json.loads(expected.body)["instances"]


def test_request_at_the_limit_is_sent_unchanged(proxy, runtime, samples, monkeypatch):
    body = (samples / "hallo.json").read_bytes()
    event = v2(body=body.decode(), headers={})
    monkeypatch.setenv("SPOTER_PAYLOAD_LIMIT", str(len(body)))
    assert proxy.handler(event, Context())["statusCode"] == 200
    monkeypatch.setenv("SPOTER_PAYLOAD_LIMIT", str(len(body) - 1))
    assert proxy.handler(event, Context())["statusCode"] == 200
    first, second = runtime.requests
    assert first.body == body and len(second.body) < len(body)


@pytest.mark.parametrize("sample", ["hallo.json", "ich-welt.jsonl"])
def test_request_that_cannot_be_reduced_enough_is_refused(proxy, runtime, samples, monkeypatch, sample):
    monkeypatch.setenv("SPOTER_PAYLOAD_LIMIT", "1000")
    reply = proxy.handler(v2(body=(samples / sample).read_text()), Context())
    error = json.loads(reply["body"])["error"]
    assert (reply["statusCode"], error["code"], runtime.requests) == (413, "body_too_large", [])
    assert "1000" in error["message"]


def test_recorded_requests_of_the_browser(proxy, runtime, recognizer, shared_data):
    bodies = [path.read_bytes() for path in sorted((shared_data / "requests").glob("*.json"))]
    assert len(bodies) == 5
    for body in bodies:
        reduced = proxy.reduce_body(body)
        assert len(reduced) < len(body) / 2
        before, after = respond(recognizer, [RawRequest(body), RawRequest(reduced)])[0]
        assert (before.status, before.body) == (200, after.body)
