"""A run that can be stopped at any moment and resumed: each shard is saved to a file when it is done.

A record names the model, clips and options of the shards. A run resumes only if its record is the same. The last line
of a shard's file is the SHA-256 of the lines before it. If a power cut damaged the file, the checksum does not match
and the shard is computed again.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from spoter import __version__
from spoter.batch.inputs import Shard, iterate_shards, scan_inputs
from spoter.errors import SpoterError
from spoter.files import TEMPORARY_PREFIX, atomic_write_bytes
from spoter.model.config import read_config
from spoter.model.folder import CARD
from spoter.progress import progress_bar

_T = TypeVar("_T")
ShardExecutor = Callable[[Iterable[Shard]], Generator[tuple[int, _T], None, None]]
"""Yields the number and the result of each shard, in the order of completion: `run_in_processes`, `run_in_ray`."""

# Files that training writes into a model folder and that do not affect predictions.
_NOT_THE_MODEL = (CARD, "split.json", "metrics.jsonl", "curves.png")


class Counts(NamedTuple):
    """The number of lines in an output, and of those with an error."""

    clips: int
    failed: int

    def __str__(self) -> str:
        return f"{self.clips} clip{'s' * (self.clips != 1)}, {self.failed or 'none'} of them with an error"


class RunRecord(msgspec.Struct):
    """The inputs of a run."""

    model: str  # name and version, for people
    weights: str  # SHA-256 of the model folder's files
    inputs: str  # `InputScan.digest`
    options: dict[str, float | str | None]  # apply to all clips
    pieces: int  # number of sources
    spoter: str  # version of the package
    clips: int | None = None  # `Counts`, once the run is done
    failed: int | None = None

    @property
    def counts(self) -> Counts | None:
        """The counts of a finished run."""
        return None if self.clips is None or self.failed is None else Counts(self.clips, self.failed)

    def difference(self, other: RunRecord) -> str | None:
        """Return a description of `other` if its inputs differ from these, else None."""
        if other.weights != self.weights:
            return f"another model ({other.model})"
        if other.options != self.options:
            values = ", ".join(f"{name} {value}" for name, value in other.options.items() if value is not None)
            return f"other options ({values or 'none'})"
        if other.inputs != self.inputs:
            return "other clips, or clips that have changed since"
        if other.spoter != self.spoter:
            return f"another version of spoter ({other.spoter})"
        return None


class Stopped(SpoterError):
    """Ctrl-C stopped the run; the message states the progress."""

    exit_code = 130


@dataclass(frozen=True)
class RunPlan:
    """A run to start or to resume."""

    out: Path  # file or folder to write
    paths: Sequence[Path]  # clips
    record: RunRecord
    shard_size: int  # sources in a shard


def plan_run(out: Path, model: Path, paths: Sequence[Path], options: Mapping[str, float | str | None]) -> RunPlan:
    """Count the clips and return a plan; print a progress bar and a note about skipped files on stderr.

    Raise `SpoterError` if `out` lies in a folder of clips, where a later run would read it as clips; `ModelFolderError`
    if the model has no config; and the errors of `spoter.batch.inputs.scan_inputs`.
    """
    for path in paths:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise SpoterError(f"--out {out} lies in the folder of clips {path}; choose another folder")
    config = read_config(model)
    digest = hashlib.sha256()
    for path in sorted(path for path in model.iterdir() if path.is_file() and path.name not in _NOT_THE_MODEL):
        digest.update(msgspec.msgpack.encode((path.name, hashlib.sha256(path.read_bytes()).digest())))
    with progress_bar(shown=True, desc="finding", unit="clip", leave=False) as bar:
        scan = scan_inputs(paths, bar.update)
    name = f"{config.name} {config.version}"
    record = RunRecord(name, digest.hexdigest(), scan.digest, dict(options), scan.sources, __version__)
    if scan.skipped:
        skipped = ", ".join(f"{count} {ending}" for ending, count in sorted(scan.skipped.items()))
        print(f"note: skipped files without landmarks: {skipped}", file=sys.stderr)
    return RunPlan(out, paths, record, scan.shard_size)


def read_record(path: Path) -> RunRecord | None:
    """Read a record; return None if the file is missing, raise `SpoterError` if its content is invalid."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunRecord)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SpoterError(f"{path}: not a record of a run ({error}); remove the file") from error


def write_record(path: Path, record: RunRecord) -> None:
    """Write a record."""
    atomic_write_bytes(path, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


class ShardFolder:
    """A folder of shard files. Only one command at a time may write to it (`spoter.files.exclusive_lock`)."""

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, number: int) -> Path:
        """Return the path of a shard's file."""
        return self.folder / f"{number:05}.jsonl"

    def numbers(self) -> set[int]:
        """Return the numbers of the shards that have files."""
        return {int(path.stem) for path in self.folder.glob("*.jsonl") if path.stem.isdecimal()}

    def write(self, number: int, lines: bytes) -> None:
        """Write a shard's lines and their checksum."""
        atomic_write_bytes(self.path(number), lines + _checksum(lines))

    def read(self, number: int) -> bytes | None:
        """Return a shard's lines; None if its file is missing or damaged."""
        try:
            content = self.path(number).read_bytes()
        except FileNotFoundError:
            return None
        lines = content[: -len(_checksum(b""))]
        return lines if content == lines + _checksum(lines) else None

    def remove_unfinished(self) -> None:
        """Remove the temporary files of a run that was killed."""
        for path in self.folder.glob(f"{TEMPORARY_PREFIX}*"):
            path.unlink()

    def begin(self, record_file: Path, record: RunRecord) -> None:
        """Write the record; raise `SpoterError` if the folder has shards of a run with another record."""
        self.remove_unfinished()
        count = len(self.numbers())
        if not count:
            return write_record(record_file, record)
        earlier = read_record(record_file)
        difference = "an unknown run" if earlier is None else record.difference(earlier)
        if difference:
            raise SpoterError(
                f"{self.folder}: found {count} parts of {difference}. To resume, run the command that started it; "
                f"to start over, remove {record_file} and {self.folder}"
            )


def _checksum(lines: bytes) -> bytes:
    return b'{"sha256":"%s"}\n' % hashlib.sha256(lines).hexdigest().encode()


def run_shards(plan: RunPlan, execute: ShardExecutor[_T], done: set[int], save: Callable[[int, _T], None]) -> None:
    """Run the shards that are not `done`, with a progress bar on stderr; pass each number and result to `save`.

    Raise the errors of `execute`, and `Stopped` on Ctrl-C.
    """
    total, size = plan.record.pieces, plan.shard_size

    def length(number: int) -> int:
        return min(size, total - number * size)

    remaining = (shard for shard in iterate_shards(plan.paths, size) if shard.number not in done)
    finished = sum(map(length, done))
    try:
        with (
            progress_bar(shown=True, total=total, initial=finished, desc="predicting", unit="clip") as bar,
            closing(execute(remaining)) as results,
        ):
            for number, result in results:
                save(number, result)
                finished += length(number)
                bar.update(length(number))
    except KeyboardInterrupt:
        raise Stopped(f"stopped: {finished} of {total} clips are saved. Run the same command again to resume") from None
