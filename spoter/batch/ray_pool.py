"""Execution of shards in Ray Data, on the cores of one machine or of a cluster.

Ray starts one actor per job and bounds the number of shards in flight. An actor loads the model once and computes one
shard after another. Actors read the clips themselves: the model folder and the clips must have the driver's paths, on a
cluster in a shared file system. The results return to the driver, which saves them as usual.
"""

import logging
import os
import socket
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import msgspec

from spoter.batch.inputs import ClipSource, Shard
from spoter.batch.process_pool import WorkerDied
from spoter.errors import SpoterError


class _Actor:
    """Worker that Ray Data calls with batches of one shard each."""

    def __init__(self, work: Callable[[Sequence[ClipSource]], bytes]):
        self._work = work

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        (packed,) = batch["sources"]
        try:
            lines, error = self._work(msgspec.json.decode(packed, type=list[ClipSource])), ""
        except SpoterError as caught:  # if raised here, it would reach the driver as a page of text
            lines, error = b"", str(caught)
        return {"number": list(batch["number"]), "lines": [lines], "error": [error]}


def run_in_ray(
    work: Callable[[Sequence[ClipSource]], bytes], shards: Iterable[Shard], jobs: int, address: str
) -> Generator[tuple[int, bytes], None, None]:
    """Yield the number of each shard and its lines, in the order of completion.

    Each of the `jobs` actors has one core and gets `work` once. `shards` is read completely before the work begins,
    because Ray needs all of them for its plan: about 0.1 kB per clip. The `address` "local" starts Ray on this machine;
    "auto" finds this machine's cluster; other values are addresses of a cluster.

    Raise `SpoterError` if Ray is not installed, does not start or cannot be reached, and the errors of `work`; raise
    `WorkerDied` if an actor fails in another way.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send usage statistics to its developers
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise SpoterError(f"Ray is not installed ({error}): pip install 'spoter[ray]'") from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    _check_address(address)
    try:
        # "local" uses one core per job, even if Ray detects fewer cores.
        cores = jobs if address == "local" else None
        ray.init(address, num_cpus=cores, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises a bare Exception if a node does not start in time
        raise SpoterError(f"Ray at {address}: {_first_line(error)}") from error
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False  # the caller shows one
        rows = [{"number": shard.number, "sources": msgspec.json.encode(shard.sources)} for shard in shards]
        if not rows:
            return
        results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Actor, fn_constructor_args=(work,), batch_size=1, compute=ray.data.ActorPoolStrategy(size=jobs), num_cpus=1
        )
        for row in results.iter_rows():
            if row["error"]:
                raise SpoterError(row["error"])
            yield row["number"], row["lines"]
    except ray.exceptions.RayError as error:
        raise WorkerDied(f"Ray: {_first_line(error)}; see Ray's logs; run the same command to resume") from error
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise `SpoterError` if no server listens at HOST:PORT; Ray reports that only after many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise SpoterError(f"no server answers at {address} ({error}), expected a Ray cluster or `local`") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
