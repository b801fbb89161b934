"""Requests of the clients: the compact form, in as few requests as the limits allow."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import numpy as np
import pytest

from spoter.client import AsyncClient, Client, InputError, Prediction, RequestError
from spoter.errors import SpoterError
from spoter.landmarks.estimators import ESTIMATORS, MEDIAPIPE
from spoter.landmarks.layouts import load_layout
from tests import ROOT
from tests.generate import figure, figure_clip
from tests.http_double import ANSWER

LAYOUT = load_layout("54")
MEDIAPIPES = [landmark.index["mediapipe"] for landmark in LAYOUT.landmarks]
DESCRIPTION = {
    "name": "m", "version": "1", "glosses": ["HALLO"], "enrolled": [],
    "layout": {"name": "54", "landmarks": LAYOUT.names, "mediapipe": MEDIAPIPES},
    "estimator": "mediapipe", "tells_unknown": True, "enrolment": True,
    "limits": {"max_frames": 512, "max_clips": 4, "max_bytes": 20_000, "max_enrolled": 100},
    "content_types": ["application/json"], "video": False, "spoter": "0.2.0",
}  # fmt: skip


def reply(body: dict) -> tuple:
    """Answer like a server; each clip's answer holds its number of frames, and a clip of 7 frames is an error."""
    if "describe" in body:
        return 200, DESCRIPTION, {}
    if "clips" not in body:
        return 200, ANSWER, {}
    answers = []
    for i, clip in enumerate(body["clips"]):
        frames = len(clip["points"])
        error = {"error": {"code": "out_of_range", "message": "found 11", "where": f"clip {i}, frame 3"}}
        answers.append(error if frames == 7 else ANSWER | {"frames": frames})
    return (400 if all("error" in answer for answer in answers) else 200), {"answers": answers}, {}


def sent(double) -> list[dict]:
    return [json.loads(body) for body in double.bodies if b"describe" not in body]


def test_importing_the_client_imports_no_heavy_library():
    heavy = ("torch", "pandas", "onnxruntime", "h5py", "PIL", "typer", "tqdm", "spoter.serving")
    probe = f"import sys, spoter.client; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_compact_form_is_small_and_marks_missing_points(connect, double):
    points = figure(MEDIAPIPE, 60).astype(np.float64)
    points[0, 0] = np.nan
    points[1, 0, 1] = np.nan  # a point with one coordinate is missing
    double.answers = [reply]
    connect(double.url).predict(points, fps=25, top_k=3)
    (body,) = double.bodies
    assert 45_000 < len(body) < 55_000
    document = json.loads(body)
    assert {key: document[key] for key in document if key != "points"} == {"layout": "54", "fps": 25, "top_k": 3}
    sent_points = document["points"]
    assert sent_points[0][0] is None and sent_points[1][0] is None
    array = np.array([[point or [np.nan] * 2 for point in frame] for frame in sent_points])
    expected = LAYOUT.select(figure_clip("mediapipe", 60, gaps=False))
    expected[0, 0] = expected[1, 0] = np.nan
    np.testing.assert_allclose(array, expected, atol=5e-5 + 1e-7)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_arrays_of_every_estimator_are_sent_in_the_layout(connect, double, name):
    double.answers = [reply]
    clip = figure_clip(name)
    connect(double.url).predict(clip.points, estimator=name)
    connect(double.url).predict(clip.points.tolist())
    connect(double.url).predict(clip)
    pixels = clip.points.astype(np.float64) * (640, 480)
    connect(double.url).predict(pixels, width=640, height=480)
    bodies = sent(double)
    assert {len(body["points"][0]) for body in bodies} == {54}
    assert [body["points"] for body in bodies] == 4 * [bodies[0]["points"]]


def test_unknown_layout_is_requested_once(double):
    double.answers = [reply]
    with Client(double.url) as client:
        client.predict(figure(MEDIAPIPE))
        client.predict(figure(MEDIAPIPE))
    assert [b"describe" in body for body in double.bodies] == [True, False, False]


@pytest.mark.parametrize("clip", [figure_clip("mediapipe"), ROOT / "samples" / "hallo.json"], ids=["Clip", "file"])
def test_given_layout_is_used_without_a_request_for_it(double, clip):
    double.answers = [reply]
    with Client(double.url) as client:
        client.predict(clip, layout=29)
        (document,) = sent(double)
        assert len(double.bodies) == 1 and document["layout"] == "29" and len(document["points"][0]) == 29
        client.predict_many([clip], layout=29)  # requests the limits
        assert sent(double)[1]["clips"] == [document]


def test_masked_points_are_sent_as_missing(connect, double):
    points = np.ma.masked_array(figure(MEDIAPIPE, 3).astype(np.float64), mask=False)
    points[:, MEDIAPIPE.part("left_hand")] = np.ma.masked
    client = connect(double.url)
    for clip in (
        points,
        points.filled(np.nan),
        {"layout": 54, "points": np.ma.masked_array(np.ones((1, 2)), [[0, 1]])},
    ):
        client.predict(clip)
    masked, missing, document = sent(double)
    assert masked == missing and masked["points"][0].count(None) == 21
    assert document["points"] == [[1.0, None]]


def test_clips_for_a_custom_layout_are_sent_in_it_or_whole(double):
    layout = {"name": "my.csv", "landmarks": ["pose_nose", "neck of mine"], "mediapipe": [0, 543]}
    double.answers = [lambda body: (200, DESCRIPTION | {"layout": layout}, {}) if "describe" in body else reply(body)]
    with Client(double.url) as client:
        clip = np.concatenate([figure(MEDIAPIPE), np.full((20, 1, 2), 0.25, dtype=np.float32)], axis=1)
        client.predict(clip)
        client.predict(figure_clip("openpose"))  # the description holds no indices of OpenPose's points
    compact, full = sent(double)
    assert compact["layout"] == "my.csv" and compact["points"][0][1] == [0.25, 0.25]
    assert full["estimator"] == "openpose" and len(full["points"][0]) == 137 and "layout" not in full


def test_document_is_sent_unchanged(connect, double):
    document = {"keypoints": [{"pose_landmarks": []}], "note": np.float32(0.5), "list": np.array([1.0, np.nan])}
    connect(double.url).predict(document, top_k=2, fps=30)
    assert sent(double) == [document | {"note": 0.5, "list": [1.0, None], "top_k": 2, "fps": 30}]


def test_file_with_one_clip_is_sent_in_the_layout(connect, double, samples):
    connect(double.url).predict(samples / "hallo.json")
    connect(double.url).predict(str(samples / "software.npy"))
    assert [(body["layout"], len(body["points"])) for body in sent(double)] == [("54", 79), ("54", 92)]
    with pytest.raises(SpoterError, match=r"2 clips, .*predict_many"):
        connect(double.url).predict(samples / "ich-welt.jsonl")
    with pytest.raises(SpoterError, match="No such file"):
        connect(double.url).predict("absent.npy")


@pytest.mark.parametrize(
    ("clip", "options", "code"),
    [
        (np.zeros((3, 7, 2)), {}, "wrong_point_count"),
        (np.zeros((3, 54)), {}, "wrong_shape"),
        (np.zeros((3, 53, 2)), {"layout": 54}, "wrong_point_count"),
        (np.zeros((0, 54, 2)), {}, "no_frames"),
        (np.full((3, 54, 2), 300.0), {}, "out_of_range"),
        (np.full((3, 54, 2), np.nan), {}, "no_usable_frames"),
        (np.full((3, 133, 2), 300.0), {}, "missing_image_size"),
        (np.zeros((3, 133, 2)), {"estimator": "mediapipe"}, "wrong_estimator"),
        (np.zeros((3, 54, 2)), {"estimator": "dancer"}, "unknown_estimator"),
        ([[[0.5, 0.5]] * 54, [[0.5, 0.5]] * 53], {}, "wrong_type"),
        ([[["left"]]], {}, "wrong_type"),
        (np.zeros((3, 54, 2), dtype=complex), {}, "wrong_type"),
        ({"points": object()}, {}, "wrong_type"),
        ({"points": "\ud800"}, {}, "wrong_type"),
        (np.full((3, 54, 2), 300.0), {"width": -640, "height": -480}, "wrong_type"),
        (np.zeros((3, 54, 2)), {"fps": "25"}, "wrong_type"),
        (np.zeros((3, 54, 2)), {"top_k": 0}, "wrong_type"),
    ],
)
def test_unusable_clip_is_an_error_before_it_is_sent(connect, double, clip, options, code):
    with pytest.raises(InputError) as caught:
        connect(double.url).predict(clip, **options)
    assert caught.value.code == code and double.bodies == []


def test_wrong_use_is_an_error_before_a_request(connect, double):
    for key, method in (("clips", "predict_many"), ("enroll", "enroll"), ("describe", "describe")):
        with pytest.raises(SpoterError, match=f"{key}.*{method}"):
            connect(double.url).predict({key: []})
    with pytest.raises(TypeError, match="unexpected keyword"):
        connect(double.url).predict({"points": []}, topk=3)
    for clip in ({"points": []}, clips(3)[0], figure_clip("mediapipe")):
        double.answers = [reply]
        with pytest.raises(SpoterError, match="one clip"):
            connect(double.url).predict_many(clip)
    with pytest.raises(InputError, match="NoneType") as caught:
        connect(double.url).enroll(None, clips(3))
    assert caught.value.code == "bad_gloss"
    assert sent(double) == []
    for wrong in ({"timeout": 0}, {"max_clips": -1}, {"max_bytes": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            connect(double.url, **wrong).predict(clips(3)[0])


def clips(*frames: int) -> list[np.ndarray]:
    return [np.full((count, 54, 2), 0.5) for count in frames]


def test_many_clips_share_requests_and_keep_their_order(connect, double):
    double.answers = [reply]
    many = [*clips(1, 2, 3), [["no array"]], *clips(4, 7, 5, 6, 8, 9)]
    results = connect(double.url).predict_many(many, top_k=2)
    assert sorted(len(body["clips"]) for body in sent(double)) == [1, 4, 4]
    assert {body["top_k"] for body in sent(double)} == {2}
    assert [result.frames if isinstance(result, Prediction) else result.code for result in results] == [
        1, 2, 3, "wrong_type", 4, "out_of_range", 5, 6, 8, 9,
    ]  # fmt: skip
    assert isinstance(results[5], RequestError) and results[5].where == "clip 5, frame 3"
    assert not isinstance(results[3], RequestError) and results[3].where == "clip 3"


def test_requests_stay_below_the_limit_of_bytes(connect, double):
    double.answers = [reply]
    results = connect(double.url).predict_many(
        clips(*[12] * 9, 40, *[1] * 5)
    )  # the clip of 40 frames exceeds the limit
    sizes = [len(body) for body in double.bodies if b"describe" not in body]
    assert [result.frames for result in results] == [*[12] * 9, 40, *[1] * 5]
    assert sorted(size > 20_000 for size in sizes) == [False] * (len(sizes) - 1) + [True]
    assert len(sizes) < 9 and sum(len(body["clips"]) for body in sent(double)) == 15


def test_limits_of_the_client_override_the_models(connect, double):
    double.answers = [reply]
    connect(double.url, max_clips=2, max_bytes=3_000).predict_many(clips(1, 1, 1, 2, 2))
    assert max(len(body["clips"]) for body in sent(double)) == 2 and max(map(len, double.bodies)) <= 3_000


def test_request_in_which_all_clips_are_wrong_raises_no_exception(connect, double):
    double.answers = [reply]
    results = connect(double.url).predict_many(clips(7, 7))
    assert [(type(error), error.where) for error in results] == [
        (RequestError, "clip 0, frame 3"), (RequestError, "clip 1, frame 3"),
    ]  # fmt: skip
    assert connect(double.url).predict_many([]) == []


def test_body_that_is_too_large_is_an_error_of_its_clips_only(connect, double):
    def refuse_large(body):
        if "clips" in body and len(body["clips"][0]["points"]) > 30:
            return 413, b"", {}
        return reply(body)

    double.answers = [refuse_large]
    results = connect(double.url).predict_many(clips(3, 40, 4))
    assert [getattr(result, "code", None) for result in results] == [None, "body_too_large", None]
    assert results[1].where == "clip 1" and results[1].status == 413


def test_request_refused_for_another_reason_raises_the_error(connect, double):
    refusal = {"error": {"code": "bad_enrolled", "message": "found no prototype", "where": "enrolled"}}
    double.answers = [lambda body: (200, DESCRIPTION, {}) if "describe" in body else (400, refusal, {})]
    with pytest.raises(RequestError) as caught:
        connect(double.url).predict_many(clips(3, 4))
    assert (caught.value.code, caught.value.where) == ("bad_enrolled", "enrolled")


def test_file_with_several_clips_is_sent_in_one_request(connect, double, samples):
    double.answers = [reply]
    results = connect(double.url, max_bytes=200_000).predict_many(samples / "ich-welt.jsonl")
    assert [result.frames for result in results] == [68, 118] and len(sent(double)) == 1


def test_number_of_parallel_requests_is_bounded_by_concurrency(double):
    async def run(concurrency: int) -> int:
        double.max_waiting = 0
        async with AsyncClient(double.url, max_clips=1) as client:
            await client.predict_many(clips(*range(8, 30)), concurrency=concurrency)
        return double.max_waiting

    double.answers = [reply]
    assert asyncio.run(run(3)) == 3
    assert asyncio.run(run(1)) == 1


def test_enroll_and_predict_send_the_glosses_learned_before(connect, double):
    learned = {"space": "s", "glosses": [{"gloss": "NEW", "clips": 2, "prototype": [0.6, 0.8]}]}
    answer = {"enrolled": learned, "agreement": 0.5, "nearest": "HALLO", "similarity": 0.25}
    double.answers = [(200, answer, {})]
    client = connect(double.url)
    first = client.enroll("NEW", clips(3, 4))
    assert (first.agreement, first.nearest, first.similarity) == (0.5, "HALLO", 0.25)
    client.enroll("NEWER", clips(3), enrolled=first)
    double.answers = [reply]
    client.predict(clips(3)[0], enrolled=first)
    client.predict_many(clips(3), enrolled=first.enrolled)
    one, two, three, four = sent(double)
    assert one["enroll"] == "NEW" and len(one["clips"]) == 2 and "enrolled" not in one
    assert two["enrolled"] == three["enrolled"] == four["enrolled"] == learned
    with pytest.raises(InputError, match=r"^clip 1: .*\b7\b"):
        client.enroll("NEW", [clips(3)[0], np.zeros((3, 7, 2))])
