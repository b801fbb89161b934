"""Input and output of `spoter.aws.functions.events.handle_event`, with a fixed reply."""

from __future__ import annotations

import base64
import json

import pytest

from spoter.aws.functions.events import JSON, Reply, Request, error_reply, handle_event
from spoter.error_codes import ErrorCode

DOCUMENT = {"instances": [{"gloss": "HALLO", "score": 0.9, "index": 3}, {"gloss": "ICH", "score": 0.1, "index": 1}]}
CSV = "clip,rank\n0,1\n"
PAGE = "https://page.example"


@pytest.fixture(autouse=True)
def _origins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOTER_ORIGINS", f"{PAGE}, https://other.example")


class Responder:
    """Gives the same reply to all requests, and records them."""

    def __init__(self, status: int = 200, kind: str = JSON, body: bytes = json.dumps(DOCUMENT).encode()):
        self.reply = Reply(status, kind, body)
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Reply:
        self.requests.append(request)
        return self.reply


def v1(method: str = "POST", body: str | None = "{}", **more) -> dict:
    """Return an event of a REST API (payload format 1.0), shortened from API Gateway's documentation."""
    return {
        "version": "1.0",
        "resource": "/invocations",
        "path": "/invocations",
        "httpMethod": method,
        "headers": {"Content-Type": "text/csv", "Accept": "text/csv", "Origin": PAGE},
        "multiValueHeaders": {"Content-Type": ["text/csv"]},
        "queryStringParameters": None,
        "requestContext": {"httpMethod": method, "stage": "prod", "requestId": "id="},
        "body": body,
        "isBase64Encoded": False,
    } | more


def v2(method: str = "POST", body: str | None = "{}", **more) -> dict:
    """Return an event of an HTTP API or a function URL (payload format 2.0); it has no key for a missing body."""
    event = {
        "version": "2.0",
        "routeKey": "POST /invocations",
        "rawPath": "/invocations",
        "rawQueryString": "",
        "headers": {"content-type": "text/csv", "accept": "text/csv", "origin": PAGE},
        "requestContext": {"http": {"method": method, "path": "/invocations"}, "requestId": "id="},
        "body": body,
        "isBase64Encoded": False,
    } | more
    return {key: value for key, value in event.items() if value is not None}


both = pytest.mark.parametrize("event", [v1, v2])


@both
def test_request_is_forwarded_and_the_reply_returned(event):
    responder = Responder(kind="text/csv", body=CSV.encode())
    query = {"top_k": "3", "width": "640"}
    headers = {"CONTENT-TYPE": "text/csv", "accept": "text/csv", "X-Amzn-SageMaker-Custom-Attributes": "height=480"}
    reply = handle_event(event(body="clip", queryStringParameters=query, headers=headers), responder)
    assert responder.requests == [(b"clip", "text/csv", "text/csv", "height=480,top_k=3,width=640")]
    assert (reply["statusCode"], reply["body"], reply["isBase64Encoded"]) == (200, CSV, False)
    assert reply["headers"]["Content-Type"] == "text/csv"


@both
def test_missing_headers_query_and_body(event):
    responder = Responder()
    assert handle_event(event(body=None, headers=None), responder)["statusCode"] == 200
    assert responder.requests == [(b"", None, None, None)]


@both
def test_null_values_are_ignored(event):
    responder = Responder()
    assert handle_event(event(headers={"accept": None, "Content-Type": "text/csv"}), responder)["statusCode"] == 200
    assert responder.requests == [(b"{}", "text/csv", None, None)]


@both
def test_base64_is_decoded_and_invalid_base64_refused(event):
    responder = Responder()
    binary = bytes(range(256))
    handle_event(event(body=base64.b64encode(binary).decode(), isBase64Encoded=True), responder)
    assert responder.requests[0][0] == binary
    for invalid in ("no base64!", "AAA", "Ä==="):
        reply = handle_event(event(body=invalid, isBase64Encoded=True), responder)
        assert reply["statusCode"] == 400
        assert json.loads(reply["body"])["error"]["code"] == "invalid_base64"
    assert len(responder.requests) == 1


@both
@pytest.mark.parametrize(("origin", "allowed"), [(PAGE, PAGE), ("https://evil.example", None), (None, None)])
def test_cors_headers_name_an_allowed_origin(event, origin, allowed):
    responder = Responder()
    headers = {"origin": origin} if origin else {}
    for method, status in (("OPTIONS", 204), ("POST", 200), ("DELETE", 405)):
        reply = handle_event(event(method, headers=headers), responder)
        assert reply["statusCode"] == status
        assert reply["headers"].get("Access-Control-Allow-Origin") == allowed
        assert ("content-type" in reply["headers"].get("Access-Control-Allow-Headers", "")) == bool(allowed)
        assert reply["headers"]["Vary"] == "Origin"
    assert len(responder.requests) == 1  # preflights are not forwarded to the model


def test_cors_for_all_origins_and_for_none(monkeypatch):
    event = v2(headers={"origin": "https://any.example"})
    monkeypatch.setenv("SPOTER_ORIGINS", "*")
    assert handle_event(event, Responder())["headers"]["Access-Control-Allow-Origin"] == "*"
    monkeypatch.delenv("SPOTER_ORIGINS")
    assert handle_event(event, Responder())["headers"] == {"Content-Type": JSON}


@both
def test_get_answers_alive(event):
    responder = Responder()
    reply = handle_event(event("GET", body=None), responder, {"endpoint": "spoter"})
    assert (reply["statusCode"], json.loads(reply["body"])) == (200, {"alive": True, "endpoint": "spoter"})
    assert responder.requests == []


@both
def test_other_methods_are_not_allowed(event):
    reply = handle_event(event("PUT"), Responder())
    assert (reply["statusCode"], reply["headers"]["Allow"]) == (405, "GET, POST, OPTIONS")


@both
@pytest.mark.parametrize("status", [400, 413, 429, 502, 503, 504])
def test_errors_keep_their_status_and_get_retry_after(event, status):
    failure = error_reply(ErrorCode.WRONG_TYPE, "some message", "frame 3", status)
    reply = handle_event(event(), Responder(*failure))
    assert reply["statusCode"] == status
    assert json.loads(reply["body"])["error"] == {"code": "wrong_type", "message": "some message", "where": "frame 3"}
    assert ("Retry-After" in reply["headers"]) == (status in (429, 503))


def test_direct_invocation_returns_the_list_of_glosses():
    responder = Responder()
    assert handle_event({"keypoints": [], "top_k": 2}, responder) == DOCUMENT["instances"]
    [(body, kind, accept, attributes)] = responder.requests
    assert (json.loads(body), kind, accept, attributes) == ({"keypoints": [], "top_k": 2}, JSON, JSON, None)


def test_direct_invocation_with_several_clips_returns_the_document():
    document = {"answers": [DOCUMENT, {"error": {"code": "no_frames"}}]}
    assert handle_event({"clips": []}, Responder(body=json.dumps(document).encode())) == document


@pytest.mark.parametrize(
    ("body", "reply"),
    [(b'[{"gloss": "ICH"}]', [{"gloss": "ICH"}]), (b"null", None), (b"a,b\n\xff", "a,b\n\ufffd")]
    + [(b'{"error": "text"}', {"error": "text"})],
)
def test_answer_of_another_container_is_returned_unchanged(body, reply):
    """SPOTER_ENDPOINT may name another endpoint, such as the original system's."""
    assert handle_event({"keypoints": []}, Responder(body=body)) == reply
    assert handle_event(v2(), Responder(body=body))["body"] == body.decode(errors="replace")


def test_direct_error_has_the_keys_of_the_web_client():
    reply = handle_event({"keypoints": []}, Responder(*error_reply(ErrorCode.NO_FRAMES, "found 0 frames", "clip 1")))
    assert reply["errorMessage"] == "clip 1: found 0 frames"
    assert (reply["errorType"], reply["statusCode"]) == ("no_frames", 400)
    assert reply["error"]["where"] == "clip 1"
    reply = handle_event({"keypoints": []}, Responder(*error_reply(ErrorCode.NO_FRAMES, "found 0 frames")))
    assert reply["errorMessage"] == "found 0 frames"


@pytest.mark.parametrize(
    "event",
    [
        None, [], "text", 7, {}, {"requestContext": None}, {"requestContext": {"x": 1}},
        {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}},  # keeps functions warm
        {"requestContext": {"http": "POST"}}, {"requestContext": {"http": {}}}, v1(method=None), v2(headers=["x"]),
        v1(body={"keypoints": []}), v2(queryStringParameters=["top_k"]),
    ],
)  # fmt: skip
def test_other_events_are_direct_invocations(event):
    responder = Responder()
    handle_event(event, responder)
    assert json.loads(responder.requests[0][0]) == event


def test_probe_of_the_web_client_gets_glosses_or_alive():
    responder = Responder()
    frames = [{"pose_landmarks": []}]
    assert handle_event({"default": frames}, responder) == DOCUMENT["instances"]
    assert json.loads(responder.requests.pop()[0]) == {"keypoints": frames}
    for empty in ([], None, "", {}):
        assert handle_event({"default": empty}, responder, {"endpoint": "spoter"}) == {
            "alive": True,
            "endpoint": "spoter",
        }
    assert responder.requests == []


def test_video_key_of_the_web_client_is_renamed():
    responder = Responder()
    assert handle_event({"video": "0.123.webm", "top_k": 3}, responder) == DOCUMENT["instances"]
    assert json.loads(responder.requests[0][0]) == {"uniqueName": "0.123.webm", "top_k": 3}


@pytest.mark.parametrize("event", [v1(body="[0.123456]"), v2(body="[0.123456]"), [0.123456]])
def test_exception_gives_500_without_its_message(event, log_text, log_lines):
    def respond(request):
        raise ValueError(request.body.decode())

    reply = handle_event(event, respond)
    assert reply["statusCode"] == 500
    assert "internal" in json.dumps(reply) and "0.123456" not in json.dumps(reply)
    assert "ValueError" in log_text() and "test_events.py" in log_text() and "0.123456" not in log_text()
    assert log_lines()[-1]["status"] == 500


def test_log_has_one_line_per_event_without_data_of_the_clip(log_text, log_lines):
    log_fields = {"reduced": 12}
    handle_event(v2(body='{"keypoints": [0.654321]}'), Responder(), log_fields=log_fields)
    handle_event({"keypoints": [0.654321]}, Responder(*error_reply(ErrorCode.NO_FRAMES, "found 0.654321")))
    handle_event(v1("OPTIONS"), Responder())
    first, second, third = log_lines()
    assert first.pop("ms") >= 0
    assert first == {"event": "2.0", "status": 200, "bytes": 25, "reduced": 12}
    assert (second["event"], second["status"]) == ("direct", 400)
    assert (third["event"], third["status"], "bytes" in third) == ("1.0", 204, False)
    assert "0.654321" not in log_text()
