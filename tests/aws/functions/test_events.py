"""What goes in and comes out of `spoter.aws.functions.events.handle_event`, whoever responds."""

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
    """Answers everything alike and remembers what it was asked."""

    def __init__(self, status: int = 200, kind: str = JSON, body: bytes = json.dumps(DOCUMENT).encode()):
        self.reply = Reply(status, kind, body)
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Reply:
        self.asked.append(request)
        return self.reply


def v1(method: str = "POST", body: str | None = "{}", **more) -> dict:
    """Return an event of a REST API (payload format 1.0) as API Gateway's documentation shows it, shortened."""
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
    """Return an event of an HTTP API or a function URL (payload format 2.0); without a body it has no such key."""
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
def test_a_request_goes_through_and_its_answer_back(event):
    responder = Responder(kind="text/csv", body=CSV.encode())
    query = {"top_k": "3", "width": "640"}
    headers = {"CONTENT-TYPE": "text/csv", "accept": "text/csv", "X-Amzn-SageMaker-Custom-Attributes": "height=480"}
    reply = handle_event(event(body="clip", queryStringParameters=query, headers=headers), responder)
    assert responder.asked == [(b"clip", "text/csv", "text/csv", "height=480,top_k=3,width=640")]
    assert (reply["statusCode"], reply["body"], reply["isBase64Encoded"]) == (200, CSV, False)
    assert reply["headers"]["Content-Type"] == "text/csv"


@both
def test_no_headers_no_query_and_no_body_are_just_that(event):
    responder = Responder()
    assert handle_event(event(body=None, headers=None), responder)["statusCode"] == 200
    assert responder.asked == [(b"", None, None, None)]


@both
def test_values_that_are_null_are_not_there(event):
    responder = Responder()
    assert handle_event(event(headers={"accept": None, "Content-Type": "text/csv"}), responder)["statusCode"] == 200
    assert responder.asked == [(b"{}", "text/csv", None, None)]


@both
def test_base64_is_decoded_and_bad_base64_refused(event):
    responder = Responder()
    binary = bytes(range(256))
    handle_event(event(body=base64.b64encode(binary).decode(), isBase64Encoded=True), responder)
    assert responder.asked[0][0] == binary
    for wrong in ("no base64!", "AAA", "Ä==="):
        reply = handle_event(event(body=wrong, isBase64Encoded=True), responder)
        assert reply["statusCode"] == 400
        assert json.loads(reply["body"])["error"]["code"] == "invalid_base64"
    assert len(responder.asked) == 1


@both
@pytest.mark.parametrize(("origin", "allowed"), [(PAGE, PAGE), ("https://evil.example", None), (None, None)])
def test_cors_names_the_page_where_it_is_allowed(event, origin, allowed):
    responder = Responder()
    headers = {"origin": origin} if origin else {}
    for method, status in (("OPTIONS", 204), ("POST", 200), ("DELETE", 405)):
        reply = handle_event(event(method, headers=headers), responder)
        assert reply["statusCode"] == status
        assert reply["headers"].get("Access-Control-Allow-Origin") == allowed
        assert ("content-type" in reply["headers"].get("Access-Control-Allow-Headers", "")) == bool(allowed)
        assert reply["headers"]["Vary"] == "Origin"
    assert len(responder.asked) == 1  # no preflight reaches the model


def test_cors_for_every_page_and_for_none(monkeypatch):
    event = v2(headers={"origin": "https://any.example"})
    monkeypatch.setenv("SPOTER_ORIGINS", "*")
    assert handle_event(event, Responder())["headers"]["Access-Control-Allow-Origin"] == "*"
    monkeypatch.delenv("SPOTER_ORIGINS")
    assert handle_event(event, Responder())["headers"] == {"Content-Type": JSON}


@both
def test_get_tells_that_it_is_alive(event):
    responder = Responder()
    reply = handle_event(event("GET", body=None), responder, {"endpoint": "spoter"})
    assert (reply["statusCode"], json.loads(reply["body"])) == (200, {"alive": True, "endpoint": "spoter"})
    assert responder.asked == []


@both
def test_other_methods_are_not_allowed(event):
    reply = handle_event(event("PUT"), Responder())
    assert (reply["statusCode"], reply["headers"]["Allow"]) == (405, "GET, POST, OPTIONS")


@both
@pytest.mark.parametrize("status", [400, 413, 429, 502, 503, 504])
def test_errors_keep_their_status_and_say_when_to_come_again(event, status):
    failure = error_reply(ErrorCode.WRONG_TYPE, "some message", "frame 3", status)
    reply = handle_event(event(), Responder(*failure))
    assert reply["statusCode"] == status
    assert json.loads(reply["body"])["error"] == {"code": "wrong_type", "message": "some message", "where": "frame 3"}
    assert ("Retry-After" in reply["headers"]) == (status in (429, 503))


def test_a_direct_invocation_gets_the_list_the_web_client_reads():
    responder = Responder()
    assert handle_event({"keypoints": [], "top_k": 2}, responder) == DOCUMENT["instances"]
    [(body, kind, accept, attributes)] = responder.asked
    assert (json.loads(body), kind, accept, attributes) == ({"keypoints": [], "top_k": 2}, JSON, JSON, None)


def test_a_direct_invocation_of_several_clips_gets_the_document():
    document = {"answers": [DOCUMENT, {"error": {"code": "no_frames"}}]}
    assert handle_event({"clips": []}, Responder(body=json.dumps(document).encode())) == document


@pytest.mark.parametrize(
    ("body", "reply"),
    [(b'[{"gloss": "ICH"}]', [{"gloss": "ICH"}]), (b"null", None), (b"a,b\n\xff", "a,b\n\ufffd")]
    + [(b'{"error": "text"}', {"error": "text"})],
)
def test_what_another_container_answers_is_handed_on_as_it_is(body, reply):
    """SPOTER_ENDPOINT may name an endpoint that is not ours, such as the original system's."""
    assert handle_event({"keypoints": []}, Responder(body=body)) == reply
    assert handle_event(v2(), Responder(body=body))["body"] == body.decode(errors="replace")


def test_a_direct_error_has_what_the_web_client_looks_for():
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
        {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}},  # what keeps functions warm
        {"requestContext": {"http": "POST"}}, {"requestContext": {"http": {}}}, v1(method=None), v2(headers=["x"]),
        v1(body={"keypoints": []}), v2(queryStringParameters=["top_k"]),
    ],
)  # fmt: skip
def test_what_is_no_request_of_the_gateway_is_handed_on_as_it_is(event):
    responder = Responder()
    handle_event(event, responder)
    assert json.loads(responder.asked[0][0]) == event


def test_the_probe_of_the_web_client_is_answered_for_real_or_says_that_it_is_alive():
    responder = Responder()
    frames = [{"pose_landmarks": []}]
    assert handle_event({"default": frames}, responder) == DOCUMENT["instances"]
    assert json.loads(responder.asked.pop()[0]) == {"keypoints": frames}
    for nothing in ([], None, "", {}):
        assert handle_event({"default": nothing}, responder, {"endpoint": "spoter"}) == {
            "alive": True,
            "endpoint": "spoter",
        }
    assert responder.asked == []


def test_the_video_that_the_web_client_names_is_asked_for_by_the_servers_word():
    responder = Responder()
    assert handle_event({"video": "0.123.webm", "top_k": 3}, responder) == DOCUMENT["instances"]
    assert json.loads(responder.asked[0][0]) == {"uniqueName": "0.123.webm", "top_k": 3}


@pytest.mark.parametrize("event", [v1(body="[0.123456]"), v2(body="[0.123456]"), [0.123456]])
def test_a_failure_of_ours_is_a_500_without_its_message(event, said, lines):
    def respond(request):
        raise ValueError(request.body.decode())

    reply = handle_event(event, respond)
    assert reply["statusCode"] == 500
    assert "internal" in json.dumps(reply) and "0.123456" not in json.dumps(reply)
    assert "ValueError" in said() and "test_events.py" in said() and "0.123456" not in said()
    assert lines()[-1]["status"] == 500


def test_a_line_for_each_event_says_what_it_took_and_nothing_of_the_clip(said, lines):
    log_fields = {"reduced": 12}
    handle_event(v2(body='{"keypoints": [0.654321]}'), Responder(), log_fields=log_fields)
    handle_event({"keypoints": [0.654321]}, Responder(*error_reply(ErrorCode.NO_FRAMES, "found 0.654321")))
    handle_event(v1("OPTIONS"), Responder())
    first, second, third = lines()
    assert first.pop("ms") >= 0
    assert first == {"event": "2.0", "status": 200, "bytes": 25, "reduced": 12}
    assert (second["event"], second["status"]) == ("direct", 400)
    assert (third["event"], third["status"], "bytes" in third) == ("1.0", 204, False)
    assert "0.654321" not in said()
