"""The archive in SageMaker's container code, with both entry points: the same answers and errors as elsewhere."""

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
    """Return the model's description by TorchServe's management API."""
    with urllib.request.urlopen(f"{endpoint.container.root}/models/model{query}") as answer:
        return json.load(answer)[0]


def test_all_samples_are_tested():
    assert set(SAMPLES) == {path.name for path in (ROOT / "samples").iterdir()} - {"README.md", "make_samples.py"}


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("accept", [None, "application/json", "application/jsonlines", "text/csv"])
def test_answers_equal_those_of_respond(endpoint, recognizer, sample, accept):
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
def test_invalid_request_gets_the_error_code(endpoint, body, content_type, options, status, code):
    returned, _, answer = invoke(runtime_client(endpoint), clip(4) if body is None else body, content_type, **options)
    assert returned == status
    assert json.loads(answer)["error"]["code"] == code  # one JSON document without a traceback


def test_describe_and_enroll_requests(endpoint, recognizer):
    client, clips = runtime_client(endpoint), [json.loads(clip(frames)) for frames in (20, 24)]
    status, _, description = invoke(client, b'{"describe": true}', "application/json")
    assert status == 200 and json.loads(description)["glosses"] == list(recognizer.glosses)
    assert model(endpoint, "?customized=true")["customizedMetadata"] == json.loads(description)
    enrollment = dumps({"enroll": "OWN", "clips": clips})
    status, _, enrolled = invoke(client, enrollment, "application/json")
    assert (status, enrolled) == (200, respond(recognizer, [RawRequest(enrollment, "application/json")])[0][0].body)
    request = dumps(clips[0] | {"enrolled": json.loads(enrolled)["enrolled"]})
    status, _, answer = invoke(client, request, "application/json")
    assert status == 200 and json.loads(answer)["instances"][0]["gloss"] == "OWN"


def test_invalid_clip_does_not_affect_the_others(endpoint):
    line = clip(5)
    body = line + b"\n{nonsense\n" + line + b"\n"
    status, _, answer = invoke(runtime_client(endpoint), body, "application/jsonlines")
    documents = [json.loads(line) for line in answer.splitlines()]
    assert status == 200 and documents[0] == documents[2] and documents[1]["error"]["code"] == "invalid_json"


def test_invalid_request_does_not_affect_concurrent_requests(endpoint, recognizer):
    """The requests are concurrent, so that they share batches if the entry point has batches."""
    bodies = [b"{nonsense" if i % 7 == 3 else clip(40 + i) for i in range(28)]
    client = runtime_client(endpoint)
    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(lambda body: invoke(client, body, "application/json"), bodies))
    for i, (body, (status, _, answer)) in enumerate(zip(bodies, answers, strict=True)):
        if i % 7 == 3:
            assert status == 400 and json.loads(answer)["error"]["code"] == "invalid_json"
        else:
            assert status == 200 and json.loads(answer)["frames"] == 40 + i
            ((single,), _) = respond(recognizer, [RawRequest(body, "application/json")])
            best, expected = (json.loads(document)["instances"][0] for document in (answer, single.body))
            # Other clips in a batch change the last bits of a sum, and so may change the last decimal of a score.
            assert best["gloss"] == expected["gloss"] and abs(best["score"] - expected["score"]) < 1.5e-4


def test_batch_settings_of_the_archive_are_used(local_endpoint):
    settings = yaml.safe_load((ROOT / "handler" / "model-config.yaml").read_text())
    del settings["handler"]  # read by the handler only
    description = model(local_endpoint)
    assert settings and {name: description[name] for name in settings} == settings
    assert [worker["status"] for worker in description["workers"]] == ["READY"]


def test_concurrent_requests_share_forward_passes(local_endpoint):
    before, requests = forwards(local_endpoint), 24
    client, body = runtime_client(local_endpoint), clip(100)
    with ThreadPoolExecutor(requests) as pool:
        answers = list(pool.map(lambda _: invoke(client, body, "application/json"), range(requests)))
    assert {status for status, *_ in answers} == {200}
    assert requests / model(local_endpoint)["batchSize"] <= forwards(local_endpoint) - before < requests


def forwards(endpoint: LocalEndpoint) -> int:
    """Return the number of handler calls, from TorchServe's metrics, which it may still write after an answer."""
    counts = [-2, -1]
    while counts[-1] != counts[-2]:
        time.sleep(0.5)
        counts.append((endpoint.container.logs / "model_metrics.log").read_text().count("PredictionTime."))
    return counts[-1]


def test_entry_point_functions_has_no_batches(functions_endpoint):
    assert model(functions_endpoint)["batchSize"] == 1


def test_attributes_describe_an_array_of_points(endpoint):
    points = figure(ESTIMATORS["mediapipe"], 6)
    status, _, answer = invoke(
        runtime_client(endpoint), npy(points), "application/x-npy", CustomAttributes="top_k=1,estimator=mediapipe"
    )
    assert status == 200 and len(json.loads(answer)["instances"]) == 1
