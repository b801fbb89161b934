"""Service times of a real TorchServe for the simulation, and its latencies at several loads next to simulated ones.

A worker's times are taken in this process for batches of each size and then stretched by one factor, so that workers
with full batches answer as many requests a second as the server does under far more clients than it has workers: in the
server they share the cores with its Java side, with one another and, here, with the client. What a lone client waits
beyond its batch of one is the overhead of each request. So the model is fitted at both ends, an idle and a full server,
and tested in between.
"""

import datetime
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
from tqdm import tqdm

from benchmarks.capacity.queueing import Instance, Outcome, simulate_fleet
from benchmarks.load.bodies import compact_request
from benchmarks.load.client import Load, Request, run_closed_loop, run_open_loop
from benchmarks.serving.server import running_server
from benchmarks.tables import markdown_table
from benchmarks.timing import describe_machine, measure_seconds, use_one_thread
from spoter.messages import RawRequest
from spoter.ops.local_server import NAME
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond

LOADS = (0.3, 0.6, 0.8)
_KEPT = 200  # service times of each batch size that are written
_WARM_UP = 3.0  # seconds: the Java side compiles what it runs often
_CLIENTS = 4  # for each place in a batch of each worker: more than enough to keep all of them full
_SIMULATED = 100_000


class Comparison(NamedTuple):
    """A share of what the server can answer and its rate a second, measured and simulated."""

    load: float
    rate: float
    measured: Load
    simulated: Outcome


def measure_server(
    model: Path, workers: int, seconds: float, compare: bool, seed: int
) -> tuple[Instance, list[Comparison]]:
    """Measure a server with compact requests of 60 frames, `seconds` a part; `compare` adds open loops at `LOADS`."""
    use_one_thread()
    recognizer = Recognizer.load(model)
    request = Request(compact_request(recognizer.layout))
    with running_server(model, workers=workers) as server:
        [described] = server.manage("GET", f"/models/{NAME}")
        batch, queue = described["batchSize"], described["jobQueueStatus"]["remainingCapacity"]
        clients = min(_CLIENTS * workers * batch, workers * batch + queue)  # none is to be refused
        measured = Instance(
            machine=describe_machine(),
            date=datetime.date.today().isoformat(),
            request=f"{recognizer.config.name}, compact requests of 60 frames",
            workers=workers,
            batch=batch,
            queue=queue,
            delay_ms=float(described["maxBatchDelay"]),
            service_ms=_measure_batches(recognizer, request.body, batch, seconds),
        )
        run_closed_loop(server.url, [request], clients, _WARM_UP).require_success()
        full = run_closed_loop(server.url, [request], clients, seconds).require_success()
        lone = run_closed_loop(server.url, [request], 1, seconds).require_success()
        fitted = fit_instance(measured, full.rate, lone.percentile(50))
        comparisons = []
        for load in tqdm(LOADS if compare else (), desc="loads", unit=" runs", leave=False):
            rate = load * full.rate
            real = run_open_loop(server.url, [request], rate, seconds, seed=seed).require_success()
            simulated = simulate_fleet(fitted, 1, rate, _SIMULATED, seed=seed)
            comparisons.append(Comparison(load, rate, real, simulated))
    return fitted, comparisons


def fit_instance(measured: Instance, rate: float, lone_ms: float) -> Instance:
    """Stretch service times to a full server's requests a second; a lone client's median latency gives the overhead."""
    stretch = measured.capacity / rate
    delay_ms = measured.delay_ms if measured.batch > 1 else 0.0
    lone_batch_ms = 1e3 * stretch * float(measured.service_seconds(1).mean()) + delay_ms
    return msgspec.structs.replace(
        measured,
        overhead_ms=round(max(0.0, lone_ms - lone_batch_ms), 4),
        service_ms={size: [round(stretch * ms, 4) for ms in each] for size, each in measured.service_ms.items()},
    )


def comparison_table(instance: Instance, comparisons: Sequence[Comparison]) -> str:
    """Return Markdown: the measured instance, and measured next to simulated latencies."""
    means = ", ".join(f"{size}: {sum(values) / len(values):.2f}" for size, values in instance.service_ms.items())
    text = (
        f"{instance.describe()}Milliseconds of a worker for a batch of {means}; overhead {instance.overhead_ms:.2f}.\n"
    )
    columns = ("load", "requests/s", "p50 ms, real", "simulated", "p95 ms, real", "simulated", "sent late by, ms")
    rows = []
    for load, rate, real, simulated in comparisons:
        pairs = [(real.percentile(p), 1e3 * simulated.percentile(p)) for p in (50, 95)]
        latencies = [f"{value:.1f}" for pair in pairs for value in pair]
        rows.append((f"{100 * load:.0f} %", f"{rate:.0f}", *latencies, f"{real.lag_ms:.2f}"))
    return text + ("\n" + markdown_table(columns, rows, left=0) if rows else "")


def _measure_batches(recognizer: Recognizer, body: bytes, batch: int, seconds: float) -> dict[int, list[float]]:
    """Return milliseconds that batches of the sizes 1, 2, 4, … and `batch` take, in turn, one thread."""
    sizes = sorted({batch, *(2**power for power in range(batch.bit_length()))})
    request = RawRequest(body, "application/json")
    functions = {size: partial(respond, recognizer, [request] * size) for size in sizes}
    taken = measure_seconds(functions, seconds, "batches")
    return {size: [1e3 * value for value in values[:: -(-len(values) // _KEPT)]] for size, values in taken.items()}
