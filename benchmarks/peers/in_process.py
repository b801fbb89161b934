"""The recognizer without a server: as many processes as a server has workers, each with one thread."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks.load.bodies import BODIES
from benchmarks.peers.shared import load_with_one_thread
from spoter.messages import RawRequest
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond
from spoter.torchserve.process import StartError

Measurement = tuple[list[float], float]
"""Seconds of each answer of a process, and its processor seconds for all of them."""
_recognizer: Recognizer  # of each process of the pool


@dataclass(frozen=True)
class RecognizerProcesses:
    """Processes that hold the model; waiting costs nothing."""

    pool: ProcessPoolExecutor

    def measure(self, request: str, count: int, seconds: float) -> list[Measurement]:
        """Have `count` processes answer a request of `BODIES` again and again, at the same time."""
        try:
            return list(self.pool.map(_answer, [request] * count, [seconds] * count))
        except BrokenProcessPool:
            raise StartError("a process of the recognizer alone ended, for the reason above") from None


@contextmanager
def running_processes(model: Path, runtime: str, count: int) -> Iterator[RecognizerProcesses]:
    """Start the processes and wait until each has loaded the model; end them with the block."""
    context = get_context("spawn")
    loading = (model.resolve(), runtime, context.Barrier(count))
    with ProcessPoolExecutor(count, context, _load, loading) as pool:
        processes = RecognizerProcesses(pool)
        for request in BODIES:
            processes.measure(request, count, 0.1)
        yield processes


def _load(model: Path, runtime: str, all_loaded: Barrier) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the pool
    global _recognizer
    _recognizer = load_with_one_thread(model, runtime)
    all_loaded.wait()  # so that each process answers one request of the first measurement


@cache
def _make_request(name: str) -> RawRequest:
    return RawRequest(BODIES[name](), "application/json")


def _answer(name: str, seconds: float) -> Measurement:
    requests, taken = [_make_request(name)], []
    cpu_before, end = time.process_time(), time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        respond(_recognizer, requests)
        taken.append(time.perf_counter() - began)
    return taken, time.process_time() - cpu_before
