"""`endpoint_proxy.handler` from its zip file, with real boto3 and an emulated endpoint."""

from __future__ import annotations

import ast
import base64
import io
import json
import socket
import sys
import zipfile
from pathlib import Path

import pytest

from spoter.aws.functions.build_proxy import build
from spoter.ops.ports import LOOPBACK
from tests.aws.functions.lambda_runtime import Context, ErrorResponse, model_error
from tests.aws.functions.test_events import v1, v2

THROTTLED = ErrorResponse()
# TorchServe's answer when its queue is full, recorded with 200 concurrent clients and one worker.
FULL = model_error(503, '{"code": 503, "type": "ServiceUnavailableException", "message": "no worker"}')
EMPTY = "{}"


@pytest.fixture
def hallo(samples: Path) -> dict:
    return json.loads((samples / "hallo.json").read_text())


def code(reply: dict) -> str:
    """Return the error code of a direct or an HTTP reply."""
    return (reply.get("error") or json.loads(reply["body"])["error"])["code"]


def test_web_client_gets_five_glosses(proxy, runtime, hallo):
    reply = proxy.handler(hallo, Context())
    assert [set(entry) for entry in reply] == [{"gloss", "score", "index"}] * 5
    assert reply[0]["gloss"] == "HALLO" and reply[0]["score"] > reply[1]["score"]
    assert proxy.handler({"keypoints_list": hallo["keypoints"]}, Context()) == reply
    assert proxy.handler({"default": hallo["keypoints"]}, Context()) == reply
    assert [request.path for request in runtime.requests] == ["/endpoints/spoter/invocations"] * 3


def test_probe_does_not_invoke_the_endpoint(proxy, runtime):
    assert proxy.handler({"default": []}, Context()) == {"alive": True, "endpoint": "spoter"}
    assert runtime.requests == []


@pytest.mark.parametrize("event", [v1, v2])
def test_gateway_forwards_every_format(proxy, runtime, samples, event):
    headers = {"Content-Type": "text/csv", "Accept": "text/csv"}
    text = (samples / "deutschland.csv").read_text()
    reply = proxy.handler(event(body=text, headers=headers, queryStringParameters={"top_k": "2"}), Context())
    assert (reply["statusCode"], reply["headers"]["Content-Type"]) == (200, "text/csv")
    assert len(reply["body"].splitlines()) == 3 and ",DEUTSCHLAND," in reply["body"].splitlines()[1]
    array = base64.b64encode((samples / "software.npy").read_bytes()).decode()
    headers = {"content-type": "application/x-npy"}
    reply = proxy.handler(event(body=array, headers=headers, isBase64Encoded=True), Context())
    assert json.loads(reply["body"])["instances"][0]["gloss"] == "SOFTWARE"
    assert json.loads(reply["body"])["known"] is True


def test_describe_and_enroll_requests(proxy, runtime, hallo, monkeypatch):
    """The proxy forwards them, and reducing a large request does not change the answers."""
    description = proxy.handler({"describe": True}, Context())
    assert description["layout"]["name"] == "54" and description["enrolment"]
    headers = {"Content-Type": "application/json"}
    assert json.loads(proxy.handler(v2(body='{"describe": true}', headers=headers), Context())["body"]) == description
    assert proxy.handler({"describe": False}, Context())["errorType"] == "wrong_type"
    enrollment = {"enroll": "GREETING", "clips": [hallo]}
    enrolled = proxy.handler(enrollment, Context())
    prediction = hallo | {"enrolled": enrolled["enrolled"]}
    glosses = proxy.handler(prediction, Context())
    assert glosses[0]["gloss"] == "GREETING"
    monkeypatch.setenv("SPOTER_PAYLOAD_LIMIT", "600000")  # the requests have about 3 MB
    assert proxy.handler(enrollment, Context()) == enrolled and proxy.handler(prediction, Context()) == glosses
    assert all(len(request.body) < 600000 for request in runtime.requests[-2:])


def test_invalid_request_gets_the_servers_error(proxy, runtime, hallo):
    hallo["keypoints"][3]["pose_landmarks"].pop()
    reply = proxy.handler(hallo, Context())
    assert (reply["errorType"], reply["statusCode"]) == ("wrong_point_count", 400)
    assert reply["errorMessage"].startswith("frame 3, pose_landmarks: ")
    reply = proxy.handler(v2(body=json.dumps(hallo), headers={"content-type": "application/json"}), Context())
    assert (reply["statusCode"], code(reply)) == (400, "wrong_point_count")
    reply = proxy.handler(v2(body="x", headers={"content-type": "image/png"}), Context())
    assert (reply["statusCode"], code(reply)) == (415, "unsupported_content_type")
    reply = proxy.handler(v2(body=EMPTY, headers={}, queryStringParameters={"topk": "2"}), Context())
    assert (reply["statusCode"], code(reply)) == (400, "bad_attributes")


def test_several_invalid_clips_keep_their_errors(proxy, runtime):
    reply = proxy.handler({"clips": [{"keypoints": []}, {"x": 1}]}, Context())
    assert [answer["error"]["code"] for answer in reply["answers"]] == ["no_frames", "unknown_form"]


def test_throttling_is_retried(proxy, runtime, hallo, log_lines):
    not_ready = ErrorResponse(429, "ModelNotReadyException")
    runtime.errors += [THROTTLED, not_ready, ErrorResponse(503, "ServiceUnavailable"), FULL]
    assert proxy.handler(hallo, Context())[0]["gloss"] == "HALLO"
    assert len(runtime.requests) == 5
    assert len({request.body for request in runtime.requests}) == 1
    assert log_lines()[-1]["attempts"] == 5


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (THROTTLED, 429, "endpoint_busy"),
        (ErrorResponse(503, "ServiceUnavailable"), 503, "endpoint_unavailable"),
        (FULL, 503, "endpoint_unavailable"),
    ],
)
def test_endless_throttling_ends_before_the_timeout(proxy, runtime, error, status, expected):
    runtime.errors += [error] * 1000
    context = Context(5)
    reply = proxy.handler(v2(body=EMPTY), context)
    assert context.get_remaining_time_in_millis() > 0
    assert (reply["statusCode"], code(reply), int(reply["headers"]["Retry-After"]) > 0) == (status, expected, True)
    assert 1 < len(runtime.requests) < 20


def test_slow_endpoint_is_invoked_once(proxy, runtime):
    runtime.errors.append(ErrorResponse(delay=4))
    context = Context(3)
    reply = proxy.handler(v2(body=EMPTY), context)
    assert context.get_remaining_time_in_millis() > 0
    assert (reply["statusCode"], code(reply), len(runtime.requests)) == (504, "endpoint_timeout", 1)


def test_unreachable_endpoint(proxy, runtime, monkeypatch):
    with socket.create_server((LOOPBACK, 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", f"http://{LOOPBACK}:{port}")
    reply = proxy.handler(v2(body=EMPTY), Context(3))
    assert (reply["statusCode"], code(reply)) == (503, "endpoint_unavailable")


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (model_error(500, "Traceback: 0.123456"), 502, "endpoint_failed"),
        (model_error(0, "Your invocation timed out"), 504, "endpoint_timeout"),
        (model_error(400, '{"error": "text"}'), 400, "endpoint_refused"),
        (model_error(400, '["error"]'), 400, "endpoint_refused"),
        (model_error(404, '{"code": 404, "type": "ModelNotFoundException"}'), 404, "endpoint_refused"),
        (model_error(400, "clip,rank,error\n0,,no_frames"), 400, "endpoint_refused"),
        (model_error(400, ""), 400, "endpoint_refused"),
        (ErrorResponse(413, None, {"message": "HTTP content length exceeded 6291456 bytes."}), 413, "body_too_large"),
        (ErrorResponse(400, "ValidationError", {"message": "Endpoint spoter not found."}), 500, "endpoint_refused"),
        (ErrorResponse(403, "AccessDeniedException", {"Message": "not authorized"}), 500, "endpoint_refused"),
    ],
)
def test_errors_of_the_endpoint_are_translated(proxy, runtime, log_text, error, status, expected):
    runtime.errors.append(error)
    reply = proxy.handler(v2(body=EMPTY), Context())
    assert (reply["statusCode"], code(reply), len(runtime.requests)) == (status, expected, 1)
    assert "0.123456" not in reply["body"] + log_text()
    if expected == "endpoint_refused" and status == 500:  # wrong configuration: logged, but not returned to the client
        message = error.members.get("message") or error.members["Message"]
        assert message in log_text() and message not in reply["body"]


@pytest.mark.parametrize(
    ("headers", "status", "expected"),
    [
        ({"content-type": "text/csv\r\nX: y"}, 415, "unsupported_content_type"),
        ({"accept": "text/csv;q=ä"}, 406, "not_acceptable"),
        ({"x-amzn-sagemaker-custom-attributes": "top_k=1," * 200}, 400, "bad_attributes"),
    ],
)
def test_headers_that_sagemaker_refuses_are_refused(proxy, runtime, headers, status, expected):
    reply = proxy.handler(v2(body=EMPTY, headers=headers), Context())
    assert (reply["statusCode"], code(reply), runtime.requests) == (status, expected, [])


def test_missing_configuration_is_logged(proxy, runtime, monkeypatch, log_text):
    monkeypatch.delenv("SPOTER_ENDPOINT")
    reply = proxy.handler({"keypoints": []}, Context())
    assert (reply["statusCode"], reply["errorType"]) == (500, "internal")
    assert "SPOTER_ENDPOINT" in log_text()


def test_log_contains_no_landmarks(proxy, runtime, hallo, log_text, log_lines):
    hallo["keypoints"][0]["pose_landmarks"][0]["x"] = 0.987654321
    proxy.handler(hallo, Context())
    hallo["keypoints"][0]["pose_landmarks"][0]["x"] = "0.987654321"
    assert proxy.handler(hallo, Context())["errorType"] == "wrong_type"
    assert "0.987654321" not in log_text()
    first, second = log_lines()
    assert first["bytes"] == len(runtime.requests[0].body)
    assert (first["status"], second["status"], first["attempts"], "reduced" in first) == (200, 400, 1, False)


def test_zip_imports_only_what_lambda_has(proxy_package, dgs11, tmp_path):
    imported, our_modules = set(), set()
    for module in proxy_package.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(), feature_version=(3, 11))):
            if isinstance(node, ast.Import):
                imported |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.partition(".")[0])
                # spoter/__init__.py imports its names on first use, which the functions never do.
                is_ours = node.module.startswith("spoter") and module.name != "__init__.py"
                our_modules |= {node.module} if is_ours else set()
    assert imported - sys.stdlib_module_names == {"boto3", "botocore", "spoter"}
    first, second = (build(dgs11, tmp_path / name).read_bytes() for name in "ab")
    assert first == second
    files = {path.relative_to(proxy_package).as_posix() for path in proxy_package.rglob("*.*") if path.suffix != ".pyc"}
    assert set(zipfile.ZipFile(io.BytesIO(first)).namelist()) == files and len(files) == 7
    assert {f"{module.replace('.', '/')}.py" for module in our_modules} <= files
