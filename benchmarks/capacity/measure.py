"""Service times of a real TorchServe for benchmarks.capacity.__main__, and what it does at several loads beside what is simulated.

A worker's times are taken in this process for batches of each size and then stretched by one factor, so that workers
with full batches answer as many requests a second as the server does when it is asked by far more clients than it has
workers: in the server they share the cores with its Java side, with one another and, here, with the client. What a lone
client waits beyond its batch of one is the overhead of each request. So the model is fitted at both ends, an idle and a
full server, and tested in between.
"""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from benchmarks.capacity.queueing import Instance, ServiceTimes, Times, simulate
from benchmarks.load.bodies import compact_request
from benchmarks.load.client import Load, Request, run_closed_loop, run_open_loop
from benchmarks.serving.server import PATH, running_server
from benchmarks.timing import machine, one_thread
from spoter.errors import SpoterError
from spoter.messages import RawRequest
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond
from spoter.torchserve.server import LOOPBACK, NAME

LOADS = (0.3, 0.6, 0.8)
_KEPT = 200  # service times of each batch size that are written
_WARM_UP = 3.0  # seconds: the Java side compiles what it runs often
_CLIENTS = 4  # for each place in a batch of each worker: more than enough to keep all of them full
_SIMULATED = 100_000


@dataclass(frozen=True)
class Compared:
    """A load, as a share of what the server can answer: seconds that it took, and those that were simulated."""

    load: float
    rate: float
    real: Load
    simulated_p50_s: float
    simulated_p95_s: float


def measure(model: Path, workers: int, seconds: float, compare: bool, seed: int) -> tuple[Times, list[Compared]]:
    """Measure a server with compact requests of 60 frames.

    Parameters
    ----------
    model : Path
        Model folder.
    workers : int
    seconds : float
        Of each part.
    compare : bool
        Whether it is then asked at `LOADS`, by clients that do not wait for one another.
    seed : int
        Of arrivals, real and simulated.

    Raises
    ------
    SpoterError
        Where an answer is none, as a time of it would be worth nothing.
    """
    one_thread()
    recognizer = Recognizer.load(model)
    request = Request(compact_request(recognizer.layout))
    with running_server(model, workers=workers) as server:
        url = f"http://{LOOPBACK}:{server.ports[0]}{PATH}"
        [told] = server.manage("GET", f"/models/{NAME}")
        batch, delay_ms = told["batchSize"], float(told["maxBatchDelay"])
        queue = told["jobQueueStatus"]["remainingCapacity"]
        alone = _in_process(recognizer, request.body, batch, seconds)
        clients = min(_CLIENTS * workers * batch, workers * batch + queue)  # none is to be refused
        _good(run_closed_loop(url, [request], clients, _WARM_UP))
        full = _good(run_closed_loop(url, [request], clients, seconds))
        lone = _good(run_closed_loop(url, [request], 1, seconds))
        found = fitted(alone, workers, batch, delay_ms, queue, full.rate, lone.percentile(50), recognizer.config.name)
        compared = []
        for load in tqdm(LOADS if compare else (), desc="loads", unit=" runs", leave=False):
            rate = load * full.rate
            real = _good(run_open_loop(url, [request], rate, seconds, seed=seed))
            told = simulate(found.service(), found.instance(), 1, rate, _SIMULATED, seed=seed)
            compared.append(Compared(load, rate, real, told.percentile(50), told.percentile(95)))
    return found, compared


def fitted(
    alone: dict[int, list[float]],
    workers: int,
    batch: int,
    delay_ms: float,
    queue: int,
    rate: float,
    lone_ms: float,
    model: str,
) -> Times:
    """Stretch service times (seconds for each batch size) to a full server's rate, and find a lone request's overhead.

    Parameters
    ----------
    alone : dict of int to list of float
    workers, batch, delay_ms, queue
        The server's.
    rate : float
        Requests a second that it answers when full.
    lone_ms : float
        That a lone client waits.
    model : str
        Its name, to be told.
    """
    times = ServiceTimes(alone)
    stretch = Instance(workers, batch).capacity(times) / rate
    lone_batch_ms = 1e3 * stretch * times.mean(1) + (delay_ms if batch > 1 else 0.0)
    return Times(
        machine=machine(),
        date=datetime.date.today().isoformat(),
        request=f"{model}, compact requests of 60 frames",
        workers=workers,
        batch=batch,
        queue=queue,
        delay_ms=delay_ms,
        overhead_ms=round(max(0.0, lone_ms - lone_batch_ms), 4),
        service_ms={size: [round(1e3 * stretch * value, 4) for value in values] for size, values in alone.items()},
    )


def table(found: Times, compared: list[Compared]) -> str:
    """Return Markdown: what was measured, and real beside simulated latencies."""
    means = ", ".join(f"{size}: {sum(values) / len(values):.2f}" for size, values in found.service_ms.items())
    lines = [
        f"{found.request}; {found.machine}, {found.date}; {found.workers} workers, batches of {found.batch}, "
        f"delay {found.delay_ms:g} ms, queue {found.queue}",
        f"Milliseconds of a worker for a batch of {means}; {found.overhead_ms:.2f} beside it; full "
        f"{found.instance().capacity(found.service()):.0f} requests/s",
        "",
    ]
    if compared:
        lines += [
            "| load | requests/s | p50 ms, real | simulated | p95 ms, real | simulated | sent late by, ms |",
            "|---:|---:|---:|---:|---:|---:|---:|",
        ]
    lines += [
        f"| {100 * row.load:.0f} % | {row.rate:.0f} | {row.real.percentile(50):.1f} | {1e3 * row.simulated_p50_s:.1f} "
        f"| {row.real.percentile(95):.1f} | {1e3 * row.simulated_p95_s:.1f} | {row.real.lag_ms:.2f} |"
        for row in compared
    ]
    return "\n".join(lines) + "\n"


def _in_process(recognizer: Recognizer, body: bytes, batch: int, seconds: float) -> dict[int, list[float]]:
    """Return seconds that batches of the sizes 1, 2, 4, … and `batch` take, in turn, one thread."""
    sizes = sorted({batch, *(2**power for power in range(batch.bit_length()) if 2**power <= batch)})
    incoming = {size: [RawRequest(body, "application/json")] * size for size in sizes}
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    for size in sizes:
        respond(recognizer, incoming[size])
    end = time.perf_counter() + seconds
    with tqdm(desc="in process", unit=" rounds", leave=False) as bar:
        while time.perf_counter() < end or bar.n < 10:
            for size in sizes:
                started = time.perf_counter()
                respond(recognizer, incoming[size])
                taken[size].append(time.perf_counter() - started)
            bar.update()
    return {size: values[:: -(-len(values) // _KEPT)] for size, values in taken.items()}


def _good(load: Load) -> Load:
    if load.failures() or not load.good:
        raise SpoterError(f"found the answers {dict(load.statuses)}, expected only 200: nothing can be told from these")
    return load
