"""Benchmarks of a server, against the real server that the tests share."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import psutil
import pytest

from benchmarks.capacity import server as capacity_server
from benchmarks.serving import growth
from spoter.ops import readiness
from spoter.ops.ports import LOOPBACK
from tests.e2e.live import RunningServer


@pytest.fixture
def shared_server(server: RunningServer, monkeypatch) -> None:
    """Make benchmarks use the running server instead of starting one."""
    (process,) = (child for child in psutil.Process().children() if str(server.folder) == child.cwd())
    leader = SimpleNamespace(pid=process.pid, poll=lambda: None)  # the fixture `server` holds the real Popen

    def manage(method: str, path: str) -> object:
        return json.loads(readiness.send(f"http://{LOOPBACK}:{server.management}{path}", None, method=method).body)

    @contextmanager
    def running_server(*_: object, **__: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(url=f"http://{LOOPBACK}:{server.port}/predictions/spoter", leader=leader, manage=manage)

    monkeypatch.setattr(growth, "running_server", running_server)
    monkeypatch.setattr(capacity_server, "running_server", running_server)


def test_growth_with_clients_is_measured(shared_server, dgs11):
    waiting, answering = growth.grow_clients(dgs11, (1, 4), 2.0)
    assert waiting.sizes == answering.sizes == (1, 4)
    assert len(waiting.series) == 2
    medians = [[timing.median for timing in each] for one in (waiting, answering) for each in one.series.values()]
    assert min(map(min, medians)) > 0
    assert medians[0][1] > medians[0][0]  # one worker


def test_measured_capacity_is_compared_with_the_simulation(shared_server, server, dgs11, monkeypatch):
    monkeypatch.setattr(capacity_server, "_WARM_UP", 0.3)
    monkeypatch.setattr(capacity_server, "_SIMULATED", 3000)
    measured, compared = capacity_server.measure_server(dgs11, 1, 1.0, True, 0)
    model = server.describe()
    assert (measured.batch, measured.delay_ms, measured.queue) == (model["batchSize"], model["maxBatchDelay"], 100)
    assert {1, measured.batch} <= set(measured.service_ms) and measured.overhead_ms >= 0
    rate = measured.capacity
    assert [row.rate for row in compared] == pytest.approx([load * rate for load in capacity_server.LOADS], rel=0.01)
    lines = capacity_server.comparison_table(measured, compared).splitlines()
    assert len(lines) == 9 and "| 60 % |" in lines[7]
    assert all(math.isfinite(row.simulated.percentile(95)) and row.measured.statuses[200] > 0 for row in compared)
