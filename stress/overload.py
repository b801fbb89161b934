"""Four times as many requests as a server can answer: `python -m stress.overload`.

Capacity is found by a closed loop. Then requests come at a multiple of it for a minute, whether or not they are
answered: those that are accepted are to wait no longer than the queue is long, the rest to be refused at once, and
soon afterwards a lone client is to wait no longer than before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.load.processes import end_on_signals
from stress.harness import WORKERS_OF_ATTACKS, counted, table, wait_workers

if TYPE_CHECKING:
    from benchmarks.load.client import Load
    from spoter.torchserve.server import TorchServe

# Clients of the closed loop: as many as two full batches for each worker.
CLIENTS = 16
# Seconds after which a lone client is to be served as before, and how much slower still counts as that.
BACK_WITHIN, AS_BEFORE = 5.0, 1.5
# Of a clip: a long one, for four times as many short ones as a server can answer are more than one process can send.
FRAMES = 300
# job_queue_size of config.properties.
QUEUE = 100
# An open loop that is later than this was the bottleneck itself.
MOST_LAG_MS = 100.0


@dataclass(frozen=True)
class Overloaded:
    """What was seen.

    Attributes
    ----------
    capacity : benchmarks.load.client.Load
        The closed loop's.
    load : benchmarks.load.client.Load
        At a multiple of that.
    before_ms, after_ms : float
        A lone client's median, and the first afterwards that is as before, or else the last one tried.
    back_s : float or None
        Seconds from the last request of the overload until then; None where it never came.
    retry_after : int
        Refusals with that header.
    """

    capacity: Load
    load: Load
    before_ms: float
    after_ms: float
    back_s: float | None
    retry_after: int


def bound_s(rate: float, queue: int, batch: int) -> float:
    """Return the seconds that an accepted request waits at most where a server answers `rate` requests a second.

    Before it there are at most a full queue, a batch in each worker, and its own; Little's law (J. D. C. Little, 1961).
    """
    return (queue + (WORKERS_OF_ATTACKS + 1) * batch) / rate


def overload(
    server: TorchServe, seconds: float, times: float, calm: float = 5.0, patience: float = 30.0, frames: int = FRAMES
) -> Overloaded:
    """Measure capacity for `calm` seconds, overload the server for `seconds`, and watch it recover for `patience`."""
    from benchmarks.load.bodies import compact_request
    from benchmarks.load.client import Request, run_closed_loop, run_open_loop

    requests = [Request(compact_request(frames=frames))]
    run_closed_loop(server.url, requests, CLIENTS, min(calm, 3.0))  # warms up what a first request pays for
    before = run_closed_loop(server.url, requests, 1, calm).percentile(50)
    capacity = run_closed_loop(server.url, requests, CLIENTS, calm)
    load = run_open_loop(server.url, requests, times * capacity.rate, seconds)
    ended, back, after = time.monotonic(), None, before
    while back is None and time.monotonic() - ended < patience:
        since = time.monotonic() - ended
        after = run_closed_loop(server.url, requests, 1, 0.5).percentile(50)
        back = since if after <= AS_BEFORE * before else None
    refused = [answer for answer in load.answers if answer.status == 503]
    told = sum("retry-after" in map(str.lower, answer.headers) for answer in refused)
    return Overloaded(capacity, load, before, after, back, told)


def main(
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Of overload.")] = 60.0,
    times: Annotated[float, typer.Option(min=1, max=20, help="Capacity.")] = 4.0,
    queue: Annotated[int, typer.Option(min=1, max=10_000, help="TorchServe's job_queue_size.")] = QUEUE,
    frames: Annotated[int, typer.Option(min=1, max=500, help="Of the clip that is sent.")] = FRAMES,
) -> None:
    """Overload a server; exit 1 where it does not refuse at once, keeps clients too long, or does not recover."""
    from benchmarks.serving.server import running_server
    from spoter.ops.local_server import NAME
    from spoter.torchserve.server import ROOT

    settings = {"TS_JOB_QUEUE_SIZE": str(queue)}
    with running_server(ROOT / "models" / "dgs11", WORKERS_OF_ATTACKS, settings=settings) as server:
        wait_workers(server, WORKERS_OF_ATTACKS)
        batch = server.manage("GET", f"/models/{NAME}")[0]["batchSize"]
        seen = overload(server, seconds, times, frames=frames)
    load, statuses = seen.load, seen.load.statuses
    refused = sorted(answer.seconds for answer in load.answers if answer.status == 503)
    # The rate that was really answered, beside the load's own process on the same cores, is what empties the queue.
    bound = bound_s(load.rate, queue, batch)
    rows = [
        ["capacity, closed loop", f"{seen.capacity.rate:.0f} requests/s, p50 {seen.capacity.percentile(50):.1f} ms"],
        ["load", f"{len(load.answers) / seconds:.0f} requests/s for {seconds:g} s, {len(load.answers)} in all"],
        ["answered 200", f"{statuses[200]} ({load.rate:.0f} a second)"],
        ["their p50 / p95 / p99", " / ".join(f"{load.percentile(q):.0f} ms" for q in (50, 95, 99))],
        [
            "bound by the queue",
            f"{1e3 * bound:.0f} ms: ({queue} + {WORKERS_OF_ATTACKS + 1} x {batch}) / {load.rate:.0f}",
        ],
        ["refused 503", f"{statuses[503]} ({100 * statuses[503] / len(load.answers):.0f} %)"],
        ["refusals' p50 / p99", " / ".join(f"{1e3 * at(refused, q):.1f} ms" for q in (0.5, 0.99)) if refused else "-"],
        ["refusals with Retry-After", f"{seen.retry_after} (TorchServe 0.12.0 cannot set it: a proxy can)"],
        ["anything else", counted(statuses - type(statuses)({200: statuses[200], 503: statuses[503]}))],
        ["lone client's p50 before, after", f"{seen.before_ms:.1f} ms, {seen.after_ms:.1f} ms"],
        ["back to normal", "never" if seen.back_s is None else f"{seen.back_s:.1f} s after the last answer"],
        ["the load's own lag (median), processor", f"{load.lag_ms:.1f} ms, {load.cpu_s / load.seconds:.2f} cores"],
    ]
    typer.echo(f"### {times:g} times capacity, clips of {frames} frames\n\n" + table(("", ""), rows))
    wrong = []
    if set(statuses) - {200, 503}:
        wrong.append("requests were neither answered nor refused")
    if not refused:
        wrong.append("nothing was refused")
    if load.percentile(99) > 2e3 * bound:
        wrong.append("accepted requests waited more than twice as long as the queue explains")
    if refused and at(refused, 0.5) > bound:
        wrong.append("refusals were no quicker than answers")
    if seen.back_s is None or seen.back_s > BACK_WITHIN:
        wrong.append(f"a lone client was not served as before within {BACK_WITHIN:g} s")
    if load.lag_ms > MOST_LAG_MS:
        wrong.append("the load was late itself: nothing can be said of the server; use more cores, or more --frames")
    if wrong:
        typer.echo("not as expected: " + "; ".join(wrong), err=True)
        raise typer.Exit(1)


def at(ordered: list[float], share: float) -> float:
    """Return the value below which `share` of an ordered list lies."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    end_on_signals()
    typer.run(main)
