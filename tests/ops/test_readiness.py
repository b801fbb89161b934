"""The checks of `spoter doctor --server`, against a test double of a server and for every layout."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from spoter.errors import ModelFolderError, SpoterError
from spoter.formats import Limits, decode
from spoter.landmarks.layouts import BUILT_IN, load_layout
from spoter.landmarks.normalize import SCHEMES, check_scheme, normalize
from spoter.messages import RawRequest
from spoter.ops import readiness
from spoter.ops.ports import free_port
from spoter.ops.readiness import Reply, checks, key, made_clip, prediction, refused_token, send, workers
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import describe, respond
from spoter.torchserve.process import ServerProcess
from tests.http_double import ANSWER, LATE, serving

DESCRIBED = (200, {"name": "m", "layout": {"name": "54", "landmarks": ["a"] * 54}, "limits": {"max_frames": 9}}, {})
GOOD = (200, ANSWER, {})
HEALTHY = (200, {"status": "Healthy"}, {})


def of_torchserve(status: int, kind: str, message: str = "…") -> tuple:
    return status, {"code": status, "type": kind, "message": message}, {}


@pytest.mark.parametrize("layout", BUILT_IN)
@pytest.mark.parametrize("most", [1, 8, 500])
def test_a_made_clip_fits_any_layout(layout, most):
    table = load_layout(layout)
    body = made_clip({"layout": {"name": table.name, "landmarks": table.names}, "limits": {"max_frames": most}})
    (clip,) = decode(body, "application/json", table, Limits(max_frames=most)).clips
    for scheme in SCHEMES:
        try:
            check_scheme(table, scheme)
        except ModelFolderError:
            continue
        features = normalize(table.select(clip), table, scheme)
        assert features.shape == (min(most, 8), 2 * len(table)) and np.isfinite(features).all()
        assert len(np.unique(features.round(4))) > len(table)  # the points are spread


def test_the_embedded_model_answers_its_own_description(dgs11):
    recognizer = Recognizer.load(dgs11)
    ((response,), _) = respond(recognizer, [RawRequest(made_clip(describe(recognizer)), "application/json")])
    assert response.status == 200


@pytest.mark.parametrize(
    ("answers", "problem", "advice"),
    [
        ([of_torchserve(400, "InvalidKeyException")], "status 400", "--token"),
        ([(403, {"message": "Forbidden"}, {})], "status 403: Forbidden", "--token"),
        ([of_torchserve(404, "ModelNotFoundException", "Model not found: x")], "Model not found", ":8081/models"),
        ([of_torchserve(503, "ServiceUnavailableException", "no worker")], "503: no worker", "model_log.log"),
        ([(507, b"", {})], "status 507", "worker"),
        ([(500, {"error": {"code": "internal", "message": "the server failed"}}, {})], "the server failed", "worker"),
        ([(200, b"<html>", {})], "status 200", "/predictions/spoter"),
        ([(200, {"status": "Healthy"}, {})], "status 200", "/predictions/spoter"),
        ([(200, [1], {})], "status 200", "/predictions/spoter"),
        ([DESCRIBED, (400, {"error": {"code": "wrong_layout", "message": "found 54"}}, {})], "400: found 54", "URL"),
        ([DESCRIBED, of_torchserve(503, "ServiceUnavailableException", "busy")], "503: busy", "queue"),
        ([DESCRIBED, (200, {"instances": []}, {})], "status 200", "URL"),
        ([(307, b"", {"Location": "/elsewhere"})], "status 307", "URL"),
    ],
)
def test_each_refusal_is_reported_with_advice(answers, problem, advice):
    with serving() as double:
        double.answers = answers
        check, seconds = prediction(f"{double.url}/predictions/spoter")
    assert (check.ok, seconds) == (False, 0.0)
    assert problem in check.found and advice in check.advice and "\n" not in check.found


def test_an_answer_with_an_error_status_fails():
    with serving() as double:
        double.answers = [DESCRIBED, (503, ANSWER, {})]
        assert prediction(double.url)[0].found == "status 503"


def test_a_token_is_not_sent_to_the_target_of_a_redirect():
    with serving() as double, serving() as other:
        double.answers = [(307, b"", {"Location": other.url}), (302, b"", {"Location": other.url})]
        for body in (b"{}", None):
            assert send(double.url, "secret", body).status in (302, 307)
        assert other.requests == []


def test_a_server_that_hangs_fails_after_the_timeout():
    with serving() as double:
        double.answers = [LATE]
        check, _ = prediction(double.url, timeout=0.2)
    assert check.found == "no answer within 0.2 s" and "workers" in check.advice


HEAD = b"HTTP/1.1 %d x\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "problem"),
    [
        ([HEAD % 200, *[b" "] * 20], "no answer within 0.2 s"),
        ([HEAD % 500, *[b" "] * 20], "no answer within 0.2 s"),
        ([HEAD % 200 + b"{}"], "2 bytes read"),
        ([HEAD % 500 + b"{}"], "2 bytes read"),
        ([b"HTTP/1.1 200 x\r\n\r\n" + b" " * 2000], "more than 1,000 bytes"),
    ],
    ids=["in drops", "error in drops", "cut", "cut error", "endless"],
)
def test_an_incomplete_answer_counts_as_none(monkeypatch, pieces, problem):
    monkeypatch.setattr(readiness, "MOST_BYTES", 1000)

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):  # the client may have closed the connection
            connection.recv(65536)
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        reply = send(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.2)
        server.join()
    assert reply.status is None and problem in reply.body


def test_only_a_request_with_a_body_has_a_content_type():
    with serving() as double:
        double.answers = [GOOD]
        for options in ({}, {"method": "POST"}, {"body": b"a,b", "content_type": "text/csv"}):
            assert send(double.url, **options).status == 200
    types = [(request.method, request.headers.get("content-type")) for request in double.requests]
    assert types == [("GET", None), ("POST", None), ("POST", "text/csv")]


@pytest.fixture
def managed() -> Iterator[Callable[[str], ServerProcess]]:
    """Return a function that creates a process, which is not started, for a management API."""
    processes: list[ServerProcess] = []

    def make(management: str) -> ServerProcess:
        processes.append(ServerProcess("spoter", management, management))
        return processes[-1]

    yield make
    for process in processes:
        process.stop()


def test_answers_of_the_management_api_are_returned(managed, tmp_path):
    (tmp_path / "key_file.json").write_text('{"management": {"key": "secret"}}')
    with serving() as double:
        double.answers = [(200, [{"batchSize": 8}], {})]
        process = managed(double.url)
        process.key_file = tmp_path / "key_file.json"
        assert process.manage("POST", "/models?url=a.mar&synchronous=true") == [{"batchSize": 8}]
    [request] = double.requests
    assert (request.method, request.url.path, request.url.query) == ("POST", "/models", "url=a.mar&synchronous=true")
    assert request.headers["authorization"] == "Bearer secret"


def test_refusals_of_the_management_api_are_raised(managed):
    with serving() as double:
        double.answers = [of_torchserve(409, "ConflictStatusException", "is registered " + "x" * 1000)]
        with pytest.raises(SpoterError, match=r"GET /models/a.*409.*is registered x+$") as caught:
            managed(double.url).manage("GET", "/models/a")
    assert len(str(caught.value)) < 400
    with pytest.raises(SpoterError, match=r"DELETE /models/a.*refused$"):
        managed(f"http://127.0.0.1:{free_port()}").manage("DELETE", "/models/a")


def test_json_nested_too_deep_is_not_a_document():
    reply = Reply(200, "[" * 200_000)
    assert reply.document == {} and readiness.worker_states(reply) is None


def test_a_free_port_and_wrong_urls_fail():
    assert prediction(f"http://127.0.0.1:{free_port()}")[0].found == "connection refused"
    assert "no answer" in prediction("http://no.such.host.invalid/")[0].found
    assert not prediction("gopher://x/")[0].ok


def test_a_slow_server_fails_by_its_fastest_answer(monkeypatch):
    with serving() as double:
        double.answers = [HEALTHY, *[DESCRIBED, GOOD] * 3]
        results = checks(f"{double.url}/predictions/spoter")
        assert [(check.name, check.ok) for check in results] == [("ping", True), ("prediction", True), ("speed", True)]
        monkeypatch.setattr(readiness, "SLOW", 0.0)
        double.answers = [HEALTHY, *[DESCRIBED, GOOD] * 3]
        *_, speed = checks(f"{double.url}/predictions/spoter")
    assert (speed.name, speed.ok) == ("speed", False) and speed.advice


def test_a_worker_that_answers_only_once_is_found():
    with serving() as double:
        double.answers = [DESCRIBED, GOOD, of_torchserve(503, "ServiceUnavailableException"), DESCRIBED, GOOD]
        results = checks(f"{double.url}/invocations")
    assert [(check.name, check.ok) for check in results][:2] == [("prediction", True), ("again", False)]


@pytest.mark.parametrize(
    ("states", "ok"), [(["READY"], True), (["READY"] * 3, True), ([], False), (["UNLOADING"], False),
                       (["READY", "UNLOADING"], False)]
)  # fmt: skip
def test_workers_are_ok_if_all_are_ready(states, ok):
    with serving() as double:
        double.answers = [(200, [{"workers": [{"status": state} for state in states]}], {})]
        check = workers(double.url, "spoter", "secret")
        assert double.requests[0].headers["authorization"] == "Bearer secret"
    assert check.ok is ok and check.found == f"{states.count('READY')} of {len(states)} READY"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'[{"workers": [1]}]', b"[[]]"])
def test_other_answers_than_the_management_apis_fail(body):
    with serving() as double:
        double.answers = [(200, body, {})]
        check = workers(double.url, "spoter")
    assert not check.ok and "TorchServe" in check.found and double.url in check.advice


def test_tokens_are_not_printed():
    with serving() as double:
        double.answers = [of_torchserve(400, "InvalidKeyException")]
        tokens = {"inference": "s3cret", "management": "s3cret"}
        for check in checks(f"{double.url}/predictions/spoter", double.url, tokens):
            assert not check.ok and "s3cret" not in check.found + check.advice


def test_refused_tokens_are_recognized():
    assert refused_token(Reply(401, "")) and refused_token(Reply(400, '{"type": "InvalidKeyException"}'))
    assert not refused_token(Reply(400, "{}")) and not refused_token(Reply(None, "connection refused"))


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"inference": 1}', '{"inference": {"key": 1}}', '"x"'])
def test_a_key_file_without_a_key_gives_none(tmp_path, content):
    if content is not None:
        (tmp_path / "key_file.json").write_text(content)
    assert key(tmp_path / "key_file.json", "inference") is None
