"""Asks every server the same in turn, in rounds, so that a slow moment of the machine hits all of them."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from tqdm import tqdm

from benchmarks.load import wrk
from benchmarks.load.bodies import bodies
from benchmarks.load.client import Load, Request, run_closed_loop, run_open_loop
from benchmarks.peers import in_process
from benchmarks.peers import servers as server
from benchmarks.peers.servers import ORIGINAL, Running

IN_PROCESS = "in process"
SHARES = (0.5, 0.8)
"""Rates of the open loop, as shares of what the server reached in the closed loop of the most clients."""

# To each server once it is up, of each kind: so many requests, for so many seconds at most. TorchServe's Java compiles
# its code after some hundred of them, and takes a third of the time from then on; production is past that.
FIRST, FIRST_S = 600, 6.0
# Before each measurement, to bring back what a pause has cost: so many requests, for so many seconds at most.
WARM, WARM_S = 200, 1.0


@dataclass(frozen=True)
class Figures:
    """What was measured of one server under one load: each figure the median of the rounds, but counts are summed.

    Attributes
    ----------
    rate : float
        Answers of status 200 a second.
    p50, p95, p99 : float
        Milliseconds, of answers of status 200.
    cpu_ms, client_cpu_ms : float
        Processor milliseconds for each request: of all the server's processes, and of the client, which ran on the same
        cores. None where there is no client.
    lag_ms : float
        In the open loop: by how much later than planned the client sent half of its requests.
    requests : int
    failures : dict of str to int
        Requests that were not answered with 200, by what came instead.
    """

    rate: float
    p50: float
    p95: float
    p99: float
    cpu_ms: float | None = None
    client_cpu_ms: float | None = None
    lag_ms: float = 0.0
    requests: int = 0
    failures: dict[str, int] | None = None


@dataclass(frozen=True)
class Row:
    """Figures with what they are of; `load` is ``closed N`` (clients) or ``open N %``."""

    server: str
    request: str
    load: str
    figures: Figures


@dataclass(frozen=True)
class Footprint:
    """What a server takes beside requests: seconds to its first answer, % of a core while idle, memory in bytes."""

    server: str
    ready_s: float
    processes: int
    idle_percent: float
    worker_rss: int
    pss: int


def asked(name: str, requests: Sequence[str]) -> list[str]:
    """Return those of the requests that a server understands: the original knew the full one alone."""
    return [request for request in requests if name != ORIGINAL or request == "full"]


def measure(
    model: Path,
    runtime: str,
    servers: Sequence[str],
    requests: Sequence[str],
    clients: Sequence[int],
    seconds: float,
    rounds: int,
    workers: int,
) -> tuple[list[Row], list[Footprint]]:
    """Measure all servers with one model.

    Parameters
    ----------
    model : pathlib.Path
        Model folder.
    runtime : str
        What computes.
    servers : sequence of str
        Of `benchmarks.peers.servers.NAMES`.
    requests : sequence of str
        Of `bodies`.
    clients : sequence of int
        Of the closed loops.
    seconds : float
        Of each measurement.
    rounds : int
        How often each is made.
    workers : int
        Processes that hold the model, of each server; also those of the recognizer without a server.

    Raises
    ------
    spoter.torchserve.server.StartError
        Where a server did not come up.
    """
    python = server.executable(list(servers))
    contents = bodies()
    cells = sum(len(asked(name, requests)) for name in servers) * (len(clients) + len(SHARES))
    rows: list[Row] = []
    with (
        ExitStack() as stack,
        tqdm(
            total=cells * rounds, leave=False, file=sys.stderr, bar_format="{l_bar}{bar}| {n}/{total} {elapsed}"
        ) as bar,
    ):
        bar.set_description(f"{model.name}: starting servers")
        processes = stack.enter_context(in_process.started(model, runtime, workers))
        running, footprints = [], []
        for name in servers:
            running.append(stack.enter_context(server.started(name, model, runtime, workers, python)))
            footprints.append(_at_rest(running[-1]))
            for request in asked(name, requests):
                run_closed_loop(running[-1].url, [Request(contents[request])], 8, FIRST_S, most=FIRST)
            running[-1].pause()
        for request in requests:
            ready = [one for one in running if request in asked(one.name, requests)]
            body = Request(contents[request])
            reached: dict[str, float] = {}
            # Rounds inside: a server that adapts itself to its load, as BentoML does, has had its time by the second.
            for count in clients:
                bar.set_description(f"{model.name}, {request}, {count} clients")
                busy = 1 if count == 1 else workers
                taken = {one.name: [] for one in ready} | {IN_PROCESS: []}
                for turn in range(rounds):
                    taken[IN_PROCESS].append(_of_process(processes.ask(request, busy, seconds)))
                    for one in _turned(ready, turn):
                        taken[one.name].append(_closed(one, body, count, seconds))
                        bar.update()
                found = {name: _together(figures) for name, figures in taken.items()}
                reached = {name: figures.rate for name, figures in found.items()}
                rows += [Row(name, request, f"closed {count}", figures) for name, figures in found.items()]
            for share in SHARES:
                bar.set_description(f"{model.name}, {request}, open loop at {share:.0%}")
                taken = {one.name: [] for one in ready if reached[one.name]}
                for seed in range(rounds):
                    for one in _turned(ready, seed):
                        if one.name in taken:
                            taken[one.name].append(_open(one, body, share * reached[one.name], seconds, seed))
                        bar.update()
                rows += [
                    Row(name, request, f"open {100 * share:.0f} %", _together(figures))
                    for name, figures in taken.items()
                ]
        footprints = [_after(one, footprint) for one, footprint in zip(running, footprints, strict=True)]
    return rows, footprints


def _turned(servers: list[Running], turn: int) -> list[Running]:
    """Return the servers with another one first in each round, so that none always follows the same."""
    first = turn % len(servers) if servers else 0
    return servers[first:] + servers[:first]


@contextmanager
def _awake(running: Running) -> Iterator[None]:
    running.resume()
    try:
        yield
    finally:
        running.pause()


def _closed(running: Running, request: Request, clients: int, seconds: float) -> Figures:
    with _awake(running):
        run_closed_loop(running.url, [request], min(clients, 8), WARM_S, most=WARM)
        before = running.usage().cpu_s
        if wrk.found():
            counted = wrk.run(running.url, request.body, request.content_type, clients, seconds)
            return _of_wrk(counted, running.usage().cpu_s - before)
        load = run_closed_loop(running.url, [request], clients, seconds)
        return _of_load(load, running.usage().cpu_s - before)


def _open(running: Running, request: Request, rate: float, seconds: float, seed: int) -> Figures:
    with _awake(running):
        run_closed_loop(running.url, [request], 1, WARM_S, most=WARM)
        before = running.usage().cpu_s
        # At least two requests, of a server that answers less than one a second.
        load = run_open_loop(running.url, [request], rate, max(seconds, 2 / rate), seed=seed)
        return _of_load(load, running.usage().cpu_s - before)


def _of_load(load: Load, cpu_s: float) -> Figures:
    count = max(len(load.answers), 1)
    return Figures(
        load.rate,
        *(load.percentile(percent) for percent in (50, 95, 99)),
        cpu_ms=1e3 * cpu_s / count,
        client_cpu_ms=1e3 * load.cpu_s / count,
        lag_ms=load.lag_ms,
        requests=len(load.answers),
        failures=dict(Counter(_what(answer.status, answer.error) for answer in load.failures())),
    )


def _of_wrk(counted: wrk.Counted, cpu_s: float) -> Figures:
    count = max(counted.requests, 1)
    failures = {"refused": counted.refused, "no answer": counted.lost}
    return Figures(
        counted.rate,
        *counted.percentiles,
        cpu_ms=1e3 * cpu_s / count,
        client_cpu_ms=1e3 * counted.cpu_s / count,
        requests=counted.requests,
        failures={what: number for what, number in failures.items() if number},
    )


def _what(status: int | None, error: str | None) -> str:
    return str(status) if status is not None else (error or "no answer").partition(":")[0]


def _of_process(taken: list[tuple[list[float], float]]) -> Figures:
    """Return the figures of the recognizer alone; each process works all the time, so that rates add up."""
    each = sorted(1e3 * seconds for process, _ in taken for seconds in process)
    cuts = statistics.quantiles(each, n=100, method="inclusive") if len(each) > 1 else each * 99
    rate = sum(len(process) / sum(process) for process, _ in taken)
    cpu_ms = 1e3 * sum(cpu_s for _, cpu_s in taken) / len(each)
    return Figures(rate, cuts[49], cuts[94], cuts[98], cpu_ms, requests=len(each), failures={})


def _together(rounds: list[Figures]) -> Figures:
    """Return the median of each figure over rounds, and the sums of their counts."""
    middle = {}
    for field in fields(Figures):
        values = [getattr(figures, field.name) for figures in rounds]
        if field.name == "requests":
            middle[field.name] = sum(values)
        elif field.name == "failures":
            middle[field.name] = dict(sum(map(Counter, values), Counter()))
        else:
            middle[field.name] = None if None in values else statistics.median(values)
    return Figures(**middle)


def _at_rest(running: Running, seconds: float = 1.0) -> Footprint:
    before, began = running.usage().cpu_s, time.perf_counter()
    time.sleep(seconds)
    usage = running.usage()
    idle = (usage.cpu_s - before) / (time.perf_counter() - began)
    return Footprint(running.name, running.ready_s, len(usage.processes), 100 * idle, 0, 0)


def _after(running: Running, footprint: Footprint) -> Footprint:
    """Add the memory that a server has after all the load."""
    usage = running.usage()
    pss = sum(process.pss for process in usage.processes)
    return Footprint(
        running.name, footprint.ready_s, len(usage.processes), footprint.idle_percent, running.worker_rss(), pss
    )


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
