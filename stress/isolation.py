"""Good, bad, huge and slow requests that share a batch: each is to get what it gets alone.

`python -m stress.isolation` sends them at once to a server whose worker waits for company, so that they do share one.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.load.processes import end_on_signals
from spoter.ops.ports import LOOPBACK
from stress.harness import CSV, JSON, call, table

if TYPE_CHECKING:
    from spoter.torchserve.server import TorchServe

# Keys of the archive's model-config.yaml: eight requests together, and a worker that waits for them.
ARCHIVE = {"batchSize": 8, "maxBatchDelay": 200}
# How far a score may be from that of the request alone: a batch is padded, and sums run in another order.
CLOSE = 1e-4


@dataclass(frozen=True)
class Item:
    """A request, and the status that it is to get."""

    name: str
    body: bytes
    content_type: str
    status: int


def items(video: Path | None = None) -> list[Item]:
    """Return requests of each kind; a video among them where one is handed over, which only some servers read."""
    from benchmarks.load.bodies import compact_request, full_request

    clip = json.loads(compact_request(frames=10))
    several = json.dumps({"clips": [clip, {"points": 3}, clip]}).encode()
    found = [
        Item("good", compact_request(), JSON, 200),
        Item("good, short", compact_request(frames=3), JSON, 200),
        Item("bad: no JSON", b"{nonsense", JSON, 400),
        Item("bad: no such type", b"x", "image/png", 415),
        Item("bad: ragged table", b"pose_nose_x,pose_nose_y\n1\n", CSV, 400),
        Item("one of three clips bad", several, JSON, 200),
        Item("huge: 2.6 MB", full_request(), JSON, 200),
        Item("huge: 20 MB", full_request(460), JSON, 200),
        Item("huge and bad: 20 MB of empty frames", b'{"keypoints":[' + b"{}," * 6_600_000 + b"{}]}", JSON, 400),
        Item("over the limit: 26 MiB", b" " * (26 << 20), JSON, 413),
        Item("slow: 64 clips of 200 frames", _many(), JSON, 200),
    ]
    if video is not None:
        found.append(Item("slow: a video", video.read_bytes(), "video/mp4", 200))
    return found


def _many() -> bytes:
    from benchmarks.load.bodies import compact_request

    clip = compact_request(frames=200)
    return b'{"clips":[' + b",".join([clip] * 64) + b"]}"


def same(one: str, other: str) -> bool:
    """Tell whether two answers say the same: scores within `CLOSE`, everything else alike."""
    try:
        return _same(json.loads(one), json.loads(other))
    except ValueError:
        return one == other


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= CLOSE
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    return type(one) is type(other) and one == other


def batches(server: TorchServe) -> int:
    """Return how many batches workers have answered, once TorchServe has read all that they wrote about them."""
    found = [-1, -2]
    while found[-1] != found[-2]:
        time.sleep(0.5)
        told = call(f"http://{LOOPBACK}:{server.ports[2]}/metrics")
        counts = [line.split()[-1] for line in told.body.splitlines() if line.startswith("DecodeTime_count")]
        found.append(int(sum(map(float, counts))))
    return found[-1]


def mixed(server: TorchServe, asked: list[Item], rounds: int) -> tuple[list[list[object]], int, float]:
    """Ask each alone, then all at once again and again.

    Returns
    -------
    rows : list of list
        For a table: what was asked, and how often its answer was that which it gets alone.
    wrong : int
        Answers that were another.
    together : float
        Requests that shared a batch, on average.
    """
    alone = [call(server.url, item.body, item.content_type) for item in asked]
    good, before = [0] * len(asked), batches(server)
    with ThreadPoolExecutor(len(asked)) as pool:
        for turn in range(rounds):
            order = asked[turn % len(asked) :] + asked[: turn % len(asked)]  # who comes first differs
            replies = pool.map(lambda item: call(server.url, item.body, item.content_type), order)
            for item, reply in zip(order, replies, strict=True):
                place = asked.index(item)
                alike = reply.status == alone[place].status == item.status
                good[place] += alike and same(reply.body, alone[place].body)
    rows = [
        [item.name, f"{len(item.body):,}", reply.status, f"{count} of {rounds}"]
        for item, reply, count in zip(asked, alone, good, strict=True)
    ]
    return rows, rounds * len(asked) - sum(good), rounds * len(asked) / (batches(server) - before)


def main(
    rounds: Annotated[int, typer.Option(min=1, max=200, help="How often all are sent at once.")] = 10,
    video: Annotated[Path | None, typer.Option(exists=True, help="An MP4 of a person, to be among them.")] = None,
) -> None:
    """Send requests of each kind at once; exit 1 where one got another answer than alone."""
    from benchmarks.serving.server import running_server
    from spoter.torchserve.server import ROOT

    with running_server(ROOT / "models" / "dgs11", 1, archive=ARCHIVE) as server:
        rows, wrong, together = mixed(server, items(video), rounds)
    typer.echo("### Isolation\n\n" + table(("Request", "Bytes", "Status alone", "The same among others"), rows))
    typer.echo(f"{together:.1f} requests shared a batch on average.\n")
    if wrong or together <= 1:
        typer.echo(f"{wrong} answers were not those that their requests get alone", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    end_on_signals()
    typer.run(main)
