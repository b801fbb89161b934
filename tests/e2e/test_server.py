"""Answers, errors, metrics and logs of a real TorchServe with the bundled model."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from spoter.landmarks.estimators import ESTIMATORS
from spoter.messages import RawRequest, Response
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond
from tests import ROOT
from tests.e2e.live import send
from tests.generate import figure

JSON, CSV = "application/json", "text/csv"
CONTENT_TYPES = {".json": JSON, ".csv": CSV, ".jsonl": "application/jsonlines", ".npy": "application/x-npy"}
SAMPLES = sorted(path for path in (ROOT / "samples").iterdir() if path.suffix in CONTENT_TYPES)
PLANTED = "0.123456789", "987.654321"  # coordinates that must not appear in logs


def points(frames: int = 12, **keys) -> dict:
    """Return a request with the points of a drawn figure; `keys` are added or replaced."""
    array = figure(ESTIMATORS["mediapipe"], frames)
    return {"estimator": "mediapipe", "points": array.round(4).tolist()} | keys


def spoil(frame: int, point: int, value: object) -> dict:
    request = points()
    request["points"][frame][point] = value
    return request


def csv(rows: int = 12, header: Callable[[list[str]], list[str]] = list, row: Callable[[list], list] = list) -> bytes:
    """Return a wide table of the landmarks of pose and hands; `header` and `row` may spoil it."""
    mediapipe = ESTIMATORS["mediapipe"]
    array = figure(mediapipe, rows)
    used = [i for i, name in enumerate(mediapipe.names) if not name.startswith("face")]
    columns = [f"{mediapipe.names[i]}_{axis}" for i in used for axis in "xy"]
    lines = [header(columns), *(row(frame) for frame in array[:, used].reshape(rows, 2 * len(used)).round(4).tolist())]
    return "\n".join(",".join(map(str, line)) for line in lines).encode()


def text(request: object) -> bytes:
    return json.dumps(request).encode()


# name: body, content type, status, code
BAD_INPUTS: dict[str, tuple[bytes | None, str | None, int, str]] = {
    "no body": (None, JSON, 400, "empty_body"),
    "empty body": (b"", JSON, 400, "empty_body"),
    "blank body": (b" \n", CSV, 400, "empty_body"),
    "not JSON": (b"{nonsense", JSON, 400, "invalid_json"),
    "JSON cut short": (text(points())[:-40], JSON, 400, "invalid_json"),
    "not UTF-8": (b'{"keypoints": "\xff\xfe"}', JSON, 400, "invalid_json"),
    "NaN in JSON": (text(spoil(3, 0, [float("nan"), 0.5])), JSON, 400, "invalid_json"),
    "Infinity in JSON": (text(spoil(3, 0, [float("inf"), 0.5])), JSON, 400, "invalid_json"),
    "a list": (b"[1, 2, 3]", JSON, 400, "unknown_form"),
    "no known key": (b'{"landmarks": []}', JSON, 400, "unknown_form"),
    "two forms": (text(points() | {"keypoints": []}), JSON, 400, "ambiguous_form"),
    "text for a number": (text(spoil(3, 0, ["left", 0.5])), JSON, 400, "wrong_type"),
    "points not a list": (b'{"points": 7}', JSON, 400, "wrong_type"),
    "keypoints not a list": (b'{"keypoints": "x"}', JSON, 400, "wrong_type"),
    "top_k of 0": (text(points(top_k=0)), JSON, 400, "wrong_type"),
    "wrong point count": (text({"points": [[[0.5, 0.5]] * 7] * 3}), JSON, 400, "wrong_point_count"),
    "frames of two sizes": (
        text({"points": [[[0.5, 0.5]] * 543, [[0.5, 0.5]] * 542]}), JSON, 400, "wrong_point_count"),
    "a pose of 32 points": (
        text({"keypoints": [{"pose_landmarks": [{"x": 0.5, "y": 0.5}] * 32}]}), JSON, 400, "wrong_point_count"),
    "no frames": (b'{"keypoints": []}', JSON, 400, "no_frames"),
    "no usable frames": (b'{"keypoints": [{}, {"pose_landmarks": []}, null]}', JSON, 400, "no_usable_frames"),
    "1e30": (text(spoil(3, 0, [1e30, 0.5])), JSON, 400, "out_of_range"),
    "beyond a double": (text(spoil(3, 0, ["BIG", 0.5])).replace(b'"BIG"', b"1e999"), JSON, 400, "out_of_range"),
    "pixels": (text(points(points=(640 * figure(ESTIMATORS["mediapipe"], 4)).tolist())), JSON, 400, "out_of_range"),
    "unknown estimator": (text(points(estimator="dancer")), JSON, 400, "unknown_estimator"),
    "unknown layout": (text({"layout": 55, "points": [[[0.5, 0.5]] * 55]}), JSON, 400, "unknown_layout"),
    "another layout": (text({"layout": 29, "points": [[[0.5, 0.5]] * 29]}), JSON, 400, "wrong_layout"),
    "too many frames": (text({"points": [None] * 513}), JSON, 400, "too_many_frames"),
    "too many clips": (text({"clips": [{}] * 65}), JSON, 400, "too_many_clips"),
    "no clips": (b'{"clips": []}', JSON, 400, "no_clips"),
    "all clips bad": (b'{"clips": [{"keypoints": []}, {"nonsense": 1}]}', JSON, 400, "no_frames"),
    "unknown content type": (b"x", "image/png", 415, "unsupported_content_type"),
    "curl -d": (text(points()), "application/x-www-form-urlencoded", 415, "unsupported_content_type"),
    "no content type": (csv(), None, 415, "unsupported_content_type"),
    "too large": (b" " * (25 * 1024 * 1024 + 1), JSON, 413, "body_too_large"),
    "ragged CSV": (csv(row=lambda row: row[:-1]), CSV, 400, "ragged_csv"),
    "missing columns": (
        csv(header=lambda h: h[1:], row=lambda row: row[1:]), CSV, 400, "missing_columns"),
    "a CSV of something else": (b"a,b\n1,2\n", CSV, 400, "unknown_form"),
    "text in a CSV cell": (csv(row=lambda row: ["left", *row[1:]]), CSV, 400, "wrong_type"),
    "Infinity in CSV": (csv(row=lambda row: ["inf", *row[1:]]), CSV, 400, "out_of_range"),
    "a CSV without rows": (csv(rows=0), CSV, 400, "no_frames"),
    "not an array": (b"x" * 100, "application/x-npy", 400, "invalid_npy"),
    "JSON Lines with a bad line": (b"{nonsense\n", "application/jsonlines", 400, "invalid_json"),
}  # fmt: skip


@pytest.fixture(scope="module")
def in_process(dgs11: Path) -> Callable[[bytes, str], Response]:
    """Return a function that answers a request without a server, with the threads of a worker."""
    torch.set_num_threads(1)
    recognizer = Recognizer.load(dgs11)

    def answer(body: bytes, content_type: str) -> Response:
        (response,), _ = respond(recognizer, [RawRequest(body, content_type)])
        return response

    return answer


@pytest.fixture(scope="module", autouse=True)
def same_worker(server):
    """Check that no test of this module ends the worker: after them the same process is still READY."""
    before = server.describe()["workers"]
    yield
    after = server.describe()["workers"]
    assert [(w["pid"], w["status"]) for w in after] == [(w["pid"], "READY") for w in before]
    assert "Backend worker process died" not in server.logs()


def test_ping_is_healthy(server):
    reply = send(server.port, "GET", "/ping")
    assert (reply.status, reply.json) == (200, {"status": "Healthy"})


def test_the_settings_of_the_archive_apply(server):
    model = server.describe()
    assert (model["batchSize"], model["maxBatchDelay"], model["responseTimeout"]) == (8, 1, 60)
    assert (model["minWorkers"], model["maxWorkers"]) == (1, 1)  # TS_DEFAULT_WORKERS_PER_MODEL of the fixture


def test_the_archive_is_self_contained(server):
    for module in ("spoter", "typer", "h5py"):
        done = subprocess.run([server.python, "-c", f"import {module}"], capture_output=True, cwd=server.folder)
        assert b"ModuleNotFoundError" in done.stderr, module
    logged = re.search(r"spoter from (\S+)", server.logs())
    assert logged is not None and Path(logged[1]).is_relative_to(server.folder)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_samples_are_answered_as_in_process(server, in_process, sample):
    reply = server.predict(sample.read_bytes(), CONTENT_TYPES[sample.suffix])
    expected = in_process(sample.read_bytes(), CONTENT_TYPES[sample.suffix])
    assert (reply.status, reply.headers["content-type"]) == (200, expected.content_type)
    assert reply.body == expected.body


def test_spoter_predict_prints_the_same_answer(server, dgs11):
    sample = next(path for path in SAMPLES if path.suffix == ".json")
    command = [sys.executable, "-m", "spoter", "predict", str(dgs11), str(sample)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.rstrip(b"\n") == server.predict(sample.read_bytes(), JSON).body.rstrip(b"\n")


def test_put_is_accepted_because_curl_sends_it(server):
    reply = send(server.port, "PUT", "/predictions/spoter", text(points()), {"content-type": JSON})
    assert reply.status == 200


def test_headers_are_read_in_any_spelling(server):
    body = text(points())
    headers = {"CONTENT_TYPE": f"{JSON}; charset=utf-8", "x_amzn_sagemaker_custom_attributes": "top_k=2"}
    reply = server.predict(body, **headers)
    assert len(reply.json["instances"]) == 2
    reply = server.predict(body, JSON, ACCEPT=CSV)
    assert reply.status == 200 and reply.headers["content-type"].startswith(CSV)
    assert server.predict(body, JSON, Accept="image/png").status == 406
    reply = server.predict(body, JSON, X_Amzn_SageMaker_Custom_Attributes="top_k=zero")
    assert (reply.status, reply.json["error"]["code"]) == (400, "bad_attributes")


def test_forms_and_other_parameters_are_accepted(server):
    part = b'--b\r\nContent-Disposition: form-data; name="data"; filename="x.json"\r\nContent-Type: application/json'
    form = part + b"\r\n\r\n" + text(points()) + b"\r\n--b--\r\n"
    assert server.predict(form, "multipart/form-data; boundary=b").status == 200
    # parameters and headers may have equal names, also the name of the body
    path = "/predictions/spoter?body=x&content-type=y&data=z"
    headers = {"Content-Type": JSON, "body": "x", "data": "x"}
    assert send(server.port, "POST", path, text(points()), headers).status == 200


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_gets_its_status_and_code(server, name):
    body, content_type, status, code = BAD_INPUTS[name]
    reply = server.predict(body, content_type)
    assert reply.status == status, reply.body
    assert reply.headers["content-type"].startswith(JSON)
    answer = reply.json["answers"][0] if "answers" in reply.json else reply.json
    assert answer["error"]["code"] == code
    assert set(answer["error"]) == {"code", "message", "where"} and answer["error"]["message"]
    assert b"Traceback" not in reply.body


def test_a_body_over_torchserves_limit_gets_413(server):
    """TorchServe answers before it reads the body, based on its Content-Length."""
    headers = {"Content-Type": JSON, "Content-Length": str(64 * 1024 * 1024), "Expect": "100-continue"}
    assert send(server.port, "POST", "/predictions/spoter", b"", headers).status == 413


def test_a_bad_clip_does_not_affect_the_others(server):
    reply = server.predict(text({"clips": [points(), {"keypoints": []}, points(9)]}), JSON)
    assert reply.status == 200
    answers = reply.json["answers"]
    assert [next(iter(answer)) for answer in answers] == ["instances", "error", "instances"]
    assert answers[1]["error"]["where"].startswith("clip 1")


def test_requests_of_a_batch_get_the_answers_of_single_requests(server, in_process):
    """Also if good and bad requests share a batch."""
    rows = [text(points(frames)) for frames in (5, 9, 17, 30)]
    requests = [(row, JSON) for row in rows] + [BAD_INPUTS[name][:2] for name in ("not JSON", "1e30", "ragged CSV")]
    alone = [server.predict(*request) for request in requests]
    for _ in range(20):  # until the clients are fast enough for a batch of several requests
        batches = read_metrics(server)["DecodeTime_count"]
        with ThreadPoolExecutor(4 * len(requests)) as pool:
            together = list(pool.map(lambda request: server.predict(*request), requests * 4))
        for got, expected in zip(together, alone * 4, strict=True):
            assert got.status == expected.status
            if got.status == 200:
                scores, single = ([i["score"] for i in reply.json["instances"]] for reply in (got, expected))
                np.testing.assert_allclose(scores, single, atol=1e-5)
                assert got.json["frames"] == expected.json["frames"]
            else:
                assert got.body == expected.body
        if read_metrics(server)["DecodeTime_count"] - batches < len(together):
            return
    raise AssertionError("no two requests shared a batch")


def read_metrics(server) -> dict[str, float]:
    """Return the handler's metrics when they no longer change: TorchServe reads them from the worker's output."""
    readings: list[dict[str, float]] = [{}, {}]
    deadline = time.monotonic() + 30
    while (not readings[-1] or readings[-1] != readings[-2]) and time.monotonic() < deadline:
        time.sleep(0.5)
        lines = send(server.metrics, "GET", "/metrics").body.decode().splitlines()
        model_lines = [line for line in lines if 'ModelName="spoter"' in line]
        readings.append({line.split("{")[0]: float(line.split()[-1]) for line in model_lines})
    return readings[-1]


def test_metrics_count_frames_and_bad_inputs(server):
    server.predict(text(points(7)), JSON)
    before = read_metrics(server)
    server.predict(text(points(7)), JSON)
    server.predict(b"{nonsense", JSON)
    after = read_metrics(server)
    assert after["Frames"] - before["Frames"] == 7
    assert after["BadInputs"] - before["BadInputs"] == 1
    assert after["Videos"] == 0  # present without any video
    for name, batches in (("DecodeTime", 2), ("NormalizeTime", 1), ("ForwardTime", 1)):
        assert after[f"{name}_count"] - before[f"{name}_count"] == batches
        assert after[f"{name}_sum"] > 0


def test_no_landmark_is_written_to_a_log(server):
    low, high = map(float, PLANTED)
    requests = [
        (text(spoil(3, 0, [low, low])), JSON, 200),
        (text(spoil(3, 0, [high, low])), JSON, 400),
        (text(spoil(3, 0, [PLANTED[0], PLANTED[1]])), JSON, 400),
        (text(spoil(3, 0, [high, low]))[:-9], JSON, 400),
        (csv(row=lambda row: [low, *row[1:]]), CSV, 200),
        (csv(row=lambda row: [high, low, *row[2:]]), CSV, 400),
        (csv(row=lambda row: [high, *row, low]), CSV, 400),
    ]
    assert [server.predict(*request[:2]).status for request in requests] == [status for *_, status in requests]
    # TorchServe's front end answers these itself, and would log forms, queries and bad paths with its default settings.
    form = f'data={{"note": "100% sure", "x": {low}}}'.encode()
    assert server.predict(form, "application/x-www-form-urlencoded").status == 500
    assert send(server.port, "GET", f"/predictions/spoter?x={low}").status == 400
    logs = server.logs()
    assert "an exception in" in logs
    assert "POST /predictions/spoter" in logs  # the logs exist and contain the requests
    for value in PLANTED:
        assert value not in logs


def test_the_model_is_described(server, in_process, monkeypatch):
    """In the answer to a request, and in TorchServe's description of the model."""
    monkeypatch.setattr(
        "spoter.formats.video_format.videos_supported", lambda: False
    )  # as in the environment of the server
    reply = server.predict(b'{"describe": true}', JSON)
    model = send(server.management, "GET", "/models/spoter?customized=true").json[0]
    assert reply.status == 200 and model["customizedMetadata"] == reply.json
    served, local = reply.json, json.loads(in_process(b'{"describe": true}', JSON).body)
    assert {CSV, JSON} <= set(served["content_types"])
    for document in (served, local):  # these depend on the support for videos in each environment
        for key in ("content_types", "limits", "video"):
            document.pop(key)
    assert served == local and served["name"] == "dgs11"
    assert "customizedMetadata" not in server.describe()
    # the header of a client is not TorchServe's request for the description
    assert server.predict(b"", describe="True").json["error"]["code"] in ("empty_body", "unsupported_content_type")


def test_an_enrolled_gloss_travels_with_requests(server, in_process):
    """One request enrolls it, the next one uses it: the server stores nothing between them."""
    request = text({"enroll": "GREETING", "clips": [points(), points(15)]})
    learned = server.predict(request, JSON)
    assert (learned.status, learned.body) == (200, in_process(request, JSON).body)
    with_it, without = text(points(enrolled=learned.json["enrolled"])), text(points())
    named = server.predict(with_it, JSON)
    assert named.json["instances"][0]["gloss"] == "GREETING" and named.body == in_process(with_it, JSON).body
    assert server.predict(without, JSON).body == in_process(without, JSON).body


def test_pages_of_other_origins_get_no_cors_headers_by_default(server):
    reply = server.predict(text(points()), JSON, Origin="https://signs.example")
    assert reply.status == 200 and not any(name.startswith("access-control") for name in reply.headers)


def test_the_model_api_is_closed(server, model_store):
    url = f"/models?url=file://{model_store}/spoter.mar&model_name=other"
    assert send(server.management, "POST", url).status == 405
