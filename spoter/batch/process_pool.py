"""Execution of shards in processes of this machine, with few shards in flight."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from typing import Any, TypeVar

from spoter.batch.inputs import ClipSource, Shard
from spoter.errors import SpoterError

_T = TypeVar("_T")
Work = Callable[[Sequence[ClipSource], Callable[[], bool]], _T]
"""Called with sources and a function that returns whether to stop; returns a result. It can be pickled."""

_SHARDS_PER_WORKER = 2  # in flight: one that is computed, and the next one

_work: Work[Any]
_stop: Event


class WorkerDied(SpoterError):
    """A worker died during its work."""

    exit_code = 1


def run_in_processes(work: Work[_T], shards: Iterable[Shard], jobs: int) -> Generator[tuple[int, _T], None, None]:
    """Yield the number of each shard and the result of `work`, in the order of completion.

    Each of the `jobs` processes gets `work` once; `shards` is read only as fast as they compute. Raise `WorkerDied` if
    a worker was killed or ran out of memory, and the errors of `work`.
    """
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(jobs, context, _begin, (work, stop))
    pending: dict[Future[_T], int] = {}
    try:
        for shard in shards:
            while len(pending) >= _SHARDS_PER_WORKER * jobs:
                yield from _fetch(pending)
            pending[pool.submit(_run, shard.sources)] = shard.number
        while pending:
            yield from _fetch(pending)
    except (BrokenProcessPool, MemoryError):
        raise WorkerDied(
            "a worker was killed, probably out of memory. Run the same command again to resume; lower --jobs or "
            "--batch if it happens again"
        ) from None
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fetch(pending: dict[Future[_T], int]) -> list[tuple[int, _T]]:
    """Wait until a shard is done; remove all done shards from `pending` and return them."""
    finished = wait(pending, return_when=FIRST_COMPLETED).done
    return [(pending.pop(future), future.result()) for future in finished]


def _begin(work: Work[_T], stop: Event) -> None:
    global _work, _stop
    _work, _stop = work, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; only the parent handles it
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent was killed: a pool's workers would otherwise wait forever."""
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)


def _run(sources: Sequence[ClipSource]) -> Any:
    return _work(sources, _stop.is_set)
