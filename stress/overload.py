"""Four times as many requests as a server can answer: `python -m stress.overload`.

A closed loop measures the capacity. An open loop then sends a multiple of it for a minute. Accepted requests must not
wait longer than the length of the queue explains, other requests must be refused at once, and soon after the overload a
single client must get answers as fast as before.
"""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer

from benchmarks.command import run_command
from benchmarks.load.bodies import compact_request
from benchmarks.load.client import Answer, Load, Request, run_closed_loop, run_open_loop
from benchmarks.tables import markdown_table
from spoter.ops.local_server import NAME
from spoter.torchserve.server import TorchServe
from stress.harness import WORKERS, Problems, attacked_server, format_counts

CLIENTS = 16  # clients of the closed loop: a full batch for each of two workers
# Maximum seconds until a single client is as fast as before, and the ratio of medians that counts as fast as before.
MAX_RECOVERY_S, MAX_SLOWDOWN = 5.0, 1.5
FRAMES = 300  # a long clip: one client process cannot send short clips at four times the server's capacity
MAX_LAG_MS = 100.0  # with a larger delay of sending, the client was the bottleneck


@dataclass(frozen=True)
class OverloadReport:
    """Measurements before, during and after the overload."""

    capacity: Load  # the closed loop
    load: Load  # the overload
    before_ms: float  # a single client's median before the overload
    after_ms: float  # the first median after the overload that counts as fast as before, or the last median
    recovery_s: float | None  # seconds from the end of the overload to `after_ms`; None without recovery

    @property
    def refusals(self) -> list[Answer]:
        """Answers with status 503 during the overload."""
        return [answer for answer in self.load.answers if answer.status == 503]


def longest_wait_s(rate: float, queue: int, batch: int) -> float:
    """Return the longest wait of an accepted request in seconds, if a server answers `rate` requests per second."""
    # A full queue, a batch in each worker, and the request's batch: Little's law (J. D. C. Little, 1961).
    return (queue + (WORKERS + 1) * batch) / rate


def overload(
    server: TorchServe, seconds: float, times: float, calm: float = 5.0, patience: float = 30.0, frames: int = FRAMES
) -> OverloadReport:
    """Measure the capacity for `calm` seconds, overload the server for `seconds`, and wait `patience` for recovery."""
    requests = [Request(compact_request(frames=frames))]
    run_closed_loop(server.url, requests, CLIENTS, min(calm, 3.0))  # warm-up
    before = run_closed_loop(server.url, requests, 1, calm).percentile(50)
    capacity = run_closed_loop(server.url, requests, CLIENTS, calm)
    load = run_open_loop(server.url, requests, times * capacity.rate, seconds)
    ended, recovery, after = time.monotonic(), None, before
    while recovery is None and time.monotonic() - ended < patience:
        elapsed = time.monotonic() - ended
        after = run_closed_loop(server.url, requests, 1, 0.5).percentile(50)
        recovery = elapsed if after <= MAX_SLOWDOWN * before else None
    return OverloadReport(capacity, load, before, after, recovery)


def main(
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Duration of the overload.")] = 60.0,
    times: Annotated[float, typer.Option(min=1, max=20, help="Load as a multiple of the capacity.")] = 4.0,
    queue: Annotated[int, typer.Option(min=1, max=10_000, help="TorchServe's job_queue_size.")] = 100,
    frames: Annotated[int, typer.Option(min=1, max=500, help="Frames per clip.")] = FRAMES,
) -> None:
    """Overload a server; exit with status 1 if it refuses late, keeps clients waiting or does not recover."""
    with attacked_server(settings={"TS_JOB_QUEUE_SIZE": str(queue)}) as server:
        batch = server.manage("GET", f"/models/{NAME}")[0]["batchSize"]
        report = overload(server, seconds, times, frames=frames)
    load, statuses = report.load, report.load.statuses
    refusal_ms = [1e3 * answer.seconds for answer in report.refusals]
    retry_after = sum("retry-after" in map(str.lower, answer.headers) for answer in report.refusals)
    refusal_p50, refusal_p99 = np.percentile(refusal_ms, [50, 99]) if refusal_ms else (np.nan, np.nan)
    # The queue empties at the measured rate of answers, on cores that the client shares.
    bound_ms = 1e3 * longest_wait_s(load.rate, queue, batch)
    others = Counter({status: n for status, n in statuses.items() if status not in (200, 503)})
    recovery = "never" if report.recovery_s is None else f"{report.recovery_s:.1f} s after the last answer"
    rows = {
        "capacity, closed loop": f"{report.capacity.rate:.0f} requests/s, p50 {report.capacity.percentile(50):.1f} ms",
        "load": f"{len(load.answers) / seconds:.0f} requests/s for {seconds:g} s, {len(load.answers)} in total",
        "answers with status 200": f"{statuses[200]} ({load.rate:.0f} per second)",
        "their p50 / p95 / p99": " / ".join(f"{load.percentile(q):.0f} ms" for q in (50, 95, 99)),
        "wait explained by the queue": f"{bound_ms:.0f} ms: ({queue} + {WORKERS + 1} x {batch}) / {load.rate:.0f}",
        "refusals, status 503": f"{statuses[503]} ({100 * statuses[503] / len(load.answers):.0f} %)",
        "their p50 / p99": f"{refusal_p50:.1f} ms / {refusal_p99:.1f} ms",
        "refusals with Retry-After": f"{retry_after} (TorchServe 0.12.0 cannot set it; a proxy can)",
        "other statuses": format_counts(others),
        "single client's p50 before and after": f"{report.before_ms:.1f} ms, {report.after_ms:.1f} ms",
        "recovery": recovery,
        "client's median delay of sending": f"{load.lag_ms:.1f} ms",
        "client's processor usage": f"{load.cpu_s / load.seconds:.2f} cores",
    }
    typer.echo(markdown_table(("Figure", "Value"), rows.items(), f"{times:g} x capacity, {frames} frames", left=2))
    problems = Problems()
    problems.check(not others, "requests were neither answered nor refused")
    problems.check(bool(refusal_ms), "the server refused no request")
    is_explained = not load.percentile(99) > 2 * bound_ms
    problems.check(is_explained, "accepted requests waited more than twice as long as the queue explains")
    problems.check(not refusal_p50 > bound_ms, "refusals were as slow as answers")
    is_restored = report.recovery_s is not None and report.recovery_s <= MAX_RECOVERY_S
    problems.check(is_restored, f"a single client was still slower than before after {MAX_RECOVERY_S:g} s")
    problems.check(load.lag_ms <= MAX_LAG_MS, "the client sent requests late: use more cores or more --frames")
    problems.exit()


if __name__ == "__main__":
    run_command(main)
