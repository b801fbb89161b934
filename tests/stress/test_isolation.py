"""Requests of every kind that share a batch: each gets what it gets alone."""

from __future__ import annotations

import json

from stress.isolation import are_same, isolation_cases, send_mixed


def test_each_of_a_mixed_batch_gets_its_own_answer(unharmed):
    left_out = ("slow: 64", "huge: 20 MB")  # seconds of a busy machine
    asked = [item for item in isolation_cases() if not item.name.startswith(left_out)]
    rows, wrong, together = send_mixed(unharmed, asked, rounds=2)
    assert wrong == 0, rows
    assert together > 1  # else nothing was shared


def test_what_counts_as_the_are_same():
    answer = {"instances": [{"gloss": "A", "score": 0.5}], "frames": 3}
    near = {"instances": [{"gloss": "A", "score": 0.50001}], "frames": 3}
    for other in ({**answer, "frames": 4}, {"instances": [{"gloss": "B", "score": 0.5}], "frames": 3}, [answer]):
        assert not are_same(json.dumps(answer), json.dumps(other))
    assert are_same(json.dumps(answer), json.dumps(near))
    assert are_same("no JSON", "no JSON") and not are_same("no JSON", "none")
