"""Requests of every kind that share a batch get the same answers as in batches of one."""

from __future__ import annotations

import json

from stress.isolation import are_same, isolation_cases, send_mixed


def test_requests_in_a_mixed_batch_get_the_same_answers(unharmed):
    skipped = ("slow: 64", "huge: 20 MB")  # these take seconds on a busy machine
    cases = [case for case in isolation_cases() if not case.name.startswith(skipped)]
    rows, wrong, mean_batch = send_mixed(unharmed, cases, rounds=2)
    assert wrong == 0, rows
    assert mean_batch > 1  # some requests shared a batch


def test_answers_are_the_same_within_the_tolerance_of_scores():
    answer = {"instances": [{"gloss": "A", "score": 0.5}], "frames": 3}
    similar = {"instances": [{"gloss": "A", "score": 0.50001}], "frames": 3}
    for other in ({**answer, "frames": 4}, {"instances": [{"gloss": "B", "score": 0.5}], "frames": 3}, [answer]):
        assert not are_same(json.dumps(answer), json.dumps(other))
    assert are_same(json.dumps(answer), json.dumps(similar))
    assert are_same("no JSON", "no JSON") and not are_same("no JSON", "none")
