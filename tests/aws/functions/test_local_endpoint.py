"""`endpoint_proxy.handler` with real boto3 and the endpoint of `spoter deploy --local`."""

from __future__ import annotations

import base64
import json

import pytest

from tests.aws.functions.lambda_runtime import Context, set_environment
from tests.aws.functions.test_events import v1, v2
from tests.aws.functions.test_reduce_body import clip
from tests.wire import dumps, holistic


@pytest.fixture(autouse=True)
def _environment(local_endpoint, monkeypatch):
    set_environment(monkeypatch, local_endpoint.url)


def test_web_client_gets_five_glosses(proxy, samples):
    hallo = json.loads((samples / "hallo.json").read_text())
    reply = proxy.handler(hallo, Context())
    assert [set(entry) for entry in reply] == [{"gloss", "score", "index"}] * 5
    assert reply[0]["gloss"] == "HALLO"
    assert proxy.handler({"keypoints_list": hallo["keypoints"]}, Context()) == reply
    assert proxy.handler({"default": hallo["keypoints"]}, Context()) == reply


@pytest.mark.parametrize("event", [v1, v2])
def test_gateway_gets_the_accepted_format(proxy, samples, event):
    array = base64.b64encode((samples / "software.npy").read_bytes()).decode()
    headers = {"content-type": "application/x-npy", "accept": "text/csv"}
    request = event(body=array, isBase64Encoded=True, headers=headers, queryStringParameters={"top_k": "2"})
    reply = proxy.handler(request, Context())
    assert (reply["statusCode"], reply["headers"]["Content-Type"]) == (200, "text/csv")
    assert len(reply["body"].splitlines()) == 3 and ",SOFTWARE," in reply["body"]


def test_errors_of_the_server_are_returned(proxy, samples):
    hallo = json.loads((samples / "hallo.json").read_text())
    hallo["keypoints"][3]["pose_landmarks"].pop()
    assert proxy.handler(hallo, Context())["errorType"] == "wrong_point_count"
    reply = proxy.handler(v2(body=json.dumps(hallo), headers={"content-type": "application/json"}), Context())
    assert (reply["statusCode"], json.loads(reply["body"])["error"]["where"]) == (400, "frame 3, pose_landmarks")
    reply = proxy.handler(v2(body="x", headers={"content-type": "image/png"}), Context())
    assert (reply["statusCode"], json.loads(reply["body"])["error"]["code"]) == (415, "unsupported_content_type")


def test_wrong_endpoint_name_is_logged_but_not_returned(proxy, monkeypatch, log_text):
    monkeypatch.setenv("SPOTER_ENDPOINT", "another")
    reply = proxy.handler(v2(body="{}"), Context())
    assert (reply["statusCode"], json.loads(reply["body"])["error"]["code"]) == (500, "endpoint_refused")
    assert "another" in log_text() and "another" not in reply["body"]


def test_request_above_the_endpoints_limit_is_reduced_and_answered(proxy, log_lines):
    body = dumps(holistic(clip(230)))
    assert len(body) > 6_291_456
    reply = proxy.handler(v2(body=body.decode(), headers={"content-type": "application/json"}), Context())
    assert (reply["statusCode"], json.loads(reply["body"])["frames"]) == (200, 230)
    assert log_lines()[-1]["reduced"] < 6_291_456
