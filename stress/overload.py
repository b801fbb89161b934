"""Four times as many requests as a server can answer: `python -m stress.overload`.

A closed loop measures the capacity. Then requests come at a multiple of it for a minute, whether or not they are
answered. Accepted requests may wait only as long as the queue explains; the others must be refused at once; and soon
afterwards a single client must wait no longer than before.
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

CLIENTS = 16  # clients of the closed loop: as many as two full batches for each worker
# Seconds until a single client must be served as before, and the factor that still counts as that.
MAX_RECOVERY_S, MAX_SLOWDOWN = 5.0, 1.5
FRAMES = 300  # of a long clip: one process cannot send four times as many short ones as a server can answer
MAX_LAG_MS = 100.0  # an open loop that is later than this was the bottleneck itself


@dataclass(frozen=True)
class OverloadReport:
    """The measurements."""

    capacity: Load  # of the closed loop
    load: Load  # at a multiple of the capacity
    before_ms: float  # a single client's median
    after_ms: float  # its first median afterwards that is as before, or else the last one
    recovery_s: float | None  # from the last request of the overload until then; None if it never came

    @property
    def refusals(self) -> list[Answer]:
        """Answers of status 503 during the overload."""
        return [answer for answer in self.load.answers if answer.status == 503]


def longest_wait_s(rate: float, queue: int, batch: int) -> float:
    """Return the longest wait in seconds of an accepted request if a server answers `rate` requests a second."""
    # A full queue, a batch in each worker, and its own: Little's law (J. D. C. Little, 1961).
    return (queue + (WORKERS + 1) * batch) / rate


def overload(
    server: TorchServe, seconds: float, times: float, calm: float = 5.0, patience: float = 30.0, frames: int = FRAMES
) -> OverloadReport:
    """Measure the capacity for `calm` seconds, overload the server for `seconds`, wait `patience` for its recovery."""
    requests = [Request(compact_request(frames=frames))]
    run_closed_loop(server.url, requests, CLIENTS, min(calm, 3.0))  # the first requests are slower
    before = run_closed_loop(server.url, requests, 1, calm).percentile(50)
    capacity = run_closed_loop(server.url, requests, CLIENTS, calm)
    load = run_open_loop(server.url, requests, times * capacity.rate, seconds)
    ended, recovery, after = time.monotonic(), None, before
    while recovery is None and time.monotonic() - ended < patience:
        since = time.monotonic() - ended
        after = run_closed_loop(server.url, requests, 1, 0.5).percentile(50)
        recovery = since if after <= MAX_SLOWDOWN * before else None
    return OverloadReport(capacity, load, before, after, recovery)


def main(
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Of overload.")] = 60.0,
    times: Annotated[float, typer.Option(min=1, max=20, help="Capacity.")] = 4.0,
    queue: Annotated[int, typer.Option(min=1, max=10_000, help="TorchServe's job_queue_size.")] = 100,
    frames: Annotated[int, typer.Option(min=1, max=500, help="Of the clip that is sent.")] = FRAMES,
) -> None:
    """Overload a server; exit with 1 if it does not refuse at once, keeps clients waiting, or does not recover."""
    with attacked_server(settings={"TS_JOB_QUEUE_SIZE": str(queue)}) as server:
        batch = server.manage("GET", f"/models/{NAME}")[0]["batchSize"]
        report = overload(server, seconds, times, frames=frames)
    load, statuses = report.load, report.load.statuses
    refusal_ms = [1e3 * answer.seconds for answer in report.refusals]
    retry_after = sum("retry-after" in map(str.lower, answer.headers) for answer in report.refusals)
    refusal_p50, refusal_p99 = np.percentile(refusal_ms, [50, 99]) if refusal_ms else (np.nan, np.nan)
    # The queue is emptied at the rate that was answered, on cores that the load's own process shares.
    bound_ms = 1e3 * longest_wait_s(load.rate, queue, batch)
    others = Counter({status: n for status, n in statuses.items() if status not in (200, 503)})
    recovery = "never" if report.recovery_s is None else f"{report.recovery_s:.1f} s after the last answer"
    rows = {
        "capacity, closed loop": f"{report.capacity.rate:.0f} requests/s, p50 {report.capacity.percentile(50):.1f} ms",
        "load": f"{len(load.answers) / seconds:.0f} requests/s for {seconds:g} s, {len(load.answers)} in all",
        "answered 200": f"{statuses[200]} ({load.rate:.0f} a second)",
        "their p50 / p95 / p99": " / ".join(f"{load.percentile(q):.0f} ms" for q in (50, 95, 99)),
        "bound by the queue": f"{bound_ms:.0f} ms: ({queue} + {WORKERS + 1} x {batch}) / {load.rate:.0f}",
        "refused 503": f"{statuses[503]} ({100 * statuses[503] / len(load.answers):.0f} %)",
        "refusals' p50 / p99": f"{refusal_p50:.1f} ms / {refusal_p99:.1f} ms",
        "refusals with Retry-After": f"{retry_after} (TorchServe 0.12.0 cannot set it: a proxy can)",
        "anything else": format_counts(others),
        "single client's p50 before, after": f"{report.before_ms:.1f} ms, {report.after_ms:.1f} ms",
        "back to normal": recovery,
        "the load's own lag (median), processor": f"{load.lag_ms:.1f} ms, {load.cpu_s / load.seconds:.2f} cores",
    }
    typer.echo(markdown_table(("", ""), rows.items(), f"{times:g} times capacity, clips of {frames} frames", left=2))
    problems = Problems()
    problems.check(not others, "requests were neither answered nor refused")
    problems.check(bool(refusal_ms), "nothing was refused")
    is_explained = not load.percentile(99) > 2 * bound_ms
    problems.check(is_explained, "accepted requests waited more than twice as long as the queue explains")
    problems.check(not refusal_p50 > bound_ms, "refusals were no quicker than answers")
    is_restored = report.recovery_s is not None and report.recovery_s <= MAX_RECOVERY_S
    problems.check(is_restored, f"a single client was not served as before within {MAX_RECOVERY_S:g} s")
    problems.check(load.lag_ms <= MAX_LAG_MS, "the load was late itself: use more cores, or more --frames")
    problems.exit()


if __name__ == "__main__":
    run_command(main)
