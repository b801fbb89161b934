"""A quarter of an hour of what clients really send, at 70 % of capacity: `python -m stress.soak`.

Nothing may fail, memory and handles may not grow after a warm-up. Under load both go up and down with the requests that
are just being answered: so memory is the median of many samples, and handles are counted while nothing is asked. The
samples go to build/attacks/soak.csv.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from benchmarks.load.processes import end_on_signals
from spoter.files import atomic_write_bytes
from stress.harness import JSON, WORKERS_OF_ATTACKS, Stream, counted, samples, table, wait_workers

if TYPE_CHECKING:
    from benchmarks.load.client import Request
    from spoter.torchserve.server import TorchServe

SAMPLES_CSV = Path("build", "attacks", "soak.csv")
# What memory may grow by from the first `PART` of the samples to the last; and how many more handles and threads there
# may be, which Java opens for its pools when it needs them.
GROWTH, SPARE = 0.05, 10
PART = 0.1
# Seconds without a request, for connections to be closed, before the server is looked at.
REST = 3.0
# Seconds of load after which memory has settled.
WARM_UP = 60.0
CLIENTS = 8
# Memory goes up to what the largest batches need, and stays: so many clients, for so many seconds, have them all made
# before it is measured.
CROWD, CROWD_S = 64, 40.0
COLUMNS = ("worker_rss", "java_rss", "worker_handles", "java_handles", "worker_threads", "java_threads")


def mix() -> list[tuple[Request, int]]:
    """Return requests as clients send them, each with the status that it is to get: one in ten is wrong."""
    from benchmarks.load.bodies import compact_request, full_request
    from benchmarks.load.client import Request

    clip = json.loads(compact_request(frames=30))
    enroll = json.dumps({"enroll": "GREETING", "clips": [clip, clip]}).encode()
    bad = [
        (Request(b"{nonsense", JSON), 400),
        (Request(b'{"points": [[[0.5, 0.5]]]}', JSON), 400),
        (Request(b"x", "image/png"), 415),
    ]
    good = [(request, 200) for request in samples()]
    good += [(Request(compact_request(frames=frames), JSON), 200) for frames in (15, 30, 60, 60, 60, 90, 200)]
    good += [(Request(full_request(), JSON), 200), (Request(full_request(20), JSON), 200)]
    good += [(Request(b'{"describe": true}', JSON), 200), (Request(enroll, JSON), 200)]
    good += [(Request(json.dumps({"clips": [clip] * 4}).encode(), JSON), 200)]
    several = 9 * len(bad) // len(good) + 1
    return good * several + bad


def look(server: TorchServe) -> dict[str, int]:
    """Return what a server uses now: of the workers together, of Java, and the bytes of its logs."""
    from benchmarks.load.usage import measure_usage

    usage = measure_usage(server.leader)
    workers, java = usage.workers, usage.frontend
    return {
        "worker_rss": sum(worker.rss for worker in workers),
        "worker_pss": sum(worker.pss for worker in workers),
        "worker_handles": sum(worker.handles for worker in workers),
        "worker_threads": sum(worker.threads for worker in workers),
        "java_rss": java.rss,
        "java_handles": java.handles,
        "java_threads": java.threads,
        "log_bytes": sum(path.stat().st_size for path in server.logs.rglob("*") if path.is_file()),
    }


def compared(
    first: dict[str, int], last: dict[str, int], rows: list[dict[str, int]]
) -> tuple[list[list[str]], list[str]]:
    """Return the table's lines and what grew too much, of what `look` reads.

    Parameters
    ----------
    first, last : dict
        Without load, before and after.
    rows : list of dict
        Under load, in between.
    """
    lines, wrong = [], []
    few = max(1, round(PART * len(rows)))
    for name in COLUMNS:
        memory, under_load = name.endswith("rss"), [row[name] for row in rows]
        start, end = (median(under_load[:few]), median(under_load[-few:])) if memory else (first[name], last[name])
        change = end / start - 1
        fits = change < GROWTH if memory else end <= start + SPARE
        shown = [f"{n / 2**20:.1f} MB" if memory else str(n) for n in (start, end, max(under_load))]
        lines.append([name.replace("_", " "), *shown[:2], f"{100 * change:+.1f} %", shown[2], "yes" if fits else "NO"])
        if not fits:
            wrong.append(f"{name} grew by {100 * change:.1f} %")
    return lines, wrong


def main(
    minutes: Annotated[float, typer.Option(min=0.2, max=600, help="Of load, the warm-up left out.")] = 15.0,
    load: Annotated[float, typer.Option(min=0.1, max=0.95, help="Share of capacity.")] = 0.7,
    every: Annotated[float, typer.Option(min=1, max=60, help="Seconds between two samples.")] = 10.0,
    warm_up: Annotated[float, typer.Option(min=5, max=600, help="Seconds of load before it is looked at.")] = WARM_UP,
    out: Annotated[Path, typer.Option(help="Table of the samples.")] = SAMPLES_CSV,
) -> None:
    """Load a server for long; exit 1 where a request fails, or memory, handles or threads grow."""
    from benchmarks.load.client import run_closed_loop
    from benchmarks.serving.server import running_server
    from spoter.torchserve.server import ROOT

    asked = mix()
    requests = [request for request, _ in asked]
    seconds = 60 * minutes
    with running_server(ROOT / "models" / "dgs11", WORKERS_OF_ATTACKS) as server:
        wait_workers(server, WORKERS_OF_ATTACKS)
        run_closed_loop(server.url, requests, CLIENTS, 5)
        closed = run_closed_loop(server.url, requests, CLIENTS, 10)
        rate = load * len(closed.answers) / closed.seconds
        rows, seen, odd = [], 0, 0
        run_closed_loop(server.url, requests, CROWD, CROWD_S)
        with Stream(server.url, requests, rate, longest=warm_up + 60) as warming:
            time.sleep(warm_up)
        first = _at_rest(server)
        with Stream(server.url, requests, rate, longest=seconds + 60) as stream:
            began = time.monotonic()
            for step in tqdm(range(max(2, round(seconds / every)) + 1), desc="soak", leave=False):
                time.sleep(max(0.0, began + step * every - time.monotonic()))
                new = stream.answers[seen:]  # all of them again would hold the load up
                seen, odd = seen + len(new), odd + len(_unexpected(new, asked))
                row = {"seconds": round(time.monotonic() - began, 1), "answers": seen} | look(server)
                rows.append(row | {"unexpected": odd})
                _write(out, rows)
        last = _at_rest(server)
    answers = warming.answers + stream.answers
    statuses = counted(Counter(answer.status for answer in answers))
    strange = _unexpected(answers, asked)
    lines, wrong = compared(first, last, rows)
    each = 1000 * (last["log_bytes"] - first["log_bytes"]) / max(1, len(stream.answers))
    if strange:
        wrong.append(f"{len(strange)} answers of another status than expected")
    typer.echo(
        f"### Soak: {minutes:g} minutes at {rate:.0f} requests/s, {100 * load:.0f} % of capacity\n\n"
        + table(("", "Start", "End", "Change", "Most under load", "As expected"), lines)
        + f"\n{len(answers)} answers with the warm-up; statuses {statuses}; {len(strange)} unexpected. "
        f"Logs: {each / 1024:.1f} kB for 1,000 requests. Samples: {out}\n"
    )
    if wrong:
        typer.echo("not as expected: " + "; ".join(wrong), err=True)
        raise typer.Exit(1)


def _at_rest(server: TorchServe) -> dict[str, int]:
    time.sleep(REST)
    return look(server)


def _unexpected(answers: list, asked: list[tuple[Request, int]]) -> list:
    return [answer for answer in answers if answer.status != asked[answer.request][1]]


def _write(path: Path, rows: list[dict]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, text.getvalue().encode())


if __name__ == "__main__":
    end_on_signals()
    typer.run(main)
