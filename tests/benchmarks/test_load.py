"""benchmarks.load against a server with known answers: clients, rates, failures, usage of processes, and wrk."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter

import psutil
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from benchmarks.load import wrk
from benchmarks.load.client import Request, run_closed_loop, run_open_loop
from benchmarks.load.usage import measure_usage
from spoter.errors import SpoterError
from spoter.ops.ports import LOOPBACK, free_port
from spoter.processes import end_process_tree
from tests.listening import listening

pytestmark = pytest.mark.slow


class Counting:
    """A server that answers with the status in the body, and counts open requests."""

    def __init__(self):
        self.bodies: list[bytes] = []
        self.open = self.most = 0

    async def answer(self, request):
        self.open += 1
        self.most = max(self.most, self.open)
        body = await request.body()
        self.bodies.append(body)
        await asyncio.sleep(0.005)
        self.open -= 1
        return PlainTextResponse(b"received " + body, int(body), {"x-kind": request.headers["content-type"]})


@pytest.fixture
def counting():
    return Counting()


@pytest.fixture
def url(counting):
    with listening(Starlette(routes=[Route("/", counting.answer, methods=["POST"])])) as url:
        yield url


def test_closed_loop_never_exceeds_its_number_of_clients(url, counting):
    load = run_closed_loop(url, [Request(b"200"), Request(b"503", "text/csv")], clients=3, seconds=60, most=40)
    assert load.statuses == {200: 20, 503: 20} and Counter(counting.bodies) == {b"200": 20, b"503": 20}
    assert counting.most == 3
    assert len(load.good) == 20 and load.rate == pytest.approx(20 / load.seconds)
    refused = load.failures[0]
    assert (refused.body, refused.headers["x-kind"], refused.request) == (b"received 503", "text/csv", 1)
    assert load.good[0].body == b""
    with pytest.raises(SpoterError, match="503"):
        load.require_success()


def test_open_loop_does_not_wait_for_answers(url, counting):
    watched = []
    load = run_open_loop(url, [Request(b"200")], rate=400, seconds=1, seed=3, watch=watched.append)
    # For a Poisson process with 400 arrivals, 120 is six standard deviations.
    assert 280 < len(load.answers) == len(watched) < 520
    assert load.statuses == {200: len(load.answers)}
    assert counting.most > 1
    repeated = run_open_loop(url, [Request(b"200")], rate=400, seconds=1, seed=3)
    assert len(repeated.answers) == len(load.answers), "the same seed gave different arrivals"


def test_requests_without_an_answer_are_counted():
    load = run_closed_loop(f"http://{LOOPBACK}:{free_port()}/", [Request(b"200")], clients=1, seconds=60, most=2)
    assert load.statuses == {None: 2} and "Cannot connect" in load.answers[0].error
    assert load.rate == 0 and load.percentile(50) != load.percentile(50)


def test_usage_includes_the_processes_of_a_session():
    worker = "[sys.executable, '-c', 'input()', 'model_service_worker.py']"
    program = f"import subprocess, sys; subprocess.Popen({worker}); input()"
    leader = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, start_new_session=True)
    try:
        while len(psutil.Process(leader.pid).children()) == 0:
            assert leader.poll() is None
        usage = measure_usage(leader)
        assert len(usage.processes) == 2 and usage.frontend is None
        [worker] = usage.workers
        assert worker.pid != leader.pid and 0 < worker.pss <= worker.rss and worker.handles >= 3
    finally:
        end_process_tree(leader, 1)
    assert measure_usage(leader).processes == ()


@pytest.mark.skipif(not wrk.is_installed(), reason="wrk is not installed; benchmarks use benchmarks.load.client")
def test_wrk_counts_answers_refusals_and_lost_requests(url, counting):
    counted = wrk.run_wrk(url, Request(b"200", "text/x-kind"), 4, 0.3)
    assert counting.most == 4 and counted["seconds"] == pytest.approx(1, abs=0.5)  # rounded up to 1
    assert 0 < counted["requests"] <= len(counting.bodies) and counted["refused"] == counted["lost"] == 0
    assert 5 <= counted["p50"] <= counted["p95"] <= counted["p99"] and counted["cpu_s"] > 0
    refused = wrk.run_wrk(url, Request(b"503", "text/x-kind"), 1, 1)
    assert refused["refused"] == refused["requests"] > 0
    with pytest.raises(OSError, match="unable to connect"):
        wrk.run_wrk(f"http://{LOOPBACK}:{free_port()}/", Request(b"200"), 1, 1)
