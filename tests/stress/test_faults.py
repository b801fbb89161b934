"""Short runs of faults under load, and the evaluation of the answers that clients get."""

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
def test_service_recovers_from_a_fault(kill_program, unharmed, name):
    fault = BY_NAME[name]
    report = inject_fault(unharmed, fault, rate=8, before=1)
    assert report.problems == []
    assert report.outcome.good >= RECOVERED
    assert set(report.outcome.others) <= fault.statuses  # as in docs/failures.md


def test_model_is_registered_again(kill_program, unharmed):
    """The test sends no load, because TorchServe loses requests that wait for an unregistered model."""
    register_again(unharmed)
    assert wait_workers(unharmed)
    assert call(unharmed.url, compact_request()).status == 200


def test_broken_model_is_refused_with_a_reason():
    [fault] = [fault for fault in STARTUP_FAULTS if fault.name == "cut-weights"]
    status, line, is_expected = try_start(fault)
    assert is_expected, (status, line)


def answers(*statuses: int | None) -> list[Answer]:
    """Return answers to one request per second; each takes 0.1 s."""
    return [Answer(float(n), 0.1, status, None if status else "Lost: x") for n, status in enumerate(statuses)]


def test_outcome():
    outcome = Outcome.from_answers(answers(200, 200, 507, 503, None, 200, *[200] * RECOVERED), injected=1.5)
    assert (outcome.sent, outcome.good, outcome.refused) == (6 + RECOVERED, 3 + RECOVERED, 1)
    assert (outcome.others, outcome.unanswered) == (Counter({507: 1}), Counter({"Lost": 1}))
    assert outcome.recovery_s == 3.5  # from 1.5 to the request at 5
    assert Outcome.from_answers(answers(*[200] * RECOVERED), injected=1.5).recovery_s == 0
    assert Outcome.from_answers(answers(*[200] * RECOVERED, 503), injected=1.5).recovery_s is None


def test_find_problems():
    fault = Fault("f", "", lambda _: None, "", frozenset({507}))
    restart = Fault("a", "", lambda _: None, "", frontend_down=True)
    lossy = replace(fault, known_loss="reason")
    assert find_problems(fault, answers(200, 200, 507, 503, 200), 1.5, 3.5) == []
    assert find_problems(fault, answers(503, 200, 200), 1.5, 3.5) == ["requests failed before the fault"]
    for unexpected_fault, statuses, part in (
        (fault, (200, 200, None), "1 request"),
        (fault, (200, 200, 500), "[500]"),
        (restart, (200, 200, None, 200, None), "1 request"),
    ):
        [problem] = find_problems(unexpected_fault, answers(*statuses), 1.5, 3.5)
        assert part in problem
    assert find_problems(restart, answers(200, 200, None, None, 200), 1.5, 3.5) == []
    assert find_problems(lossy, answers(200, 200, None), 1.5, 3.5) == []


def test_killed_worker_may_lose_at_most_one_batch():
    fault = Fault("k", "", lambda _: None, "", workers_killed=1)
    lost = [Answer(1.0, 90.0, None, "TimeoutError")] * BATCH
    assert find_problems(fault, [*answers(200), *lost], 1.5, 3.5) == []
    after_repair = Answer(4.0, 90.0, None, "TimeoutError")
    for too_many in ([*lost, lost[0]], [after_repair]):
        [problem] = find_problems(fault, [*answers(200), *too_many], 1.5, 3.5)
        assert problem.startswith("1 request")
