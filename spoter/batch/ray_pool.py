"""Parts answered through Ray Data: on the cores of one machine, or of all machines of a cluster.

Ray starts an actor for each job, in which the model is loaded once, hands it part after part, and bounds what is under
way. The actors read the clips themselves, and so need the model folder and the clips at the paths that the driver has:
on a cluster, on a file system that all share. The answers come back to the driver, which keeps them as always.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import numpy as np

from spoter.batch.inputs import Part, Piece
from spoter.batch.process_pool import WorkerDied
from spoter.errors import SpoterError

Work = Callable[[Sequence[Piece]], bytes]

_QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}


class _Actor:
    """What Ray Data calls with batches of one part each."""

    def __init__(self, work: Work):
        self._work = work

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list]:
        (packed,) = batch["pieces"]
        try:
            lines, error = self._work(msgspec.json.decode(packed, type=list[Piece])), ""
        except SpoterError as caught:  # raised here, it would come to the driver as a page of text
            lines, error = b"", str(caught)
        return {"number": list(batch["number"]), "lines": [lines], "error": [error]}


def in_actors(work: Work, parts: Iterable[Part], jobs: int, address: str) -> Iterator[tuple[int, bytes]]:
    """Yield the number of each part and its lines, as they are done.

    Parameters
    ----------
    work : callable
        Of `spoter.batch.predictor`; goes to each actor once.
    parts : iterable of Part
        Taken in at once: Ray plans by all of them, about 0.1 kB for each clip.
    jobs : int
        Actors, a core each.
    address : str
        "local" starts Ray on this machine, "auto" finds the cluster that this machine is of; or a cluster's address.

    Raises
    ------
    SpoterError
        Without Ray; where it does not start or is not reached, and those of `work`.
    WorkerDied
        Where an actor fails in another way.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers about this machine
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise SpoterError(f"found no Ray ({error}), expected it: pip install 'spoter[ray]'") from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    _check_reached(address)
    try:
        # "local" takes as many cores as jobs, whether or not Ray would find so many.
        ray.init(address, num_cpus=jobs if address == "local" else None, **_QUIET)
    except Exception as error:  # Ray raises just that where a node does not start in time
        raise SpoterError(f"Ray at {address}: {_first_line(error)}") from error
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False  # there is one already
        rows = [{"number": part.number, "pieces": msgspec.json.encode(part.pieces)} for part in parts]
        if not rows:
            return
        answered = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Actor,
            fn_constructor_args=(work,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=jobs),
            num_cpus=1,
        )
        for row in answered.iter_rows():
            if row["error"]:
                raise SpoterError(row["error"])
            yield row["number"], row["lines"]
    except ray.exceptions.RayError as error:
        raise WorkerDied(
            f"Ray: {_first_line(error)}; its logs say more, and the same command goes on with what is not done"
        ) from error
    finally:
        ray.shutdown()


def _check_reached(address: str) -> None:
    """Raise `SpoterError` where nothing listens at HOST:PORT, of which Ray makes sure for very many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise SpoterError(f"found no Ray at {address} ({error}), expected a cluster, or `local`") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
