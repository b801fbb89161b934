"""Good, bad, huge and slow requests in one batch: each must get the same answer as in a batch of one.

`python -m stress.isolation` sends all requests at once to a server whose worker waits for batches to fill.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, NamedTuple

import numpy as np
import typer

from benchmarks import MODEL
from benchmarks.command import run_command
from benchmarks.load.bodies import compact_request, full_request
from benchmarks.serving.server import running_server
from benchmarks.tables import markdown_table
from spoter.ops.ports import LOOPBACK
from spoter.torchserve.server import TorchServe
from stress.harness import CSV, JSON, Problems, call

ARCHIVE = {"batchSize": 8, "maxBatchDelay": 200}  # for model-config.yaml: a worker waits for eight requests
TOLERANCE = 1e-4  # for scores: padding in a batch changes the order of sums


class IsolationCase(NamedTuple):
    """A request and its expected status."""

    name: str
    body: bytes
    content_type: str
    status: int


def isolation_cases() -> list[IsolationCase]:
    """Return good, bad, huge and slow requests."""
    clip = json.loads(compact_request(frames=10))
    one_bad_clip = json.dumps({"clips": [clip, {"points": 3}, clip]}).encode()
    many_clips = b'{"clips":[' + b",".join([compact_request(frames=200)] * 64) + b"]}"
    return [
        IsolationCase("good", compact_request(), JSON, 200),
        IsolationCase("good, short", compact_request(frames=3), JSON, 200),
        IsolationCase("bad: invalid JSON", b"{nonsense", JSON, 400),
        IsolationCase("bad: unknown content type", b"x", "image/png", 415),
        IsolationCase("bad: rows of different lengths", b"pose_nose_x,pose_nose_y\n1\n", CSV, 400),
        IsolationCase("one of three clips bad", one_bad_clip, JSON, 200),
        IsolationCase("huge: 2.6 MB", full_request(), JSON, 200),
        IsolationCase("huge: 20 MB", full_request(460), JSON, 200),
        IsolationCase("huge and bad: 20 MB of frames", b'{"keypoints":[' + b"{}," * 6_600_000 + b"{}]}", JSON, 400),
        IsolationCase("over the limit: 26 MiB", b" " * (26 << 20), JSON, 413),
        IsolationCase("slow: 64 clips of 200 frames", many_clips, JSON, 200),
    ]  # fmt: skip


def are_same(body: str, other: str) -> bool:
    """Return whether two answers are the same: scores within `TOLERANCE`, everything else equal."""
    try:
        (document, scores), (other_document, other_scores) = _split_scores(body), _split_scores(other)
    except ValueError:
        return body == other
    is_same = document == other_document and len(scores) == len(other_scores)
    return is_same and np.allclose(scores, other_scores, rtol=0, atol=TOLERANCE)


def _split_scores(body: str) -> tuple[object, list[float]]:
    """Return a JSON document without its fractional numbers, and these numbers."""
    scores: list[float] = []
    return json.loads(body, parse_float=lambda text: scores.append(float(text))), scores


def count_batches(server: TorchServe) -> int:
    """Return the number of answered batches, after TorchServe has read the metrics of its workers."""
    counts = [-1, -2]
    while counts[-1] != counts[-2]:
        time.sleep(0.5)
        lines = call(f"http://{LOOPBACK}:{server.ports[2]}/metrics").body.splitlines()
        counts.append(sum(int(float(line.split()[-1])) for line in lines if line.startswith("DecodeTime_count")))
    return counts[-1]


def send_mixed(server: TorchServe, cases: list[IsolationCase], rounds: int) -> tuple[list[list[object]], int, float]:
    """Send each request separately, then all at once; return table rows, the number of differences, the mean batch."""

    def send(case: IsolationCase) -> tuple[int | None, str]:
        reply = call(server.url, case.body, case.content_type)
        return reply.status, reply.body

    separate = [send(case) for case in cases]
    same, before = [0] * len(cases), count_batches(server)
    with ThreadPoolExecutor(len(cases)) as pool:
        for turn in range(rounds):
            start = turn % len(cases)  # each round starts with another request
            order = [*range(start, len(cases)), *range(start)]
            for index, (status, body) in zip(order, pool.map(send, [cases[i] for i in order]), strict=True):
                is_expected = status == separate[index][0] == cases[index].status
                same[index] += is_expected and are_same(body, separate[index][1])
    results = zip(cases, separate, same, strict=True)
    rows = [[case.name, f"{len(case.body):,}", status, f"{n} of {rounds}"] for case, (status, _), n in results]
    sent = rounds * len(cases)
    return rows, sent - sum(same), sent / (count_batches(server) - before)


def main(rounds: Annotated[int, typer.Option(min=1, max=200, help="Rounds of all requests at once.")] = 10) -> None:
    """Send different requests at once; exit with status 1 if one gets another answer than separately."""
    with running_server(MODEL, 1, archive=ARCHIVE) as server:
        rows, wrong, mean_batch = send_mixed(server, isolation_cases(), rounds)
    columns = ("Request", "Bytes", "Status if sent separately", "Same answer in a mixed batch")
    typer.echo(markdown_table(columns, rows, "Isolation"))
    typer.echo(f"Mean batch: {mean_batch:.1f} requests.\n")
    problems = Problems()
    problems.check(not wrong, f"{wrong} answers differ from those to separate requests")
    problems.check(mean_batch > 1, "no requests shared a batch")
    problems.exit()


if __name__ == "__main__":
    run_command(main)
