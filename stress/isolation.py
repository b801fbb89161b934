"""Good, bad, huge and slow requests in one batch: each must get the answer that it gets alone.

`python -m stress.isolation` sends them at once to a server whose worker waits for more requests, so that they share a
batch.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import typer

from benchmarks.command import run_command
from benchmarks.load.bodies import compact_request, full_request
from benchmarks.serving.server import running_server
from benchmarks.tables import markdown_table
from spoter.ops.ports import LOOPBACK
from spoter.torchserve.server import TorchServe
from stress import MODEL
from stress.harness import CSV, JSON, call, exit_on_problems

# Keys of the archive's model-config.yaml: batches of eight, and a worker that waits for them.
ARCHIVE = {"batchSize": 8, "maxBatchDelay": 200}
# Greatest difference of a score from that of the request alone: a batch is padded, which changes the order of sums.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class IsolationCase:
    """A request, and its expected status."""

    name: str
    body: bytes
    content_type: str
    status: int


def isolation_cases() -> list[IsolationCase]:
    """Return requests of each kind."""
    clip = json.loads(compact_request(frames=10))
    one_bad = json.dumps({"clips": [clip, {"points": 3}, clip]}).encode()
    many = b'{"clips":[' + b",".join([compact_request(frames=200)] * 64) + b"]}"
    return [
        IsolationCase("good", compact_request(), JSON, 200),
        IsolationCase("good, short", compact_request(frames=3), JSON, 200),
        IsolationCase("bad: no JSON", b"{nonsense", JSON, 400),
        IsolationCase("bad: no such type", b"x", "image/png", 415),
        IsolationCase("bad: ragged table", b"pose_nose_x,pose_nose_y\n1\n", CSV, 400),
        IsolationCase("one of three clips bad", one_bad, JSON, 200),
        IsolationCase("huge: 2.6 MB", full_request(), JSON, 200),
        IsolationCase("huge: 20 MB", full_request(460), JSON, 200),
        IsolationCase("huge and bad: 20 MB of frames", b'{"keypoints":[' + b"{}," * 6_600_000 + b"{}]}", JSON, 400),
        IsolationCase("over the limit: 26 MiB", b" " * (26 << 20), JSON, 413),
        IsolationCase("slow: 64 clips of 200 frames", many, JSON, 200),
    ]  # fmt: skip


def are_same(body: str, other: str) -> bool:
    """Tell whether two answers are the same: scores within `TOLERANCE`, everything else equal."""
    try:
        return _are_same(json.loads(body), json.loads(other))
    except ValueError:
        return body == other


def _are_same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= TOLERANCE
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_are_same, one, other))
    return type(one) is type(other) and one == other


def count_batches(server: TorchServe) -> int:
    """Return the number of batches that workers have answered, once TorchServe has read their metrics."""
    counts = [-1, -2]
    while counts[-1] != counts[-2]:
        time.sleep(0.5)
        reply = call(f"http://{LOOPBACK}:{server.ports[2]}/metrics")
        lines = [line for line in reply.body.splitlines() if line.startswith("DecodeTime_count")]
        counts.append(int(sum(float(line.split()[-1]) for line in lines)))
    return counts[-1]


def send_mixed(server: TorchServe, cases: list[IsolationCase], rounds: int) -> tuple[list[list[object]], int, float]:
    """Send each request alone, then all at once, `rounds` times.

    Return the rows of a table (how often each request got the answer that it gets alone), the number of other answers,
    and the mean number of requests in a batch.
    """

    def send(case: IsolationCase) -> tuple[int | None, str]:
        reply = call(server.url, case.body, case.content_type)
        return reply.status, reply.body

    alone = [send(case) for case in cases]
    good, before = [0] * len(cases), count_batches(server)
    with ThreadPoolExecutor(len(cases)) as pool:
        for turn in range(rounds):
            start = turn % len(cases)  # another request comes first
            order = [*range(start, len(cases)), *range(start)]
            for index, (status, body) in zip(order, pool.map(send, [cases[i] for i in order]), strict=True):
                is_status = status == alone[index][0] == cases[index].status
                good[index] += is_status and are_same(body, alone[index][1])
    rows = [
        [case.name, f"{len(case.body):,}", status, f"{count} of {rounds}"]
        for case, (status, _), count in zip(cases, alone, good, strict=True)
    ]
    sent = rounds * len(cases)
    return rows, sent - sum(good), sent / (count_batches(server) - before)


def main(rounds: Annotated[int, typer.Option(min=1, max=200, help="How often all are sent at once.")] = 10) -> None:
    """Send requests of each kind at once; exit with 1 if one gets another answer than alone."""
    with running_server(MODEL, 1, archive=ARCHIVE) as server:
        rows, wrong, mean_batch = send_mixed(server, isolation_cases(), rounds)
    columns = ("Request", "Bytes", "Status alone", "The same among others")
    typer.echo(markdown_table(columns, rows, "Isolation"))
    typer.echo(f"{mean_batch:.1f} requests shared a batch on average.\n")
    problems = [f"{wrong} answers were not those that their requests get alone"] if wrong else []
    exit_on_problems(problems + (["no requests shared a batch"] if mean_batch <= 1 else []))


if __name__ == "__main__":
    run_command(main)
