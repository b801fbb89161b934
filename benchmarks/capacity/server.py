"""Service times of a real TorchServe for the simulation, and its latencies compared with simulated ones.

The service times of a worker are measured in this process for batches of each size. They are then multiplied by one
factor, so that simulated workers with full batches answer as many requests per second as the server does with many more
clients than workers. The factor is needed because workers share the cores with Java, with one another and, here, with
the client. The overhead of a request is the latency of a single client minus the time of a batch of one. So the model
is fitted to an idle and to a full server, and tested in between.
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
_TIMES = 200  # maximum number of stored service times per batch size
_WARM_UP = 3.0  # seconds in which Java compiles code that runs often
_CLIENTS = 4  # clients per worker and request of a batch: enough for full batches
_SIMULATED = 100_000  # requests


class Comparison(NamedTuple):
    """Measured and simulated figures at a load, a share of the server's capacity; `rate` is in requests per second."""

    load: float
    rate: float
    measured: Load
    simulated: Outcome


def measure_server(
    model: Path, workers: int, seconds: float, compare: bool, seed: int
) -> tuple[Instance, list[Comparison]]:
    """Measure a server with compact requests of 60 frames, `seconds` each; `compare` adds open loops at `LOADS`."""
    use_one_thread()
    recognizer = Recognizer.load(model)
    request = Request(compact_request(recognizer.layout))
    with running_server(model, workers=workers) as server:
        [described] = server.manage("GET", f"/models/{NAME}")
        batch, queue = described["batchSize"], described["jobQueueStatus"]["remainingCapacity"]
        clients = min(_CLIENTS * workers * batch, workers * batch + queue)  # few enough that none is refused
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
        single = run_closed_loop(server.url, [request], 1, seconds).require_success()
        fitted = fit_instance(measured, full.rate, single.percentile(50))
        comparisons = []
        for load in tqdm(LOADS if compare else (), desc="loads", unit=" runs", leave=False):
            rate = load * full.rate
            real = run_open_loop(server.url, [request], rate, seconds, seed=seed).require_success()
            simulated = simulate_fleet(fitted, 1, rate, _SIMULATED, seed=seed)
            comparisons.append(Comparison(load, rate, real, simulated))
    return fitted, comparisons


def fit_instance(measured: Instance, rate: float, single_ms: float) -> Instance:
    """Fit service times to a full server's `rate` per second, and the overhead to a single client's median latency."""
    factor = measured.capacity / rate
    delay_ms = measured.delay_ms if measured.batch > 1 else 0.0
    single_batch_ms = 1e3 * factor * float(measured.service_seconds(1).mean()) + delay_ms
    return msgspec.structs.replace(
        measured,
        overhead_ms=round(max(0.0, single_ms - single_batch_ms), 4),
        service_ms={size: [round(factor * ms, 4) for ms in each] for size, each in measured.service_ms.items()},
    )


def comparison_table(instance: Instance, comparisons: Sequence[Comparison]) -> str:
    """Return Markdown: the fitted instance, and a table of measured and simulated latencies."""
    means = ", ".join(f"{size}: {sum(values) / len(values):.2f} ms" for size, values in instance.service_ms.items())
    overhead = f"{instance.overhead_ms:.2f} ms"
    text = f"{instance.describe()}Mean service time by size of the batch: {means}; overhead per request: {overhead}.\n"
    columns = ["load", "requests/s", "p50 ms, real", "p50 ms, simulated", "p95 ms, real", "p95 ms, simulated"]
    columns.append("median delay of sending, ms")
    rows = []
    for load, rate, real, simulated in comparisons:
        pairs = [(real.percentile(p), 1e3 * simulated.percentile(p)) for p in (50, 95)]
        latencies = [f"{value:.1f}" for pair in pairs for value in pair]
        rows.append((f"{100 * load:.0f} %", f"{rate:.0f}", *latencies, f"{real.lag_ms:.2f}"))
    return text + ("\n" + markdown_table(columns, rows, left=0) if rows else "")


def _measure_batches(recognizer: Recognizer, body: bytes, batch: int, seconds: float) -> dict[int, list[float]]:
    """Return the milliseconds of batches of the sizes 1, 2, 4, … and `batch`, measured in turn on one thread."""
    sizes = sorted({batch, *(2**power for power in range(batch.bit_length()))})
    request = RawRequest(body, "application/json")
    functions = {size: partial(respond, recognizer, [request] * size) for size in sizes}
    measured = measure_seconds(functions, seconds, "batches")
    return {size: [1e3 * value for value in values[:: -(-len(values) // _TIMES)]] for size, values in measured.items()}
