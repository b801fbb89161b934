"""The archive inside SageMaker's container code, by both ways in: the answers of every door, errors with a reason."""

from __future__ import annotations

import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import yaml

from spoter.aws.local.endpoint import LocalEndpoint
from spoter.landmarks.estimators import ESTIMATORS
from spoter.messages import RawRequest
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond
from tests import ROOT
from tests.aws.local.fixtures import invoke, runtime_client
from tests.generate import figure
from tests.wire import dumps, npy

pytestmark = pytest.mark.server

SAMPLES = {
    "hallo.json": "application/json",
    "zeigen-compact.json": "application/json",
    "deutschland.csv": "text/csv",
    "mainz-long.csv": "text/csv",
    "software.npy": "application/x-npy",
    "ich-welt.jsonl": "application/jsonlines",
}


@pytest.fixture(scope="module", params=["local_endpoint", "functions_endpoint"])
def endpoint(request) -> LocalEndpoint:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load(ROOT / "models" / "dgs11")


def clip(frames: int) -> bytes:
    points = figure(ESTIMATORS["mediapipe"], frames).round(4)
    return dumps({"estimator": "mediapipe", "points": np.where(np.isnan(points), None, points).tolist()})


def model(endpoint: LocalEndpoint, query: str = "") -> dict:
    """Return what TorchServe's management API says of the model."""
    with urllib.request.urlopen(f"{endpoint.container.root}/models/model{query}") as answer:
        return json.load(answer)[0]


def test_every_sample_is_here():
    assert set(SAMPLES) == {path.name for path in (ROOT / "samples").iterdir()} - {"README.md", "make_samples.py"}


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("accept", [None, "application/json", "application/jsonlines", "text/csv"])
def test_answers_the_bytes_that_every_door_answers(endpoint, recognizer, sample, accept):
    body = (ROOT / "samples" / sample).read_bytes()
    options = {"CustomAttributes": "top_k=3"} | ({"Accept": accept} if accept else {})
    status, content_type, answer = invoke(runtime_client(endpoint), body, SAMPLES[sample], **options)
    ((expected,), _) = respond(recognizer, [RawRequest(body, SAMPLES[sample], accept, "top_k=3")])
    assert (status, content_type, answer) == (200, expected.content_type, expected.body)


@pytest.mark.parametrize(
    ("body", "content_type", "options", "status", "code"),
    [
        (b"{nonsense", "application/json", {}, 400, "invalid_json"),
        (b"\xff\xfe{}", "application/json", {}, 400, "invalid_json"),
        (b"\xff", "text/csv", {}, 400, "invalid_csv"),
        (b"", "application/json", {}, 400, "empty_body"),
        (b"{}", "application/json; charset=utf-8", {}, 400, "unknown_form"),
        (b"x", "text/plain", {}, 415, "unsupported_content_type"),
        (b"x", "multipart/form-data", {}, 415, "unsupported_content_type"),
        (b"no array", "application/x-npy", {}, 400, "invalid_npy"),
        (b"{\n", "application/jsonlines", {}, 400, "invalid_json"),
        (None, "application/json", {"Accept": "image/png"}, 406, "not_acceptable"),
        (None, "application/json", {"CustomAttributes": "top_k=none"}, 400, "bad_attributes"),
    ],
)
def test_a_wrong_request_gets_our_reason(endpoint, body, content_type, options, status, code):
    found, _, answer = invoke(runtime_client(endpoint), clip(4) if body is None else body, content_type, **options)
    assert found == status
    assert json.loads(answer)["error"]["code"] == code  # one document, no traceback


def test_what_the_model_knows_and_a_sign_of_ones_own(endpoint, recognizer):
    client, clips = runtime_client(endpoint), [json.loads(clip(frames)) for frames in (20, 24)]
    status, _, told = invoke(client, b'{"describe": true}', "application/json")
    assert status == 200 and json.loads(told)["glosses"] == list(recognizer.glosses)
    assert model(endpoint, "?customized=true")["customizedMetadata"] == json.loads(told)
    learning = dumps({"enroll": "OWN", "clips": clips})
    status, _, learned = invoke(client, learning, "application/json")
    assert (status, learned) == (200, respond(recognizer, [RawRequest(learning, "application/json")])[0][0].body)
    naming = dumps(clips[0] | {"enrolled": json.loads(learned)["enrolled"]})
    status, _, named = invoke(client, naming, "application/json")
    assert status == 200 and json.loads(named)["instances"][0]["gloss"] == "OWN"


def test_one_bad_clip_of_a_request_leaves_the_others(endpoint):
    line = clip(5)
    body = line + b"\n{nonsense\n" + line + b"\n"
    status, _, answer = invoke(runtime_client(endpoint), body, "application/jsonlines")
    documents = [json.loads(line) for line in answer.splitlines()]
    assert status == 200 and documents[0] == documents[2] and documents[1]["error"]["code"] == "invalid_json"


def test_one_bad_request_among_many_fails_alone(endpoint, recognizer):
    """At once, so that they share batches where there are batches."""
    bodies = [b"{nonsense" if i % 7 == 3 else clip(40 + i) for i in range(28)]
    client = runtime_client(endpoint)
    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(lambda body: invoke(client, body, "application/json"), bodies))
    for i, (body, (status, _, answer)) in enumerate(zip(bodies, answers, strict=True)):
        if i % 7 == 3:
            assert status == 400 and json.loads(answer)["error"]["code"] == "invalid_json"
        else:
            assert status == 200 and json.loads(answer)["frames"] == 40 + i
            ((alone,), _) = respond(recognizer, [RawRequest(body, "application/json")])
            found, expected = (json.loads(document)["instances"][0] for document in (answer, alone.body))
            # Neighbours change the last bits of a sum, and so may turn a rounded score's last decimal.
            assert found["gloss"] == expected["gloss"] and abs(found["score"] - expected["score"]) < 1.5e-4


def test_our_own_settings_of_batches_are_in_force(local_endpoint):
    settings = yaml.safe_load((ROOT / "handler" / "model-config.yaml").read_text())
    del settings["handler"]  # which only the handler reads
    found = model(local_endpoint)
    assert settings and {name: found[name] for name in settings} == settings
    assert [worker["status"] for worker in found["workers"]] == ["READY"]


def test_requests_share_forwards(local_endpoint):
    before, requests = forwards(local_endpoint), 24
    client, body = runtime_client(local_endpoint), clip(100)
    with ThreadPoolExecutor(requests) as pool:
        answers = list(pool.map(lambda _: invoke(client, body, "application/json"), range(requests)))
    assert {status for status, *_ in answers} == {200}
    assert requests / model(local_endpoint)["batchSize"] <= forwards(local_endpoint) - before < requests


def forwards(endpoint: LocalEndpoint) -> int:
    """Return how often the handler was called: TorchServe measures each call, and goes on writing after an answer."""
    found = [-2, -1]
    while found[-1] != found[-2]:
        time.sleep(0.5)
        found.append((endpoint.container.logs / "model_metrics.log").read_text().count("PredictionTime."))
    return found[-1]


def test_the_functions_answer_one_by_one(functions_endpoint):
    assert model(functions_endpoint)["batchSize"] == 1


def test_an_array_of_points_is_named_by_its_attributes(endpoint):
    points = figure(ESTIMATORS["mediapipe"], 6)
    status, _, answer = invoke(
        runtime_client(endpoint), npy(points), "application/x-npy", CustomAttributes="top_k=1,estimator=mediapipe"
    )
    assert status == 200 and len(json.loads(answer)["instances"]) == 1
