"""Predictions of all clips in one file, in the order of the clips.

``OUT.parts/`` exists next to ``OUT`` during the run. ``OUT.run.json`` stays: it records the model, clips and options.
"""

import io
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import UNSET, Raw, UnsetType

from spoter.batch.run import Counts, RunPlan, ShardExecutor, ShardFolder, read_record, run_shards, write_record
from spoter.errors import SpoterError
from spoter.files import atomic_move, atomic_write, exclusive_lock


class _Line(msgspec.Struct):
    error: Raw | UnsetType = UNSET


def predict_to_file(plan: RunPlan, execute: ShardExecutor[bytes]) -> Counts:
    """Write the predictions of all clips to `plan.out` as JSON Lines; resume an earlier run.

    `execute` runs a `spoter.batch.predictor.ShardPredictor`. Raise `SpoterError` if `plan.out` holds other results or
    another command is writing them, and the errors of `ShardFolder.begin` and `run_shards`.
    """
    out, size = plan.out, plan.shard_size
    record_file, folder = out.with_name(f"{out.name}.run.json"), out.with_name(f"{out.name}.parts")
    shards = ShardFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder):
        if out.exists():
            counts = _check_finished(plan, record_file, folder)
            if counts is not None:
                shutil.rmtree(folder)
                return counts
        shards.begin(record_file, plan.record)
        done = {number for number in shards.numbers() if shards.read(number) is not None}
        run_shards(plan, execute, done, shards.write)
        # Write into the folder first: removing the folder then also removes the leftovers of a killed run.
        joined = folder / "joined"
        counts = write_lines(_all_lines(shards, -(-plan.record.pieces // size)), joined)
        atomic_move(joined, out)
        write_record(record_file, msgspec.structs.replace(plan.record, clips=counts.clips, failed=counts.failed))
        shutil.rmtree(folder)
    return counts


def _check_finished(plan: RunPlan, record_file: Path, folder: Path) -> Counts | None:
    """Return an existing output's counts, or None if its run was killed before it recorded them."""
    earlier = read_record(record_file)
    difference = None if earlier is None else plan.record.difference(earlier)
    if earlier is not None and difference is None:
        return earlier.counts
    with suppress(OSError):  # not empty: shards of an earlier run, which only the user may remove
        folder.rmdir()
    problem = f"has no run record ({record_file.name})" if earlier is None else f"holds results of {difference}"
    raise SpoterError(f"{plan.out} exists but {problem}. Delete it or choose another --out")


def write_lines(lines: Iterable[bytes], path: Path) -> Counts:
    """Write lines of results to a file, all or none, and count them."""
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        return count_lines(line for line in lines if stream.write(line))


def count_lines(lines: Iterable[bytes]) -> Counts:
    """Count the lines and those with an error."""
    has_error = Counter(msgspec.json.decode(line, type=_Line).error is not UNSET for line in lines)
    return Counts(has_error.total(), has_error[True])


def _all_lines(shards: ShardFolder, count: int) -> Iterator[bytes]:
    for number in range(count):
        lines = shards.read(number)
        if lines is None:
            raise SpoterError(f"{shards.path(number)}: the file is damaged or missing; run the same command again")
        yield from io.BytesIO(lines)
