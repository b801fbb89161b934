"""More requests than a server can answer, for a moment."""

from __future__ import annotations

from benchmarks.load.bodies import compact_request
from benchmarks.load.client import Request, run_closed_loop
from stress.harness import worker_pids
from stress.overload import longest_wait_s, overload


def test_what_is_too_much_is_refused_and_nothing_is_lost(unharmed):
    workers = worker_pids(unharmed)
    report = overload(unharmed, seconds=1, times=8, calm=1, patience=1)
    statuses = report.load.statuses
    assert set(statuses) == {200, 503}
    # TorchServe cannot say when to ask again: docs/security-setup.md has a proxy that does.
    assert not any("retry-after" in map(str.lower, answer.headers) for answer in report.refusals)
    assert set(run_closed_loop(unharmed.url, [Request(compact_request())], 1, 1).statuses) == {200}
    assert worker_pids(unharmed) == workers


def test_the_bound_of_the_queue():
    assert longest_wait_s(rate=100, queue=88, batch=4) == 1.0  # and three batches of four
