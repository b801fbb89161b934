"""Faults of a server under load, in short, and how what clients saw of them is judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from benchmarks.load.bodies import compact_request
from benchmarks.load.client import Answer
from stress.faults import strike, unexpected
from stress.harness import BACK, Outcome, call, wait_workers
from stress.runtime_faults import BATCH, FAULTS, WORKERS, Fault, register_again
from stress.startup_faults import BROKEN, refusal

BY_NAME = {fault.name: fault for fault in FAULTS}


@pytest.mark.parametrize("name", ["kill-worker", "next-version"])
def test_a_fault_is_borne(kill_program, unharmed, name):
    fault = BY_NAME[name]
    seen = strike(unharmed, fault, rate=8, before=1)
    assert seen.wrong == []
    assert seen.outcome.good >= BACK
    assert set(seen.outcome.others) <= fault.statuses  # what docs/operations.md says of it


def test_a_model_is_gone_and_comes_back(kill_program, unharmed):
    """Without load: TorchServe forgets what waits for a model that is unregistered."""
    register_again(unharmed)
    assert wait_workers(unharmed, WORKERS)
    assert call(unharmed.url, compact_request()).status == 200


def test_a_broken_model_is_refused_in_words():
    [broken] = [broken for broken in BROKEN if broken.name == "cut-weights"]
    status, line, fits = refusal(broken)
    assert fits, (status, line)


def answers(*statuses: int | None) -> list[Answer]:
    """One request a second, each answered after a tenth of one."""
    return [Answer(float(n), 0.1, status, None if status else "Lost: x") for n, status in enumerate(statuses)]


def test_outcome():
    seen = Outcome.of(answers(200, 200, 507, 503, None, 200, *[200] * BACK), struck=1.5)
    assert (seen.sent, seen.good, seen.refused) == (6 + BACK, 3 + BACK, 1)
    assert (seen.others, seen.unanswered) == (Counter({507: 1}), Counter({"Lost": 1}))
    assert seen.back_s == 3.5  # from 1.5 to the request at 5
    assert Outcome.of(answers(*[200] * BACK), struck=1.5).back_s == 0
    assert Outcome.of(answers(*[200] * BACK, 503), struck=1.5).back_s is None


def test_what_is_unexpected():
    fault = Fault("f", "", lambda _: None, "", frozenset({507}))
    away = Fault("a", "", lambda _: None, "", away=True)
    assert unexpected(fault, answers(200, 200, 507, 503, 200), 1.5, 3.5) == []
    assert unexpected(fault, answers(503, 200, 200), 1.5, 3.5) == ["requests failed before the fault"]
    assert unexpected(fault, answers(200, 200, None), 1.5, 3.5) == ["1 requests without an answer"]
    assert unexpected(fault, answers(200, 200, 500), 1.5, 3.5) == ["statuses [500]"]
    assert unexpected(away, answers(200, 200, None, None, 200), 1.5, 3.5) == []
    assert unexpected(replace(fault, forgotten="why"), answers(200, 200, None), 1.5, 3.5) == []
    assert unexpected(away, answers(200, 200, None, 200, None), 1.5, 3.5) == ["1 requests without an answer"]


def test_a_killed_worker_may_lose_one_batch_and_no_more():
    fault = Fault("k", "", lambda _: None, "", killed=1)
    lost = [Answer(1.0, 90.0, None, "TimeoutError")] * BATCH
    assert unexpected(fault, [*answers(200), *lost], 1.5, 3.5) == []
    assert unexpected(fault, [*answers(200), *lost, lost[0]], 1.5, 3.5) == ["1 requests without an answer"]
    late = Answer(4.0, 90.0, None, "TimeoutError")
    assert unexpected(fault, [*answers(200), late], 1.5, 3.5) == ["1 requests without an answer"]
