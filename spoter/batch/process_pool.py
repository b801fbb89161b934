"""Parts answered by processes of this machine, a few of them under way at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from typing import Any

from spoter.batch.inputs import Part, Piece
from spoter.errors import SpoterError

Work = Callable[[Sequence[Piece], Callable[[], bool]], Any]
"""Pieces, and a function that says whether to stop -> what becomes of them; can be pickled."""

# Parts under way or done and not fetched yet, for each worker: one to do, and one to go on with.
_EACH = 2

_work: Work | None = None
_stop: Event | None = None


class WorkerDied(SpoterError):
    """A worker ended in the middle of its work."""

    exit_code = 1


def in_processes(work: Work, parts: Iterable[Part], jobs: int) -> Iterator[tuple[int, Any]]:
    """Yield the number of each part and what `work` makes of it, as they are done.

    However many parts there are, `parts` is read only as far as workers can follow.

    Parameters
    ----------
    work : callable
        Goes to each process once.
    parts : iterable of Part
    jobs : int
        Processes.

    Raises
    ------
    WorkerDied
        Where one was killed, or had no memory.
    SpoterError
        Of `work`.
    """
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(jobs, context, _begin, (work, stop))
    pending: dict[Future, int] = {}
    try:
        for part in parts:
            while len(pending) >= _EACH * jobs:
                yield from _done(pending)
            pending[pool.submit(_do, part.pieces)] = part.number
        while pending:
            yield from _done(pending)
    except (BrokenProcessPool, MemoryError):
        raise WorkerDied(
            "a worker was killed, most likely for want of memory: the same command goes on, with fewer --jobs or a "
            "smaller --batch if need be"
        ) from None
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _done(pending: dict[Future, int]) -> list[tuple[int, Any]]:
    """Wait until something is done, and take that out of `pending`."""
    finished = wait(pending, return_when=FIRST_COMPLETED).done
    return [(pending.pop(future), future.result()) for future in finished]


def _begin(work: Work, stop: Event) -> None:
    global _work, _stop
    _work, _stop = work, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is gone: killed, it tells nobody, and a pool's workers would wait for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _do(pieces: Sequence[Piece]) -> Any:
    return _work(pieces, _stop.is_set)
