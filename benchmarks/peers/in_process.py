"""The recognizer without a server: as many processes as a server has workers, each with one thread."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
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
"""Seconds of each answer of a process, and the processor seconds for all answers."""
_recognizer: Recognizer  # one in each process of the pool


@contextmanager
def running_processes(
    model: Path, runtime: str, count: int
) -> Iterator[Callable[[str, int, float], list[Measurement]]]:
    """Start processes with the model; yield a function in which `busy` of them answer a request for `seconds`."""
    context = get_context("spawn")
    loading = (model.resolve(), runtime, context.Barrier(count))
    with ProcessPoolExecutor(count, context, _load, loading) as pool:

        def measure(request: str, busy: int, seconds: float) -> list[Measurement]:
            try:
                return list(pool.map(_answer, [request] * busy, [seconds] * busy))
            except BrokenProcessPool:
                raise StartError("a recognizer's process ended early; its output has the reason") from None

        for request in BODIES:
            measure(request, count, 0.1)
        yield measure


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
