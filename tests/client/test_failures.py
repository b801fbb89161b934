"""Clients of a server that is busy, slow, absent or of another kind: retries and errors."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest

from spoter.cli import main
from spoter.client import (
    Client,
    InputError,
    NoAnswerError,
    RequestError,
    Retry,
    ServerError,
    UnavailableError,
    UnexpectedAnswerError,
)
from spoter.errors import SpoterError
from spoter.ops.ports import free_port
from tests.http_double import ANSWER, LATE, dropping_connections

POINTS = np.full((3, 54, 2), 0.5)
BUSY = (503, {"code": 503, "type": "ServiceUnavailableException", "message": "no worker"}, {})
GOOD = (200, ANSWER, {})
# TorchServe 0.12.0's answers to the batch of a worker that was killed or hung.
WORKER_DIED = [
    (status, {"code": status, "type": "InternalServerException", "message": "Worker died."}, {})
    for status in (507, 500)
]
ERROR = {"error": {"code": "wrong_type", "message": "found text", "where": "frame 1"}}


def test_request_to_a_busy_server_is_retried(connect, double):
    double.answers = [BUSY, (429, ERROR, {"Retry-After": "0"}), GOOD]
    assert connect(double.url).predict(POINTS).gloss == "HALLO"
    assert len(double.bodies) == 3 and len(set(double.bodies)) == 1


def test_number_of_attempts_is_limited(connect, double):
    double.answers = [BUSY]
    with pytest.raises(UnavailableError, match="no worker") as caught:
        connect(double.url).predict(POINTS)
    assert len(double.requests) == 3
    assert (caught.value.status, caught.value.code) == (503, "ServiceUnavailableException")


def test_retry_after_beyond_the_longest_wait_ends_the_attempts(connect, double):
    double.answers = [(503, ERROR, {"Retry-After": "3600"})]
    with pytest.raises(UnavailableError) as caught:
        connect(double.url).predict(POINTS)
    assert len(double.requests) == 1 and caught.value.retry_after == 3600


def test_refused_request_is_not_retried(connect, double):
    double.answers = [(400, ERROR, {})]
    with pytest.raises(RequestError) as caught:
        connect(double.url).predict(POINTS)
    error = caught.value
    assert (error.code, error.message, error.where, error.status) == ("wrong_type", "found text", "frame 1", 400)
    assert isinstance(error, InputError) and isinstance(error, ServerError) and str(error) == "frame 1: found text"
    assert len(double.requests) == 1


def test_failure_of_the_server_is_not_retried(connect, double):
    double.answers = [(500, {"error": {"code": "internal", "message": "the server failed", "where": None}}, {})]
    with pytest.raises(ServerError) as caught:
        connect(double.url).predict(POINTS)
    assert (caught.value.code, caught.value.status, len(double.requests)) == ("internal", 500, 1)
    assert not isinstance(caught.value, InputError)


def test_broken_connection_is_retried(connect):
    with dropping_connections(2, json.dumps(ANSWER).encode()) as url:
        assert connect(url).predict(POINTS).gloss == "HALLO"


@pytest.mark.slow
def test_connections_that_always_break_are_an_error(connect):
    with dropping_connections(9, b"") as url, pytest.raises(NoAnswerError) as caught:
        connect(url).predict(POINTS)
    assert caught.value.code == "no_server"


def test_address_without_a_server_is_an_error(connect):
    with pytest.raises(NoAnswerError, match=r"http://127\.0\.0\.1:.*spoter serve") as caught:
        connect(f"http://127.0.0.1:{free_port()}").predict(POINTS)
    assert caught.value.code == "no_server" and caught.value.status is None


def test_request_without_an_answer_is_retried_once(connect, double):
    double.answers = [LATE, GOOD]
    assert connect(double.url, timeout=0.5).predict(POINTS).gloss == "HALLO"
    assert len(double.bodies) == 2 and len(set(double.bodies)) == 1


@pytest.mark.slow
def test_late_answers_are_a_timeout(connect, double):
    double.answers = [LATE]
    with pytest.raises(NoAnswerError) as caught:
        connect(double.url, timeout=0.2).predict(POINTS)
    assert caught.value.code == "timeout" and len(double.requests) == 2
    with pytest.raises(NoAnswerError):
        connect(double.url, timeout=0.2, retry=Retry(attempts=1)).predict(POINTS)
    assert len(double.requests) == 3


@pytest.mark.parametrize("died", WORKER_DIED)
def test_request_whose_worker_died_is_retried(connect, double, died):
    double.answers = [died, BUSY, GOOD]
    assert connect(double.url).predict(POINTS).gloss == "HALLO"
    assert len(double.requests) == 3


@pytest.mark.parametrize("died", WORKER_DIED)
def test_request_that_kills_workers_is_retried_only_once(connect, double, died):
    double.answers = [died]
    with pytest.raises(ServerError) as caught:
        connect(double.url).predict(POINTS)
    assert (caught.value.status, len(double.requests)) == (died[0], 2)


def test_client_waits_between_attempts(connect, double, monkeypatch):
    waits = []
    monkeypatch.setattr(Retry, "wait_seconds", lambda retry, attempt, error: waits.append(attempt) or 0.0)
    double.answers = [WORKER_DIED[0], BUSY, GOOD]
    connect(double.url).predict(POINTS)
    assert waits == [1, 2]


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>Welcome</html>", {"Content-Type": "text/html"}),
        (200, {"status": "Healthy"}, {}),
        (200, [1, 2], {}),
        (200, b'{"instances": [', {"Content-Type": "application/json"}),
        (200, {"instances": "many"}, {}),
        (200, {"answers": []}, {}),
        (200, b"", {}),
        (302, b"", {"Location": "http://127.0.0.1/login"}),
        (400, {"error": "wrong"}, {}),
    ],
)
def test_answers_of_other_servers_are_errors(connect, double, answer):
    double.answers = [answer]
    with pytest.raises(ServerError) as caught:
        connect(double.url).predict(POINTS)
    expected = RequestError if answer[0] == 400 else UnexpectedAnswerError
    assert isinstance(caught.value, expected) and len(double.requests) == 1


@pytest.mark.parametrize(
    ("answer", "code", "part"),
    [
        ((404, {"code": 404, "type": "ModelNotFoundException", "message": "Model not found: x"}, {}),
         "ModelNotFoundException", "Model not found: x"),
        ((400, {"code": 400, "type": "InvalidKeyException", "message": "Token Authorization failed."}, {}),
         "InvalidKeyException", "token"),
        ((403, {"message": "Forbidden"}, {}), "status_403", "Forbidden"),
        ((404, b"not here", {"Content-Type": "text/plain"}), "status_404", "404 Not Found"),
        ((413, b"", {}), "body_too_large", "bytes"),
    ],
)  # fmt: skip
def test_errors_of_torchserve_and_gateways_are_request_errors(connect, double, answer, code, part):
    double.answers = [answer]
    with pytest.raises(RequestError) as caught:
        connect(double.url).predict(POINTS)
    assert caught.value.code == code and part in str(caught.value) and caught.value.status == answer[0]


def test_headers_token_and_address_are_sent(connect, double, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")  # no proxy listens there
    client = connect(f"{double.url}/invocations", token="secret", headers={"x-api-key": "key"})
    client.predict(POINTS)
    (request,) = double.requests
    assert request.url.path == "/invocations"
    sent = {name: request.headers[name] for name in ("authorization", "x-api-key", "content-type")}
    assert sent == {"authorization": "Bearer secret", "x-api-key": "key", "content-type": "application/json"}
    connect(double.url, model="other").predict(POINTS)
    assert double.requests[-1].url.path == "/predictions/other" and "authorization" not in double.requests[-1].headers


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "localhost", "ftp://host", "http://", "http://[::1", ""])
def test_invalid_address_is_an_error(url):
    with pytest.raises(SpoterError, match=re.escape(repr(url))):
        Client(url)


@pytest.mark.parametrize("token", ["s\u00e9cret", "secret\n"])
def test_error_about_an_invalid_token_does_not_show_it(connect, double, token):
    with pytest.raises(SpoterError, match="Authorization") as caught:
        connect(double.url, token=token).predict(POINTS)
    assert "cret" not in str(caught.value) and double.requests == []


def test_wait_grows_with_jitter_and_is_bounded():
    retry = Retry(attempts=9, first=1.0, longest=5.0)
    waits = [[retry.wait_seconds(attempt, OSError()) for _ in range(200)] for attempt in (1, 2, 3, 4, 8)]
    assert [max(row) <= limit for row, limit in zip(waits, (1, 2, 4, 5, 5), strict=True)] == [True] * 5
    assert all(len(set(row)) > 100 for row in waits) and max(waits[2]) > 2
    busy = UnavailableError("busy", "busy", status=503)
    busy.retry_after = 3.0
    assert all(3 <= retry.wait_seconds(1, busy) <= 4 for _ in range(50))
    assert retry.should_retry(busy)
    for longest in (5.0, 1e308):
        assert 0 <= Retry(attempts=10**6, longest=longest).wait_seconds(10**6, OSError()) <= longest
    for wrong in ({"attempts": 0}, {"first": -1}, {"first": 3, "longest": 2}):
        with pytest.raises(ValueError, match="attempts"):
            Retry(**wrong)


def test_retry_after_may_be_a_date(double):
    double.answers = [(503, ERROR, {"Retry-After": date}) for date in ("Wed, 21 Oct 2015 07:28:00 GMT", "soon", "")]
    for expected in (0.0, None, None):
        with (
            Client(double.url, retry=Retry(attempts=1), layout=54) as client,
            pytest.raises(UnavailableError) as caught,
        ):
            client.predict(POINTS)
        assert caught.value.retry_after == expected


@pytest.mark.parametrize(
    ("answer", "status", "part"),
    [
        (GOOD, 0, ""),
        ((400, ERROR, {}), 2, "status 400"),
        ((500, {"error": {"code": "internal", "message": "the server failed", "where": None}}, {}), 1, "the server"),
        ((503, ERROR, {"Retry-After": "3600"}), 1, "found text"),
        ((200, {"status": "Healthy"}, {}), 2, "status 200"),
    ],
)
def test_exit_status_of_the_command(double, samples, monkeypatch, capsys, answer, status, part):
    double.answers = [answer]
    monkeypatch.setattr(sys, "argv", ["spoter", "predict", "--server", double.url, str(samples / "software.npy")])
    with pytest.raises(SystemExit) as caught:
        main.main()
    out, err = capsys.readouterr()
    assert int(caught.value.code or 0) == status and part in err and err.count("\n") == bool(status)
    assert (out == json.dumps(answer[1]) + "\n") == (answer in (GOOD, (400, ERROR, {})))
    assert double.bodies == [(samples / "software.npy").read_bytes()]
