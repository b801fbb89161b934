"""A quarter of an hour of what clients really send, at 70 % of capacity: `python -m attacks.soak`.

Nothing may fail, memory and handles may not grow. What was sampled goes to build/attacks/soak.csv.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from attacks.target import JSON, WORKERS_OF_ATTACKS, Stream, counted, end_on_sigterm, samples, table, wait_workers
from spoter.files import write_whole

if TYPE_CHECKING:
    from bench.load import Request
    from handler.process import Server

SAMPLES_CSV = Path("build", "attacks", "soak.csv")
# What memory may grow by from the end of the warm-up on, and handles and threads of the whole server.
GROWTH, SPARE = 0.05, 10
CLIENTS = 8
COLUMNS = ("worker_rss", "worker_pss", "java_rss", "worker_handles", "java_handles", "worker_threads", "java_threads")


def mix() -> list[tuple[Request, int]]:
    """Return requests as clients send them, each with the status that it is to get: one in ten is wrong."""
    from bench.bodies import compact, full_holistic
    from bench.load import Request

    clip = json.loads(compact(frames=30))
    enroll = json.dumps({"enroll": "GREETING", "clips": [clip, clip]}).encode()
    bad = [
        (Request(b"{nonsense", JSON), 400),
        (Request(b'{"points": [[[0.5, 0.5]]]}', JSON), 400),
        (Request(b"x", "image/png"), 415),
    ]
    good = [(request, 200) for request in samples()]
    good += [(Request(compact(frames=frames), JSON), 200) for frames in (15, 30, 60, 60, 60, 90, 200)]
    good += [(Request(full_holistic(), JSON), 200), (Request(full_holistic(20), JSON), 200)]
    good += [(Request(b'{"describe": true}', JSON), 200), (Request(enroll, JSON), 200)]
    good += [(Request(json.dumps({"clips": [clip] * 4}).encode(), JSON), 200)]
    several = 9 * len(bad) // len(good) + 1
    return good * several + bad


def look(server: Server) -> dict[str, int]:
    """Return what a server uses now: of the workers together, of Java, and the bytes of its logs."""
    from bench.usage import Usage

    usage = Usage.of(server.leader)
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


def main(
    minutes: Annotated[float, typer.Option(min=0.2, max=600, help="Of load, the warm-up left out.")] = 15.0,
    load: Annotated[float, typer.Option(min=0.1, max=0.95, help="Share of capacity.")] = 0.7,
    every: Annotated[float, typer.Option(min=1, max=60, help="Seconds between two samples.")] = 10.0,
    warm_up: Annotated[float, typer.Option(min=5, max=600, help="Seconds of load before the first sample.")] = 60.0,
    out: Annotated[Path, typer.Option(help="Table of the samples.")] = SAMPLES_CSV,
) -> None:
    """Load a server for long; exit 1 where a request fails, or memory, handles or threads grow."""
    from bench.load import run_closed
    from bench.server import served
    from handler.process import ROOT

    asked = mix()
    requests = [request for request, _ in asked]
    seconds = 60 * minutes
    with served(ROOT / "models" / "dgs11", WORKERS_OF_ATTACKS) as server:
        wait_workers(server, WORKERS_OF_ATTACKS)
        run_closed(server.url, requests, CLIENTS, 5)
        closed = run_closed(server.url, requests, CLIENTS, 10)
        rate = load * len(closed.answers) / closed.seconds
        rows = []
        with Stream(server.url, requests, rate, longest=warm_up + seconds + 60) as stream:
            time.sleep(warm_up)
            began, sent_before = time.monotonic(), len(stream.answers)
            steps = max(2, round(seconds / every))
            for step in tqdm(range(steps + 1), desc="soak", leave=False):
                time.sleep(max(0.0, began + step * every - time.monotonic()))
                done = stream.answers[sent_before:]
                row = {"seconds": round(time.monotonic() - began, 1), "answers": len(done)} | look(server)
                rows.append(row | {"unexpected": len(_unexpected(done, asked))})
                _write(out, rows)
    answers, wrong = stream.answers, []
    statuses = counted(Counter(answer.status for answer in answers))
    strange = _unexpected(answers, asked)
    first, last = rows[0], rows[-1]
    lines = []
    for name in COLUMNS:
        change = last[name] / first[name] - 1
        memory = name.endswith(("rss", "pss"))
        fits = change <= GROWTH if memory else last[name] <= first[name] + SPARE
        shown = [f"{row[name] / 2**20:.1f} MB" if memory else str(row[name]) for row in (first, last)]
        lines.append([name.replace("_", " "), *shown, f"{100 * change:+.1f} %", "yes" if fits else "NO"])
        if not fits:
            wrong.append(f"{name} grew by {100 * change:.1f} %")
    each = 1000 * (last["log_bytes"] - first["log_bytes"]) / max(1, last["answers"] - first["answers"])
    if strange:
        wrong.append(f"{len(strange)} answers of another status than expected")
    typer.echo(
        f"### Soak: {minutes:g} minutes at {rate:.0f} requests/s, {100 * load:.0f} % of capacity\n\n"
        + table(("", "Start", "End", "Change", "As expected"), lines)
        + f"\n{len(answers)} answers with the warm-up; statuses {statuses}; {len(strange)} unexpected. "
        f"Logs: {each / 1024:.1f} kB for 1,000 requests. Samples: {out}\n"
    )
    if wrong:
        typer.echo("not as expected: " + "; ".join(wrong), err=True)
        raise typer.Exit(1)


def _unexpected(answers: list, asked: list[tuple[Request, int]]) -> list:
    return [answer for answer in answers if answer.status != asked[answer.request][1]]


def _write(path: Path, rows: list[dict]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.getvalue().encode())


if __name__ == "__main__":
    end_on_sigterm()
    typer.run(main)
