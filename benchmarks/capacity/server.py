"""Service times of a real TorchServe for the simulation, and its latencies at several loads next to simulated ones.

A worker's times are taken in this process for batches of each size and then stretched by one factor, so that workers
with full batches answer as many requests a second as the server does under far more clients than it has workers: in the
server they share the cores with its Java side, with one another and, here, with the client. What a lone client waits
beyond its batch of one is the overhead of each request. So the model is fitted at both ends, an idle and a full server,
and tested in between.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from benchmarks.capacity.queueing import Instance, InstanceMeasurement, Outcome, ServiceTimes, simulate_fleet
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


@dataclass(frozen=True)
class Comparison:
    """A load, as a share of what the server can answer: measured latencies and simulated ones."""

    load: float
    rate: float
    measured: Load
    simulated: Outcome


def measure_server(
    model: Path, workers: int, seconds: float, compare: bool, seed: int
) -> tuple[InstanceMeasurement, list[Comparison]]:
    """Measure a server with compact requests of 60 frames; each part takes `seconds`.

    With `compare`, the server is also put under each of `LOADS`, in an open loop. Raises `SpoterError` where a request
    fails, since its time would mislead.
    """
    use_one_thread()
    recognizer = Recognizer.load(model)
    request = Request(compact_request(recognizer.layout))
    with running_server(model, workers=workers) as server:
        [described] = server.manage("GET", f"/models/{NAME}")
        batch, delay_ms = described["batchSize"], float(described["maxBatchDelay"])
        queue = described["jobQueueStatus"]["remainingCapacity"]
        clients = min(_CLIENTS * workers * batch, workers * batch + queue)  # none is to be refused
        samples = _measure_batches(recognizer, request.body, batch, seconds)
        run_closed_loop(server.url, [request], clients, _WARM_UP).require_success()
        full = run_closed_loop(server.url, [request], clients, seconds).require_success()
        lone = run_closed_loop(server.url, [request], 1, seconds).require_success()
        name = recognizer.config.name
        fitted = fit_measurement(
            samples, Instance(workers, batch, delay_ms / 1e3, queue), full.rate, lone.percentile(50), name
        )
        comparisons = []
        for load in tqdm(LOADS if compare else (), desc="loads", unit=" runs", leave=False):
            rate = load * full.rate
            measured = run_open_loop(server.url, [request], rate, seconds, seed=seed).require_success()
            simulated = simulate_fleet(fitted.times, fitted.instance, 1, rate, _SIMULATED, seed=seed)
            comparisons.append(Comparison(load, rate, measured, simulated))
    return fitted, comparisons


def fit_measurement(
    samples: Mapping[int, Sequence[float]], instance: Instance, rate: float, lone_ms: float, model: str
) -> InstanceMeasurement:
    """Stretch service times in process to a full server, and find the overhead of a lone request.

    `samples` are seconds by batch size, `rate` is the requests a second that the full server answers, and `lone_ms` the
    median latency of a lone client.
    """
    times = ServiceTimes(samples)
    stretch = instance.capacity(times) / rate
    delay_ms = 1e3 * instance.delay_s
    lone_batch_ms = 1e3 * stretch * times.mean(1) + (delay_ms if instance.batch > 1 else 0.0)
    return InstanceMeasurement(
        machine=describe_machine(),
        date=datetime.date.today().isoformat(),
        request=f"{model}, compact requests of 60 frames",
        workers=instance.workers,
        batch=instance.batch,
        queue=instance.queue,
        delay_ms=delay_ms,
        overhead_ms=round(max(0.0, lone_ms - lone_batch_ms), 4),
        service_ms={size: [round(1e3 * stretch * value, 4) for value in values] for size, values in samples.items()},
    )


def measurement_table(measurement: InstanceMeasurement, comparisons: Sequence[Comparison]) -> str:
    """Return Markdown: the measurement, and measured next to simulated latencies."""
    found = measurement
    means = ", ".join(f"{size}: {sum(values) / len(values):.2f}" for size, values in found.service_ms.items())
    text = (
        f"{found.request}; {found.machine}, {found.date}; {found.workers} workers, batches of {found.batch}, "
        f"delay {found.delay_ms:g} ms, queue {found.queue}\nMilliseconds of a worker for a batch of {means}; overhead "
        f"{found.overhead_ms:.2f}; at most {found.capacity:.0f} requests/s\n"
    )
    columns = ("load", "requests/s", "p50 ms, real", "simulated", "p95 ms, real", "simulated", "sent late by, ms")
    rows = []
    for row in comparisons:
        pairs = [(row.measured.percentile(p), 1e3 * row.simulated.percentile(p)) for p in (50, 95)]
        latencies = [f"{value:.1f}" for pair in pairs for value in pair]
        rows.append((f"{100 * row.load:.0f} %", f"{row.rate:.0f}", *latencies, f"{row.measured.lag_ms:.2f}"))
    return text + ("\n" + markdown_table(columns, rows, left=0) if rows else "")


def _measure_batches(recognizer: Recognizer, body: bytes, batch: int, seconds: float) -> dict[int, list[float]]:
    """Return seconds that batches of the sizes 1, 2, 4, … and `batch` take, in turn, one thread."""
    sizes = sorted({batch, *(2**power for power in range(batch.bit_length()))})
    request = RawRequest(body, "application/json")
    taken = measure_seconds(
        {size: partial(respond, recognizer, [request] * size) for size in sizes}, seconds, "batches"
    )
    return {size: values[:: -(-len(values) // _KEPT)] for size, values in taken.items()}
