"""A short overload of a server."""

from __future__ import annotations

from benchmarks.load.bodies import compact_request
from benchmarks.load.client import Request, run_closed_loop
from stress.harness import worker_pids
from stress.overload import longest_wait_s, overload


def test_excess_requests_are_refused_and_none_is_lost(unharmed):
    workers = worker_pids(unharmed)
    report = overload(unharmed, seconds=1, times=8, calm=1, patience=1)
    statuses = report.load.statuses
    assert set(statuses) == {200, 503}
    # TorchServe cannot set Retry-After; the proxy in docs/security-setup.md sets it.
    assert not any("retry-after" in map(str.lower, answer.headers) for answer in report.refusals)
    assert set(run_closed_loop(unharmed.url, [Request(compact_request())], 1, 1).statuses) == {200}
    assert worker_pids(unharmed) == workers


def test_longest_wait_includes_queue_and_batches():
    assert longest_wait_s(rate=100, queue=88, batch=4) == 1.0  # 88 and three batches of four requests
