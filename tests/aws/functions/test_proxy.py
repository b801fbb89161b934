"""spoter.aws.functions.endpoint_proxy.handler, out of its zip file, with real boto3 before an endpoint."""

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
from tests.aws.functions.lambda_runtime import Context, Trouble, model_error
from tests.aws.functions.test_events import v1, v2

THROTTLED = Trouble()
# As TorchServe answers where its queue is full: 200 clients at once, to an endpoint with one worker.
FULL = model_error(503, '{"code": 503, "type": "ServiceUnavailableException", "message": "no worker"}')
FEW = "{}"


@pytest.fixture
def hallo(samples: Path) -> dict:
    return json.loads((samples / "hallo.json").read_text())


def code(reply: dict) -> str:
    """Return the code of an error, whichever way it came."""
    return (reply.get("error") or json.loads(reply["body"])["error"])["code"]


def test_the_web_client_gets_five_glosses(proxy, runtime, hallo):
    reply = proxy.handler(hallo, Context())
    assert [set(entry) for entry in reply] == [{"gloss", "score", "index"}] * 5
    assert reply[0]["gloss"] == "HALLO" and reply[0]["score"] > reply[1]["score"]
    assert proxy.handler({"keypoints_list": hallo["keypoints"]}, Context()) == reply
    assert proxy.handler({"default": hallo["keypoints"]}, Context()) == reply
    assert [asked.path for asked in runtime.asked] == ["/endpoints/spoter/invocations"] * 3


def test_the_probe_asks_nobody(proxy, runtime):
    assert proxy.handler({"default": []}, Context()) == {"alive": True, "endpoint": "spoter"}
    assert runtime.asked == []


@pytest.mark.parametrize("event", [v1, v2])
def test_every_format_goes_through_the_gateway(proxy, runtime, samples, event):
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


def test_what_the_model_knows_and_a_sign_of_ones_own(proxy, runtime, hallo, monkeypatch):
    """The proxy passes them through as they are, and what it leaves out of a large request does not matter to them."""
    told = proxy.handler({"describe": True}, Context())
    assert told["layout"]["name"] == "54" and told["enrolment"]
    headers = {"Content-Type": "application/json"}
    assert json.loads(proxy.handler(v2(body='{"describe": true}', headers=headers), Context())["body"]) == told
    assert proxy.handler({"describe": False}, Context())["errorType"] == "wrong_type"
    learning = {"enroll": "GREETING", "clips": [hallo]}
    learned = proxy.handler(learning, Context())
    naming = hallo | {"enrolled": learned["enrolled"]}
    named = proxy.handler(naming, Context())
    assert named[0]["gloss"] == "GREETING"
    monkeypatch.setenv("SPOTER_PAYLOAD_LIMIT", "600000")  # of about 3 MB
    assert proxy.handler(learning, Context()) == learned and proxy.handler(naming, Context()) == named
    assert all(len(asked.body) < 600000 for asked in runtime.asked[-2:])


def test_a_wrong_request_gets_the_servers_own_reason(proxy, runtime, hallo):
    hallo["keypoints"][3]["pose_landmarks"].pop()
    reply = proxy.handler(hallo, Context())
    assert (reply["errorType"], reply["statusCode"]) == ("wrong_point_count", 400)
    assert reply["errorMessage"].startswith("frame 3, pose_landmarks: found 32 points")
    reply = proxy.handler(v2(body=json.dumps(hallo), headers={"content-type": "application/json"}), Context())
    assert (reply["statusCode"], code(reply)) == (400, "wrong_point_count")
    reply = proxy.handler(v2(body="x", headers={"content-type": "image/png"}), Context())
    assert (reply["statusCode"], code(reply)) == (415, "unsupported_content_type")
    reply = proxy.handler(v2(body=FEW, headers={}, queryStringParameters={"topk": "2"}), Context())
    assert (reply["statusCode"], code(reply)) == (400, "bad_attributes")


def test_several_clips_all_of_them_wrong_keep_their_errors(proxy, runtime):
    reply = proxy.handler({"clips": [{"keypoints": []}, {"x": 1}]}, Context())
    assert [answer["error"]["code"] for answer in reply["answers"]] == ["no_frames", "unknown_form"]


def test_throttling_is_waited_for(proxy, runtime, hallo, lines):
    unready = Trouble(429, "ModelNotReadyException")
    runtime.troubles += [THROTTLED, unready, Trouble(503, "ServiceUnavailable"), FULL]
    assert proxy.handler(hallo, Context())[0]["gloss"] == "HALLO"
    assert len(runtime.asked) == 5
    assert len({asked.body for asked in runtime.asked}) == 1
    assert lines()[-1]["attempts"] == 5


@pytest.mark.parametrize(
    ("trouble", "status", "expected"),
    [
        (THROTTLED, 429, "endpoint_busy"),
        (Trouble(503, "ServiceUnavailable"), 503, "endpoint_unavailable"),
        (FULL, 503, "endpoint_unavailable"),
    ],
)
def test_throttling_without_end_ends_in_time(proxy, runtime, trouble, status, expected):
    runtime.troubles += [trouble] * 1000
    context = Context(5)
    reply = proxy.handler(v2(body=FEW), context)
    assert context.get_remaining_time_in_millis() > 0
    assert (reply["statusCode"], code(reply), int(reply["headers"]["Retry-After"]) > 0) == (status, expected, True)
    assert "again" in reply["body"]
    assert 1 < len(runtime.asked) < 20


def test_an_endpoint_that_is_too_slow_is_asked_once(proxy, runtime):
    runtime.troubles.append(Trouble(silent=4))
    context = Context(3)
    reply = proxy.handler(v2(body=FEW), context)
    assert context.get_remaining_time_in_millis() > 0
    assert (reply["statusCode"], code(reply), len(runtime.asked)) == (504, "endpoint_timeout", 1)


def test_an_endpoint_that_cannot_be_reached(proxy, runtime, monkeypatch):
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", f"http://{LOOPBACK}:{port}")
    reply = proxy.handler(v2(body=FEW), Context(3))
    assert (reply["statusCode"], code(reply)) == (503, "endpoint_unavailable")


@pytest.mark.parametrize(
    ("trouble", "status", "expected"),
    [
        (model_error(500, "Traceback: 0.123456"), 502, "endpoint_failed"),
        (model_error(0, "Your invocation timed out"), 504, "endpoint_timeout"),
        (model_error(400, '{"error": "text"}'), 400, "endpoint_refused"),
        (model_error(400, '["error"]'), 400, "endpoint_refused"),
        (model_error(404, '{"code": 404, "type": "ModelNotFoundException"}'), 404, "endpoint_refused"),
        (model_error(400, "clip,rank,error\n0,,no_frames"), 400, "endpoint_refused"),
        (model_error(400, ""), 400, "endpoint_refused"),
        (Trouble(413, None, {"message": "HTTP content length exceeded 6291456 bytes."}), 413, "body_too_large"),
        (Trouble(400, "ValidationError", {"message": "Endpoint spoter not found."}), 500, "endpoint_refused"),
        (Trouble(403, "AccessDeniedException", {"Message": "not authorized"}), 500, "endpoint_refused"),
    ],
)
def test_what_the_endpoint_answers_in_place_of_glosses(proxy, runtime, said, trouble, status, expected):
    runtime.troubles.append(trouble)
    reply = proxy.handler(v2(body=FEW), Context())
    assert (reply["statusCode"], code(reply), len(runtime.asked)) == (status, expected, 1)
    assert "0.123456" not in reply["body"] + said()
    if expected == "endpoint_refused" and status == 500:  # the set-up is wrong: for the log, not for a client
        told = trouble.members.get("message") or trouble.members["Message"]
        assert told in said() and told not in reply["body"]


@pytest.mark.parametrize(
    ("headers", "status", "expected"),
    [
        ({"content-type": "text/csv\r\nX: y"}, 415, "unsupported_content_type"),
        ({"accept": "text/csv;q=ä"}, 406, "not_acceptable"),
        ({"x-amzn-sagemaker-custom-attributes": "top_k=1," * 200}, 400, "bad_attributes"),
    ],
)
def test_headers_that_sagemaker_does_not_take_are_refused_here(proxy, runtime, headers, status, expected):
    reply = proxy.handler(v2(body=FEW, headers=headers), Context())
    assert (reply["statusCode"], code(reply), runtime.asked) == (status, expected, [])


def test_a_function_that_is_not_set_up_says_so_in_its_log(proxy, runtime, monkeypatch, said):
    monkeypatch.delenv("SPOTER_ENDPOINT")
    reply = proxy.handler({"keypoints": []}, Context())
    assert (reply["statusCode"], reply["errorType"]) == (500, "internal")
    assert "SPOTER_ENDPOINT" in said()


def test_the_log_has_nothing_of_a_clip(proxy, runtime, hallo, said, lines):
    hallo["keypoints"][0]["pose_landmarks"][0]["x"] = 0.987654321
    proxy.handler(hallo, Context())
    hallo["keypoints"][0]["pose_landmarks"][0]["x"] = "0.987654321"
    assert proxy.handler(hallo, Context())["errorType"] == "wrong_type"
    assert "0.987654321" not in said()
    first, second = lines()
    assert first["bytes"] == len(runtime.asked[0].body)
    assert (first["status"], second["status"], first["attempts"], "reduced" in first) == (200, 400, 1, False)


def test_the_zip_needs_nothing_that_lambda_lacks(proxy_package, dgs11, tmp_path):
    imported, ours = set(), set()
    for module in proxy_package.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(), feature_version=(3, 11))):
            if isinstance(node, ast.Import):
                imported |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.partition(".")[0])
                # spoter/__init__.py imports when its names are used, which no function does.
                ours |= {node.module} if node.module.startswith("spoter") and module.name != "__init__.py" else set()
    assert imported - sys.stdlib_module_names == {"boto3", "botocore", "spoter"}
    first, second = (build(dgs11, tmp_path / name).read_bytes() for name in "ab")
    assert first == second
    files = {path.relative_to(proxy_package).as_posix() for path in proxy_package.rglob("*.*") if path.suffix != ".pyc"}
    assert set(zipfile.ZipFile(io.BytesIO(first)).namelist()) == files and len(files) == 7
    assert {f"{module.replace('.', '/')}.py" for module in ours} <= files
