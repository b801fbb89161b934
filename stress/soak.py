"""15 minutes of typical requests at 70 % of the capacity: `python -m stress.soak`.

Every request must get its expected status, and memory and handles must not grow after a warm-up. Both vary with the
requests in progress; therefore memory is compared by medians of many samples, and handles are counted without load. The
samples go to build/attacks/soak.csv.
"""

import csv
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.command import run_command
from benchmarks.load.bodies import compact_request, full_request
from benchmarks.load.client import Answer, Request, run_closed_loop
from benchmarks.load.usage import measure_usage
from benchmarks.tables import markdown_table
from spoter.torchserve.server import TorchServe
from stress.harness import CSV, JSON, Problems, Stream, attacked_server, format_counts

# Allowed growth of memory from the first to the last `PART` of the samples, and allowed number of additional handles
# and threads: Java adds some to its pools when it needs them.
MAX_GROWTH, MAX_ADDED = 0.05, 10
PART = 0.1
REST_S = 3.0  # seconds without requests before handles are counted, so that connections are closed
CLIENTS = 8
# Clients and seconds of a load after which memory has grown to the needs of the largest batches.
CROWD, CROWD_S = 64, 40.0
COLUMNS = ("worker_rss", "java_rss", "worker_handles", "java_handles", "worker_threads", "java_threads")


def mixed_requests() -> list[tuple[Request, int]]:
    """Return typical requests with their expected statuses; about one in ten requests is bad."""
    clip = json.loads(compact_request(frames=30))
    bad = [
        (Request(b"{nonsense", JSON), 400),
        (Request(b'{"points": [[[0.5, 0.5]]]}', JSON), 400),
        (Request(b"x", "image/png"), 415),
    ]
    types = {".json": JSON, ".csv": CSV, ".jsonl": "application/jsonlines", ".npy": "application/x-npy"}
    files = sorted(path for path in (ROOT / "samples").iterdir() if path.suffix in types)
    documents = ({"describe": True}, {"enroll": "GREETING", "clips": [clip, clip]}, {"clips": [clip] * 4})
    bodies = [compact_request(frames=frames) for frames in (15, 30, 60, 60, 60, 90, 200)]
    bodies += [full_request(), full_request(20), *(json.dumps(document).encode() for document in documents)]
    good = [(Request(path.read_bytes(), types[path.suffix]), 200) for path in files]
    good += [(Request(body, JSON), 200) for body in bodies]
    return good * (9 * len(bad) // len(good) + 1) + bad


def measure_server(server: TorchServe) -> dict[str, int]:
    """Return the usage of all workers together and of Java, and the bytes of the logs."""
    usage = measure_usage(server.leader)
    totals = {
        f"{kind}_{name}": sum(getattr(process, name) for process in processes)
        for kind, processes in (("worker", usage.workers), ("java", [usage.frontend]))
        for name in ("rss", "pss", "handles", "threads")
    }
    return totals | {"log_bytes": sum(path.stat().st_size for path in server.logs.rglob("*") if path.is_file())}


def compare_usage(
    first: dict[str, int], last: dict[str, int], rows: list[dict[str, int]]
) -> tuple[list[list[str]], Problems]:
    """Return table rows and problems; `first` and `last` are the usage at rest, `rows` are samples under load."""
    lines, problems = [], Problems()
    count = max(1, round(PART * len(rows)))
    for name in COLUMNS:
        is_memory, under_load = name.endswith("rss"), [row[name] for row in rows]
        start, end = first[name], last[name]
        if is_memory:
            start, end = median(under_load[:count]), median(under_load[-count:])
        change = end / start - 1
        is_expected = change < MAX_GROWTH if is_memory else end <= start + MAX_ADDED
        verdict = problems.check(is_expected, f"{name} grew by {100 * change:.1f} %")
        shown = [f"{n / 2**20:.1f} MB" if is_memory else str(n) for n in (start, end, max(under_load))]
        lines.append([name.replace("_", " "), *shown[:2], f"{100 * change:+.1f} %", shown[2], verdict])
    return lines, problems


def main(
    minutes: Annotated[float, typer.Option(min=0.2, max=600, help="Minutes of load after the warm-up.")] = 15.0,
    load: Annotated[float, typer.Option(min=0.1, max=0.95, help="Load as a share of the capacity.")] = 0.7,
    every: Annotated[float, typer.Option(min=1, max=60, help="Seconds between two samples.")] = 10.0,
    warm_up: Annotated[float, typer.Option(min=5, max=600, help="Seconds of load before the samples.")] = 60.0,
    out: Annotated[Path, typer.Option(help="CSV file for the samples.")] = Path("build", "attacks", "soak.csv"),
) -> None:
    """Load a server for a long time; exit with status 1 if a request fails, or memory, handles or threads grow."""
    expected = mixed_requests()
    requests = [request for request, _ in expected]
    seconds = 60 * minutes

    def failures(answers: Sequence[Answer]) -> int:
        return sum(answer.status != expected[answer.request][1] for answer in answers)

    with attacked_server() as server:
        run_closed_loop(server.url, requests, CLIENTS, 5)
        closed = run_closed_loop(server.url, requests, CLIENTS, 10)
        rate = load * len(closed.answers) / closed.seconds
        rows, counted, failed = [], 0, 0
        run_closed_loop(server.url, requests, CROWD, CROWD_S)
        with Stream(server.url, requests, rate, longest=warm_up + 60) as warming:
            time.sleep(warm_up)
        first = _measure_at_rest(server)
        out.parent.mkdir(parents=True, exist_ok=True)
        with Stream(server.url, requests, rate, longest=seconds + 60) as stream, out.open("w") as file:
            began, writer = time.monotonic(), csv.writer(file, lineterminator="\n")
            for step in tqdm(range(max(2, round(seconds / every)) + 1), desc="soak", leave=False):
                time.sleep(max(0.0, began + step * every - time.monotonic()))
                new = stream.answers[counted:]  # counting all answers again would delay the load
                counted, failed = counted + len(new), failed + failures(new)
                row = {"seconds": round(time.monotonic() - began, 1), "answers": counted, "unexpected": failed}
                rows.append(row | measure_server(server))
                if not step:
                    writer.writerow(rows[0])
                writer.writerow(rows[-1].values())
                file.flush()
        last = _measure_at_rest(server)
    answers = warming.answers + stream.answers
    statuses = format_counts(Counter(answer.status for answer in answers))
    lines, problems = compare_usage(first, last, rows)
    log_kb = 1000 * (last["log_bytes"] - first["log_bytes"]) / max(1, len(stream.answers)) / 1024
    unexpected = failures(answers)
    problems.check(not unexpected, f"{unexpected} answers had an unexpected status")
    title = f"Soak: {minutes:g} minutes at {rate:.0f} requests/s, {100 * load:.0f} % of the capacity"
    columns = ("Resource", "Start", "End", "Change", "Maximum under load", "As expected")
    typer.echo(markdown_table(columns, lines, title))
    typer.echo(
        f"{len(answers)} answers including the warm-up; statuses {statuses}; {unexpected} unexpected. "
        f"Logs: {log_kb:.1f} kB per 1,000 requests. Samples: {out}\n"
    )
    problems.exit()


def _measure_at_rest(server: TorchServe) -> dict[str, int]:
    time.sleep(REST_S)
    return measure_server(server)


if __name__ == "__main__":
    run_command(main)
