"""The HTTP fuzzer: what it sends can be sent again, and it finds what it is to find."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from stress.http_fuzz import MAX_JAVA_GROWTH, MAX_WORKER_GROWTH, Findings, may_be_closed, save_failures
from stress.mutations import MUTATIONS, FuzzRequest, make_request, seed_requests
from stress.raw_http import PATH, HttpAnswer, judge


def error(code: str) -> bytes:
    return json.dumps({"error": {"code": code, "message": "…", "where": None}}).encode()


def theirs(kind: str) -> bytes:
    return json.dumps({"code": 0, "type": kind, "message": "…"}).encode()


JSON, LINES, CSV = "application/json", "application/jsonlines", "text/csv"
ANSWERS = {
    "an answer": (200, JSON, b"{}", None),
    "lines": (200, LINES, b"{}\n{}\n", None),
    "a table": (200, CSV, b"a,b\n1,2\n", None),
    "health": (200, JSON, b'{"status": "Healthy"}', None),
    "no JSON": (200, JSON, b"{", "no application/json"),
    "a broken line": (200, LINES, b"{}\n{\n", "no application/jsonlines"),
    "a broken table": (200, CSV, b"a,b\n1\n", "rows of several lengths"),
    "text": (200, "text/plain", b"hello", "text/plain"),
    "our refusal": (400, JSON, error("invalid_json"), None),
    "our refusal of all clips": (400, JSON, b'{"answers":[%s]}' % error("wrong_type"), None),
    "our refusal in lines": (400, LINES, error("invalid_json") + b"\n", None),
    "our refusal in a table": (400, CSV, b"clip,error\n0,wrong_type: here\n", None),
    "another status": (413, JSON, error("invalid_json"), "invalid_json with 413"),
    "an unknown code": (400, JSON, error("unheard_of"), "unheard_of"),
    "an unknown code later": (400, LINES, error("invalid_json") + b"\n" + error("unheard_of"), "unheard_of"),
    "our failure": (500, JSON, error("internal"), "a failure of ours"),
    "too busy, ours": (503, JSON, error("video_busy"), "a failure of ours"),
    "TorchServe's refusal": (404, JSON, theirs("ResourceNotFoundException"), None),
    "TorchServe's queue": (503, JSON, theirs("ServiceUnavailableException"), None),
    "a worker's exception": (503, JSON, theirs("InternalServerException"), "…"),
    "a worker's death": (507, JSON, theirs("InternalServerException"), "…"),
    "too large for TorchServe": (413, "", b"", None),
    "nothing": (500, "", b"", "b''"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_judged(name):
    status, kind, body, wrong = ANSWERS[name]
    found = judge(HttpAnswer(status, kind, body))[1]
    assert found is None if wrong is None else wrong in found


def test_a_request_can_be_made_again():
    made = [make_request(3, number) for number in range(200)]
    assert [make_request(3, number) for number in range(200)] == made
    assert len({one.to_bytes() for one in made}) > 120
    assert made != [make_request(4, number) for number in range(200)]
    assert {mutation for one in made for mutation in one.mutations} == set(MUTATIONS)


def test_what_is_written_to_a_connection():
    made = FuzzRequest(b"abcdefghij", "text/csv", headers=(("Accept", "é"),))
    head, _, body = made.to_bytes().partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        f"POST {PATH} HTTP/1.1".encode(), b"Host: localhost", b"Content-Type: text/csv", b"Content-Length: 10",
        b"Accept: \xe9",
    ]  # fmt: skip
    assert body == b"abcdefghij" and made.is_complete and not may_be_closed(made)
    assert replace(made, chunk_size=7).to_bytes().endswith(b"7\r\nabcdefg\r\n3\r\nhij\r\n0\r\n\r\n")
    assert replace(made, copies=3).to_bytes() == made.to_bytes() * 3
    short = replace(made, length=3)
    assert b"Content-Length: 3" in short.to_bytes() and not short.is_complete and may_be_closed(short)


def test_every_form_of_a_request_is_among_the_seeds():
    kinds = {kind for _, kind in seed_requests("")}
    assert kinds == {JSON, LINES, CSV, "application/x-npy", "video/mp4"}
    keys = {key for body, kind in seed_requests("") if kind == JSON for key in json.loads(body)}
    assert keys >= {"keypoints", "points", "clips", "enroll", "enrolled", "describe", "frames", "uniqueName"}


def test_growth_is_from_the_warm_up_to_the_end():
    found = Findings()
    for step in range(100):
        found.memory.append((step / 100, {"java": int(1e8 * step), "worker 1": int(2e8 + (step < 10) * 1e9)}))
    assert found.memory_medians()[1] == ("worker 1", int(2e8), int(2e8))
    assert len(found.memory_problems()) == 1 and "java" in found.memory_problems()[0]
    found.memory = [
        (0.5, {"worker 1": 0, "java": 0}),
        (1.0, {"worker 1": int(MAX_WORKER_GROWTH), "java": int(MAX_JAVA_GROWTH)}),
    ]
    assert found.memory_problems() == []
    found.memory[-1] = (1.0, {"worker 1": int(MAX_WORKER_GROWTH) + 1, "java": 0})
    assert [line.split()[0] for line in found.memory_problems()] == ["worker"]


def test_a_request_that_failed_is_kept_with_the_way_to_repeat_it(tmp_path):
    made = make_request(5, 17)
    found = Findings(failures=[(17, made, "500: a failure of ours")])
    save_failures(found, 5, tmp_path / "http")
    assert (tmp_path / "http" / "5-17.http").read_bytes() == made.to_bytes()
    said = (tmp_path / "http" / "5-17.txt").read_text()
    assert "--seed 5 --first 17 --requests 1" in said and "a failure of ours" in said
