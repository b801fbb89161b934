"""What attacks share: load that goes on beside them, what became of its requests, a server's workers, tables."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.load.client import Answer, Request, open_loop
from spoter.ops.local_server import NAME
from spoter.ops.readiness import Reply, send
from spoter.torchserve.process import ServerProcess
from spoter.torchserve.server import TorchServe
from stress import ROOT

WORKERS_OF_ATTACKS = 2
# So many answers of status 200 in a row, and the service counts as back.
BACK = 20
# Seconds that anything is waited for: a worker starts in five, and a busy machine takes many times that.
PATIENCE = 120.0
# Seconds of one piece of a stream.
PIECE = 0.5
LOG_HEAD = re.compile(r"^\S+ \[\w+ *\] (\S+) \S+ - ")
JSON, CSV = "application/json", "text/csv"


class Stream:
    """Requests at a steady rate, in a thread of their own, from entering the block to leaving it.

    An open loop: they are sent whether or not earlier ones were answered. It ends by itself after `longest` seconds.

    Parameters
    ----------
    url : str
    requests : sequence of benchmarks.load.client.Request
    rate : float
        Requests a second on average.
    longest : float
    """

    def __init__(self, url: str, requests: Sequence[Request], rate: float, longest: float = 300.0):
        self.url, self.requests, self.rate, self.longest = url, requests, rate, longest
        self.answers: list[Answer] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        self._thread.join()  # each request has a time limit of its own (benchmarks.load.client.TIMEOUT)
        gc.unfreeze()

    async def _run(self) -> None:
        """Start one piece after the other, each where the one before left the requests, without waiting for answers."""
        pieces: set[asyncio.Task] = set()
        number, began = 0, time.perf_counter()
        while not self._ended.is_set() and time.perf_counter() - began < self.longest:
            gc.freeze()  # to look through all answers so far takes as long as a server's queue takes to fill
            first = round(number * PIECE * self.rate) % len(self.requests)
            turned = [*self.requests[first:], *self.requests[:first]]
            send = open_loop(self.url, turned, self.rate, PIECE, seed=number, watch=partial(self._take, first))
            pieces.add(asyncio.create_task(send))
            number += 1
            await asyncio.sleep(max(0.0, began + number * PIECE - time.perf_counter()))
            pieces -= {piece for piece in pieces if piece.done() and piece.exception() is None}
        await asyncio.gather(*pieces)

    def _take(self, first: int, answer: Answer) -> None:
        self.answers.append(replace(answer, request=(first + answer.request) % len(self.requests)))

    def wait_back(self, since: float, count: int = BACK) -> bool:
        """Wait until the last `count` requests sent after `since` (perf_counter) were answered 200."""

        def back() -> bool:
            later = sorted((a for a in list(self.answers) if a.started > since), key=lambda answer: answer.started)
            return len(later) >= count and all(answer.status == 200 for answer in later[-count:])

        return wait_until(back)


@dataclass(frozen=True)
class Outcome:
    """What clients saw of a fault.

    Attributes
    ----------
    sent, good, refused : int
        Requests in all; those answered 200, and 503.
    others : Counter
        Answers of other statuses.
    unanswered : Counter
        Requests without an answer, by the reason.
    slowest_s : float
        Seconds that the slowest answer took, whatever its status.
    back_s : float or None
        Seconds from the fault to the first request of those that were all answered 200, `BACK` of them at least; None
        where it never came to that, 0 where no request failed.
    """

    sent: int
    good: int
    refused: int
    others: Counter
    unanswered: Counter
    slowest_s: float
    back_s: float | None

    @classmethod
    def of(cls, answers: Iterable[Answer], struck: float) -> Outcome:
        """Count what became of requests; `struck` is when the fault came, of `time.perf_counter`."""
        ordered = sorted(answers, key=lambda answer: answer.started)
        statuses = Counter(answer.status for answer in ordered)
        failed = [place for place, answer in enumerate(ordered) if answer.status != 200]
        after = ordered[failed[-1] + 1 :] if failed else ordered
        back = None
        if len(after) >= BACK:
            back = float(max(0.0, after[0].started - struck)) if failed else 0.0
        return cls(
            sent=len(ordered),
            good=statuses[200],
            refused=statuses[503],
            others=Counter({status: n for status, n in statuses.items() if status not in (200, 503, None)}),
            unanswered=Counter((a.error or "").split(":")[0] for a in ordered if a.status is None),
            slowest_s=float(max((answer.seconds for answer in ordered if answer.status is not None), default=0.0)),
            back_s=back,
        )


def wait_until(true: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait until `true` is; tell whether it came to that in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.05)
    return False


def call(url: str, body: bytes | None = None, content_type: str = JSON) -> Reply:
    """Ask once, with patience: `spoter.ops.readiness.send`."""
    return send(url, None, body, content_type, PATIENCE)


def worker_pids(server: ServerProcess) -> list[int]:
    """Return the processes of the workers that TorchServe calls READY, of the model's default version."""
    told = call(f"{server.management}/models/{NAME}")
    workers = json.loads(told.body)[0]["workers"] if told.status == 200 else []
    return [worker["pid"] for worker in workers if worker["status"] == "READY"]


def wait_workers(server: ServerProcess, count: int) -> bool:
    """Wait until so many workers are READY: `wait_ready` is content with one."""
    return wait_until(lambda: len(worker_pids(server)) == count)


def logged(server: TorchServe, cause: str) -> str | None:
    """Return the last line of a server's logs in which `cause`, a regular expression, is found, without its time."""
    found = None
    for path in sorted(server.logs.rglob("*.log")):
        for line in path.read_text(errors="replace").splitlines():
            if re.search(cause, line):
                found = LOG_HEAD.sub("", line)
    return found


def samples() -> list[Request]:
    """Return the repository's own requests: clips of people, in each of the forms."""
    types = {".json": JSON, ".csv": CSV, ".jsonl": "application/jsonlines", ".npy": "application/x-npy"}
    files = sorted(path for path in Path(ROOT, "samples").iterdir() if path.suffix in types)
    return [Request(path.read_bytes(), types[path.suffix]) for path in files]


def counted(counter: Counter) -> str:
    """Return "404 x 12, 507 x 3", or "0"."""
    return ", ".join(f"{key} x {n}" for key, n in sorted(counter.items(), key=str)) or "0"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; the first column is text, columns of numbers are the caller's to round."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |")
    return "\n".join(lines) + "\n"
