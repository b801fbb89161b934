"""Faults of a server under load, in short, and how what clients saw of them is judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from benchmarks.load.bodies import compact_request
from benchmarks.load.client import Answer
from stress.faults import Outcome, find_problems, inject_fault
from stress.harness import RECOVERED, call, wait_workers
from stress.runtime_faults import BATCH, FAULTS, Fault, register_again
from stress.startup_faults import STARTUP_FAULTS, try_start

BY_NAME = {fault.name: fault for fault in FAULTS}


@pytest.mark.parametrize("name", ["kill-worker", "next-version"])
def test_a_fault_is_borne(kill_program, unharmed, name):
    fault = BY_NAME[name]
    report = inject_fault(unharmed, fault, rate=8, before=1)
    assert report.problems == []
    assert report.outcome.good >= RECOVERED
    assert set(report.outcome.others) <= fault.statuses  # as in docs/failures.md


def test_a_model_is_gone_and_comes_back(kill_program, unharmed):
    """Without load: TorchServe forgets what waits for a model that is unregistered."""
    register_again(unharmed)
    assert wait_workers(unharmed)
    assert call(unharmed.url, compact_request()).status == 200


def test_a_broken_model_is_refused_in_words():
    [fault] = [fault for fault in STARTUP_FAULTS if fault.name == "cut-weights"]
    status, line, is_expected = try_start(fault)
    assert is_expected, (status, line)


def answers(*statuses: int | None) -> list[Answer]:
    """One request a second, each answered after a tenth of one."""
    return [Answer(float(n), 0.1, status, None if status else "Lost: x") for n, status in enumerate(statuses)]


def test_outcome():
    seen = Outcome.from_answers(answers(200, 200, 507, 503, None, 200, *[200] * RECOVERED), injected=1.5)
    assert (seen.sent, seen.good, seen.refused) == (6 + RECOVERED, 3 + RECOVERED, 1)
    assert (seen.others, seen.unanswered) == (Counter({507: 1}), Counter({"Lost": 1}))
    assert seen.recovery_s == 3.5  # from 1.5 to the request at 5
    assert Outcome.from_answers(answers(*[200] * RECOVERED), injected=1.5).recovery_s == 0
    assert Outcome.from_answers(answers(*[200] * RECOVERED, 503), injected=1.5).recovery_s is None


def test_what_is_find_problems():
    fault = Fault("f", "", lambda _: None, "", frozenset({507}))
    away = Fault("a", "", lambda _: None, "", frontend_down=True)
    assert find_problems(fault, answers(200, 200, 507, 503, 200), 1.5, 3.5) == []
    assert find_problems(fault, answers(503, 200, 200), 1.5, 3.5) == ["requests failed before the fault"]
    assert find_problems(fault, answers(200, 200, None), 1.5, 3.5) == ["1 requests without an answer"]
    assert find_problems(fault, answers(200, 200, 500), 1.5, 3.5) == ["statuses [500]"]
    assert find_problems(away, answers(200, 200, None, None, 200), 1.5, 3.5) == []
    assert find_problems(replace(fault, known_loss="why"), answers(200, 200, None), 1.5, 3.5) == []
    assert find_problems(away, answers(200, 200, None, 200, None), 1.5, 3.5) == ["1 requests without an answer"]


def test_a_killed_worker_may_lose_one_batch_and_no_more():
    fault = Fault("k", "", lambda _: None, "", workers_killed=1)
    lost = [Answer(1.0, 90.0, None, "TimeoutError")] * BATCH
    assert find_problems(fault, [*answers(200), *lost], 1.5, 3.5) == []
    assert find_problems(fault, [*answers(200), *lost, lost[0]], 1.5, 3.5) == ["1 requests without an answer"]
    late = Answer(4.0, 90.0, None, "TimeoutError")
    assert find_problems(fault, [*answers(200), late], 1.5, 3.5) == ["1 requests without an answer"]
