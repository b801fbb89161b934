"""Shared parts of the attacks: a server with two workers, a stream of requests, and the state of workers."""

import asyncio
import gc
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Self

import typer

from benchmarks import MODEL
from benchmarks.load.client import Answer, Request, open_loop
from benchmarks.serving.server import running_server
from spoter.ops.local_server import NAME
from spoter.ops.readiness import Reply, send
from spoter.torchserve.process import ServerProcess
from spoter.torchserve.server import TorchServe

WORKERS = 2
RECOVERED = 20  # consecutive answers with status 200 after which the service counts as recovered
PATIENCE = 120.0  # maximum seconds to wait for an event; a worker starts in 5 s, but much later on a busy machine
JSON, CSV = "application/json", "text/csv"
_PIECE = 0.5  # seconds of one piece of a stream


@contextmanager
def attacked_server(**options: Any) -> Iterator[TorchServe]:
    """Run a TorchServe and wait until all `WORKERS` workers are ready; options as for `running_server`."""
    with running_server(MODEL, WORKERS, **options) as server:
        wait_workers(server)
        yield server


class Stream:
    """An open loop of `rate` requests per second on average, in a thread, until the block or `longest` seconds end."""

    def __init__(self, url: str, requests: Sequence[Request], rate: float, longest: float = 300.0):
        self.url, self.requests, self.rate, self.longest = url, requests, rate, longest
        self.answers: list[Answer] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()  # each request has a time limit (benchmarks.load.client.TIMEOUT)
        gc.unfreeze()

    async def _run(self) -> None:
        """Start pieces in sequence without waiting for answers; each piece continues the order of the requests."""
        pieces: set[asyncio.Task] = set()
        number, began = 0, time.perf_counter()
        while not self._ended.is_set() and time.perf_counter() - began < self.longest:
            gc.freeze()  # a garbage collection over all earlier answers takes longer than a server's queue to fill
            first = round(number * _PIECE * self.rate) % len(self.requests)
            rotated = [*self.requests[first:], *self.requests[:first]]
            piece = open_loop(self.url, rotated, self.rate, _PIECE, seed=number, watch=partial(self._record, first))
            pieces.add(asyncio.create_task(piece))
            number += 1
            await asyncio.sleep(max(0.0, began + number * _PIECE - time.perf_counter()))
            pieces -= {piece for piece in pieces if piece.done() and piece.exception() is None}
        await asyncio.gather(*pieces)

    def _record(self, first: int, answer: Answer) -> None:
        self.answers.append(replace(answer, request=(first + answer.request) % len(self.requests)))

    def wait_recovered(self, since: float) -> bool:
        """Wait until the last `RECOVERED` requests after `since` (`time.perf_counter`) got 200; return False if not."""

        def is_recovered() -> bool:
            later = sorted((a for a in list(self.answers) if a.started > since), key=lambda answer: answer.started)
            return len(later) >= RECOVERED and all(answer.status == 200 for answer in later[-RECOVERED:])

        return wait_until(is_recovered)


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait until a condition is true; return False if that takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def call(url: str, body: bytes | None = None, content_type: str = JSON) -> Reply:
    """Send one request (`spoter.ops.readiness.send`) and wait at most `PATIENCE` seconds for the answer."""
    return send(url, None, body, content_type, PATIENCE)


def worker_pids(server: ServerProcess) -> list[int]:
    """Return the process IDs of the READY workers of the model's default version."""
    reply = call(f"{server.management}/models/{NAME}")
    workers = json.loads(reply.body)[0]["workers"] if reply.status == 200 else []
    return [worker["pid"] for worker in workers if worker["status"] == "READY"]


def wait_workers(server: ServerProcess) -> bool:
    """Wait until all workers are READY; `wait_ready` waits only for one."""
    return wait_until(lambda: len(worker_pids(server)) == WORKERS)


def format_counts(counter: Counter) -> str:
    """Return a text such as "404 x 12, 507 x 3", or "0"."""
    return ", ".join(f"{key} x {n}" for key, n in sorted(counter.items(), key=str)) or "0"


class Problems(list[str]):
    """A list of unexpected results."""

    def check(self, is_expected: bool, problem: str) -> str:
        """Return the verdict for a table, and add the problem unless the result is as expected."""
        if not is_expected:
            self.append(problem)
        return "yes" if is_expected else "NO"

    def exit(self) -> None:
        """Print the problems and exit with status 1, if there are any."""
        if self:
            typer.echo("not as expected: " + "; ".join(self), err=True)
            raise typer.Exit(1)
