"""What a client meets: answers, errors, metrics and logs of a real TorchServe with the default model."""

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
PLANTED = "0.123456789", "987.654321"  # coordinates that must show up in no log


def points(frames: int = 12, **keys) -> dict:
    """A request in the project's own form, of a drawn figure; keys are added or replaced."""
    array = figure(ESTIMATORS["mediapipe"], frames)
    return {"estimator": "mediapipe", "points": array.round(4).tolist()} | keys


def spoil(frame: int, point: int, value: object) -> dict:
    request = points()
    request["points"][frame][point] = value
    return request


def csv(rows: int = 12, header: Callable[[list[str]], list[str]] = list, row: Callable[[list], list] = list) -> bytes:
    """A wide table of the pose's landmarks and both hands'; `header` and `row` spoil it."""
    mediapipe = ESTIMATORS["mediapipe"]
    array = figure(mediapipe, rows)
    kept = [i for i, name in enumerate(mediapipe.names) if not name.startswith("face")]
    columns = [f"{mediapipe.names[i]}_{axis}" for i in kept for axis in "xy"]
    lines = [header(columns), *(row(frame) for frame in array[:, kept].reshape(rows, 2 * len(kept)).round(4).tolist())]
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
    """Answer a request without a server, in as many threads as a worker has."""
    torch.set_num_threads(1)
    recognizer = Recognizer.load(dgs11)

    def answer(body: bytes, content_type: str) -> Response:
        (response,), _ = respond(recognizer, [RawRequest(body, content_type)])
        return response

    return answer


@pytest.fixture(scope="module", autouse=True)
def same_worker(server):
    """Nothing in this module may end the worker: after all of it the same process is still READY."""
    before = server.describe()["workers"]
    yield
    after = server.describe()["workers"]
    assert [(w["pid"], w["status"]) for w in after] == [(w["pid"], "READY") for w in before]
    assert "Backend worker process died" not in server.logs()


def test_health(server):
    reply = send(server.port, "GET", "/ping")
    assert (reply.status, reply.json) == (200, {"status": "Healthy"})


def test_the_archives_settings_are_honoured(server):
    model = server.describe()
    assert (model["batchSize"], model["maxBatchDelay"], model["responseTimeout"]) == (8, 1, 60)
    assert (model["minWorkers"], model["maxWorkers"]) == (1, 1)  # TS_DEFAULT_WORKERS_PER_MODEL of the fixture


def test_the_archive_is_self_contained(server):
    for module in ("spoter", "typer", "h5py"):
        done = subprocess.run([server.python, "-c", f"import {module}"], capture_output=True, cwd=server.folder)
        assert b"ModuleNotFoundError" in done.stderr, module
    found = re.search(r"spoter from (\S+)", server.logs())
    assert found is not None and Path(found[1]).is_relative_to(server.folder)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_a_sample_is_answered_as_in_process(server, in_process, sample):
    reply = server.predict(sample.read_bytes(), CONTENT_TYPES[sample.suffix])
    expected = in_process(sample.read_bytes(), CONTENT_TYPES[sample.suffix])
    assert (reply.status, reply.headers["content-type"]) == (200, expected.content_type)
    assert reply.body == expected.body


def test_spoter_predict_says_the_same(server, dgs11):
    sample = next(path for path in SAMPLES if path.suffix == ".json")
    command = [sys.executable, "-m", "spoter", "predict", str(dgs11), str(sample)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.rstrip(b"\n") == server.predict(sample.read_bytes(), JSON).body.rstrip(b"\n")


def test_put_as_curl_does(server):
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


def test_a_form_and_stray_parameters(server):
    part = b'--b\r\nContent-Disposition: form-data; name="data"; filename="x.json"\r\nContent-Type: application/json'
    form = part + b"\r\n\r\n" + text(points()) + b"\r\n--b--\r\n"
    assert server.predict(form, "multipart/form-data; boundary=b").status == 200
    # parameters and headers may be named like one another, or like the body
    path = "/predictions/spoter?body=x&content-type=y&data=z"
    headers = {"Content-Type": JSON, "body": "x", "data": "x"}
    assert send(server.port, "POST", path, text(points()), headers).status == 200


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input(server, name):
    body, content_type, status, code = BAD_INPUTS[name]
    reply = server.predict(body, content_type)
    assert reply.status == status, reply.body
    assert reply.headers["content-type"].startswith(JSON)
    answer = reply.json["answers"][0] if "answers" in reply.json else reply.json
    assert answer["error"]["code"] == code
    assert set(answer["error"]) == {"code", "message", "where"} and answer["error"]["message"]
    assert b"Traceback" not in reply.body


def test_a_body_over_torchserves_own_limit_is_413_too(server):
    """TorchServe answers before it has read it, by the length that is announced."""
    headers = {"Content-Type": JSON, "Content-Length": str(64 * 1024 * 1024), "Expect": "100-continue"}
    assert send(server.port, "POST", "/predictions/spoter", b"", headers).status == 413


def test_one_bad_clip_of_several_leaves_the_others_alone(server):
    reply = server.predict(text({"clips": [points(), {"keypoints": []}, points(9)]}), JSON)
    assert reply.status == 200
    answers = reply.json["answers"]
    assert [next(iter(answer)) for answer in answers] == ["instances", "error", "instances"]
    assert answers[1]["error"]["where"].startswith("clip 1")


def test_a_batch_of_good_and_bad(server, in_process):
    """Requests that share a forward get the answer that each gets alone."""
    rows = [text(points(frames)) for frames in (5, 9, 17, 30)]
    requests = [(row, JSON) for row in rows] + [BAD_INPUTS[name][:2] for name in ("not JSON", "1e30", "ragged CSV")]
    alone = [server.predict(*request) for request in requests]
    for _ in range(20):  # until the clients were quick enough for a batch of several
        batches = ours(server)["DecodeTime_count"]
        with ThreadPoolExecutor(4 * len(requests)) as pool:
            together = list(pool.map(lambda request: server.predict(*request), requests * 4))
        for got, expected in zip(together, alone * 4, strict=True):
            assert got.status == expected.status
            if got.status == 200:
                scores, wanted = ([i["score"] for i in reply.json["instances"]] for reply in (got, expected))
                np.testing.assert_allclose(scores, wanted, atol=1e-5)
                assert got.json["frames"] == expected.json["frames"]
            else:
                assert got.body == expected.body
        if ours(server)["DecodeTime_count"] - batches < len(together):
            return
    raise AssertionError("no two requests ever shared a batch")


def ours(server) -> dict[str, float]:
    """Return our metrics once they stand still: TorchServe reads them from the worker's output, later."""
    found: list[dict[str, float]] = [{}, {}]
    deadline = time.monotonic() + 30
    while (not found[-1] or found[-1] != found[-2]) and time.monotonic() < deadline:
        time.sleep(0.5)
        lines = send(server.metrics, "GET", "/metrics").body.decode().splitlines()
        mine = [line for line in lines if 'ModelName="spoter"' in line]
        found.append({line.split("{")[0]: float(line.split()[-1]) for line in mine})
    return found[-1]


def test_metrics(server):
    server.predict(text(points(7)), JSON)
    before = ours(server)
    server.predict(text(points(7)), JSON)
    server.predict(b"{nonsense", JSON)
    after = ours(server)
    assert after["Frames"] - before["Frames"] == 7
    assert after["BadInputs"] - before["BadInputs"] == 1
    assert after["Videos"] == 0  # there, though nothing was counted
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
    # What TorchServe's front end itself answers, and by its own settings would write down: forms, queries, bad paths.
    form = f'data={{"note": "100% sure", "x": {low}}}'.encode()
    assert server.predict(form, "application/x-www-form-urlencoded").status == 500
    assert send(server.port, "GET", f"/predictions/spoter?x={low}").status == 400
    logs = server.logs()
    assert "an exception in" in logs
    assert "POST /predictions/spoter" in logs  # they are there, and hold the requests
    for value in PLANTED:
        assert value not in logs


def test_it_describes_itself(server, in_process, monkeypatch):
    """To whoever asks by a request, and in TorchServe's own description."""
    monkeypatch.setattr(
        "spoter.formats.video_format.videos_supported", lambda: False
    )  # here they may be; there they are not
    reply = server.predict(b'{"describe": true}', JSON)
    model = send(server.management, "GET", "/models/spoter?customized=true").json[0]
    assert reply.status == 200 and model["customizedMetadata"] == reply.json
    told, ours = reply.json, json.loads(in_process(b'{"describe": true}', JSON).body)
    assert {CSV, JSON} <= set(told["content_types"])
    for document in (told, ours):  # whether videos are read is each environment's own
        for key in ("content_types", "limits", "video"):
            document.pop(key)
    assert told == ours and told["name"] == "dgs11"
    assert "customizedMetadata" not in server.describe()
    # a client's header is no question of TorchServe's
    assert server.predict(b"", describe="True").json["error"]["code"] in ("empty_body", "unsupported_content_type")


def test_a_sign_of_ones_own(server, in_process):
    """Learned by one request and named by the next: the server keeps nothing in between."""
    request = text({"enroll": "GREETING", "clips": [points(), points(15)]})
    learned = server.predict(request, JSON)
    assert (learned.status, learned.body) == (200, in_process(request, JSON).body)
    with_it, without = text(points(enrolled=learned.json["enrolled"])), text(points())
    named = server.predict(with_it, JSON)
    assert named.json["instances"][0]["gloss"] == "GREETING" and named.body == in_process(with_it, JSON).body
    assert server.predict(without, JSON).body == in_process(without, JSON).body


def test_no_page_of_another_origin_may_ask_unless_told_otherwise(server):
    reply = server.predict(text(points()), JSON, Origin="https://signs.example")
    assert reply.status == 200 and not any(name.startswith("access-control") for name in reply.headers)


def test_the_model_api_is_closed(server, model_store):
    url = f"/models?url=file://{model_store}/spoter.mar&model_name=other"
    assert send(server.management, "POST", url).status == 405
