"""A real TorchServe answers requests that are too large, compressed, contradictory or endless as documented."""

from __future__ import annotations

import pytest

from benchmarks.load.bodies import compact_request
from spoter.messages import RawRequest
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond
from stress.harness import call, worker_pids
from stress.limits import CASES, CROWDS, SILENCE, hold_crowd, send_case, send_pipelined

ANSWERED = [case for case in CASES if case.wait > SILENCE]  # the other cases only wait, for seconds


@pytest.mark.parametrize("case", ANSWERED, ids=lambda case: case.name)
def test_case_gets_an_expected_answer(unharmed, case):
    result, is_expected = send_case(case, unharmed.ports[0])
    assert is_expected, (result.summary, result.seconds)


def test_requests_on_one_connection_are_all_answered(unharmed):
    all_answered, _ = send_pipelined(unharmed.ports[0])
    assert all_answered


@pytest.mark.parametrize("crowd", CROWDS[2:], ids=lambda crowd: crowd.name)
def test_other_clients_are_served_during_a_crowd(unharmed, crowd):
    workers = worker_pids(unharmed)
    effect = hold_crowd(unharmed, crowd, 30, stay=1)
    assert effect.all_served
    assert effect.during.handles >= effect.before.handles + effect.number - effect.closed  # connections were open
    assert effect.after.handles < effect.during.handles - effect.number / 2  # and are closed
    assert worker_pids(unharmed) == workers
    assert call(unharmed.url, compact_request()).status == 200


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "identity, gzip", "x" * 1000])
def test_compressed_bodies_are_refused(dgs11, coding):
    [response], _ = respond(Recognizer.load(dgs11), [RawRequest(compact_request(), content_encoding=coding)])
    assert (response.status, response.error_code) == (415, "unsupported_content_encoding")
    assert len(response.body) < 500


@pytest.mark.parametrize("coding", [None, "", "identity", " Identity "])
def test_uncompressed_bodies_are_read(dgs11, coding):
    [response], _ = respond(Recognizer.load(dgs11), [RawRequest(compact_request(), content_encoding=coding)])
    assert response.status == 200
