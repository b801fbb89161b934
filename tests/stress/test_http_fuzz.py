"""The HTTP fuzzer: requests are reproducible, and wrong answers are detected."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from stress.http_fuzz import MAX_JAVA_GROWTH, MAX_WORKER_GROWTH, Findings, may_be_closed, save_failures
from stress.mutations import MUTATIONS, FuzzRequest, make_request, seed_requests
from stress.raw_http import PATH, HttpAnswer, judge


def error(code: str) -> bytes:
    return json.dumps({"error": {"code": code, "message": "…", "where": None}}).encode()


def torchserve_error(kind: str) -> bytes:
    return json.dumps({"code": 0, "type": kind, "message": "…"}).encode()


JSON, LINES, CSV = "application/json", "application/jsonlines", "text/csv"
ANSWERS = {
    "an answer": (200, JSON, b"{}", None),
    "lines": (200, LINES, b"{}\n{}\n", None),
    "a table": (200, CSV, b"a,b\n1,2\n", None),
    "health": (200, JSON, b'{"status": "Healthy"}', None),
    "invalid JSON": (200, JSON, b"{", "application/json"),
    "an invalid line": (200, LINES, b"{}\n{\n", "application/jsonlines"),
    "an invalid table": (200, CSV, b"a,b\n1\n", "text/csv"),
    "text": (200, "text/plain", b"hello", "text/plain"),
    "our error": (400, JSON, error("invalid_json"), None),
    "our errors for all clips": (400, JSON, b'{"answers":[%s]}' % error("wrong_type"), None),
    "our error in lines": (400, LINES, error("invalid_json") + b"\n", None),
    "our error in a table": (400, CSV, b"clip,error\n0,wrong_type: here\n", None),
    "another status": (413, JSON, error("invalid_json"), "413"),
    "an unknown code": (400, JSON, error("unheard_of"), "unheard_of"),
    "a later unknown code": (400, LINES, error("invalid_json") + b"\n" + error("unheard_of"), "unheard_of"),
    "our internal error": (500, JSON, error("internal"), "500"),
    "our error for a busy server": (503, JSON, error("video_busy"), "503"),
    "TorchServe's error": (404, JSON, torchserve_error("ResourceNotFoundException"), None),
    "TorchServe's full queue": (503, JSON, torchserve_error("ServiceUnavailableException"), None),
    "a worker's exception": (503, JSON, torchserve_error("InternalServerException"), "…"),
    "a worker's death": (507, JSON, torchserve_error("InternalServerException"), "…"),
    "too large for TorchServe": (413, "", b"", None),
    "nothing": (500, "", b"", "b''"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_judged(name):
    status, kind, body, expected = ANSWERS[name]
    problem = judge(HttpAnswer(status, kind, body))[1]
    assert problem is None if expected is None else expected in problem


def test_requests_are_reproducible():
    requests = [make_request(3, number) for number in range(200)]
    assert [make_request(3, number) for number in range(200)] == requests
    assert len({request.to_bytes() for request in requests}) > 120
    assert requests != [make_request(4, number) for number in range(200)]
    assert {mutation for request in requests for mutation in request.mutations} == set(MUTATIONS)


def test_bytes_of_a_request():
    request = FuzzRequest(b"abcdefghij", "text/csv", headers=(("Accept", "é"),))
    head, _, body = request.to_bytes().partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        f"POST {PATH} HTTP/1.1".encode(), b"Host: localhost", b"Content-Type: text/csv", b"Content-Length: 10",
        b"Accept: \xe9",
    ]  # fmt: skip
    assert body == b"abcdefghij" and request.is_complete and not may_be_closed(request)
    assert replace(request, chunk_size=7).to_bytes().endswith(b"7\r\nabcdefg\r\n3\r\nhij\r\n0\r\n\r\n")
    assert replace(request, copies=3).to_bytes() == request.to_bytes() * 3
    short = replace(request, length=3)
    assert b"Content-Length: 3" in short.to_bytes() and not short.is_complete and may_be_closed(short)


def test_seeds_include_every_form_of_a_request():
    kinds = {kind for _, kind in seed_requests("")}
    assert kinds == {JSON, LINES, CSV, "application/x-npy", "video/mp4"}
    keys = {key for body, kind in seed_requests("") if kind == JSON for key in json.loads(body)}
    assert keys >= {"keypoints", "points", "clips", "enroll", "enrolled", "describe", "frames", "uniqueName"}


def test_memory_growth_is_measured_from_the_warm_up_to_the_end():
    findings = Findings()
    for step in range(100):
        findings.memory.append((step / 100, {"java": int(1e8 * step), "worker 1": int(2e8 + (step < 10) * 1e9)}))
    assert findings.memory_medians()[1] == ("worker 1", int(2e8), int(2e8))
    assert len(findings.memory_problems()) == 1 and "java" in findings.memory_problems()[0]
    findings.memory = [
        (0.5, {"worker 1": 0, "java": 0}),
        (1.0, {"worker 1": int(MAX_WORKER_GROWTH), "java": int(MAX_JAVA_GROWTH)}),
    ]
    assert findings.memory_problems() == []
    findings.memory[-1] = (1.0, {"worker 1": int(MAX_WORKER_GROWTH) + 1, "java": 0})
    assert [line.split()[0] for line in findings.memory_problems()] == ["worker"]


def test_failed_request_is_written_with_the_command_to_repeat_it(tmp_path):
    request = make_request(5, 17)
    findings = Findings(failures=[(17, request, "500: a problem")])
    save_failures(findings, 5, tmp_path / "http")
    assert (tmp_path / "http" / "5-17.http").read_bytes() == request.to_bytes()
    text = (tmp_path / "http" / "5-17.txt").read_text()
    assert "--seed 5 --first 17 --requests 1" in text and "500: a problem" in text
