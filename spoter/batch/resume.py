"""A run that can be stopped at any moment, and goes on: parts, each kept whole in a folder as soon as it is done.

Beside them a file tells what they were made of: which model, clips and options. A run goes on with parts that were made
of the same, and with no others. The last line of a part is the SHA-256 of the lines above it: a part that a power cut
has damaged does not match, and is made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

import spoter
from spoter.batch.inputs import Part, Survey, parts, survey
from spoter.errors import SpoterError
from spoter.files import TEMPORARY_PREFIX, atomic_write_bytes
from spoter.model.config import read_config
from spoter.model.folder import CARD
from spoter.progress import progress_bar

Doing = Callable[[Iterable[Part]], Iterator[tuple[int, Any]]]
"""Parts -> the number of each and what became of it, as they are done: `in_processes`, `in_actors`."""

# What training leaves in a model folder and no answer depends on.
_BESIDE_THE_MODEL = (CARD, "split.json", "metrics.jsonl", "curves.png")


class Record(msgspec.Struct):
    """What a run is made of.

    Attributes
    ----------
    model : str
        Its name and version, for people.
    weights : str
        SHA-256 of the model folder's files.
    inputs : str
        `Survey.digest`.
    options : dict
        What was said of all clips.
    pieces : int
    spoter : str
        Version of this program.
    clips, failed : int or None
        How many lines there are, and how many of them are errors, once the run is done.
    """

    model: str
    weights: str
    inputs: str
    options: dict[str, float | str | None]
    pieces: int
    spoter: str
    clips: int | None = None
    failed: int | None = None

    def difference(self, other: Record) -> str | None:
        """Return in words what `other` was made of that this one is not; None where both are of the same."""
        if other.weights != self.weights:
            return f"another model ({other.model})"
        if other.options != self.options:
            said = ", ".join(f"{name} {value}" for name, value in other.options.items() if value is not None)
            return f"other options ({said or 'none'})"
        if other.inputs != self.inputs:
            return "other clips, or of files that were changed since"
        if other.spoter != self.spoter:
            return f"another version of this program ({other.spoter})"
        return None


class Stopped(KeyboardInterrupt):
    """Ctrl-C; its text says how far the run is."""


def check_outside(out: Path, paths: Sequence[Path]) -> None:
    """Raise `SpoterError` where `out` lies in one of the folders of clips: what is written would be read for clips."""
    for path in paths:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise SpoterError(f"found --out {out} in the folder of clips {path}, expected another place")


def look(model: Path, paths: Sequence[Path], options: Mapping[str, float | str | None]) -> tuple[Record, Survey]:
    """Count the clips, with a bar on stderr, and tell what a run of them is made of.

    Raises
    ------
    ModelFolderError, DataError, SpoterError
        For a model without a config; as `spoter.batch.inputs.survey`.
    """
    config = read_config(model)
    digest = hashlib.sha256()
    for path in sorted(path for path in model.iterdir() if path.is_file() and path.name not in _BESIDE_THE_MODEL):
        digest.update(msgspec.msgpack.encode((path.name, hashlib.sha256(path.read_bytes()).digest())))
    with progress_bar(shown=True, desc="finding", unit="clip", leave=False) as bar:
        found = survey(paths, bar.update)
    name = f"{config.name} {config.version}"
    return Record(name, digest.hexdigest(), found.digest, dict(options), found.pieces, spoter.__version__), found


def read_record(path: Path) -> Record | None:
    """Read what a run was made of; None where nothing is there. Raises `SpoterError` for another content."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SpoterError(f"{path}: {error}, expected what a run of this program writes; remove it") from error


def write_record(path: Path, record: Record) -> None:
    """Write what a run is made of."""
    atomic_write_bytes(path, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def part_file(folder: Path, number: int) -> Path:
    """Return the file of a part."""
    return folder / f"{number:05}.jsonl"


def write_part(path: Path, lines: bytes) -> None:
    """Write a part's lines and the line that seals them."""
    atomic_write_bytes(path, lines + _seal(lines))


def read_part(path: Path) -> bytes | None:
    """Return a part's lines; None where it is absent, or does not hold what was written."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    lines = content[: -len(_seal(b""))]
    return lines if content == lines + _seal(lines) else None


def _seal(lines: bytes) -> bytes:
    return b'{"sha256":"%s"}\n' % hashlib.sha256(lines).hexdigest().encode()


def begin(folder: Path, told: Path, record: Record) -> None:
    """Note what the parts are made of, or see that those of an earlier run were made of the same.

    Parameters
    ----------
    folder : Path
        Holds the parts' files; nobody else writes into it meanwhile (`spoter.files.exclusive_lock`).
    told : Path
        File that tells what they are made of.
    record : Record

    Raises
    ------
    SpoterError
        Where `folder` holds parts that were made of something else.
    """
    remove_unfinished(folder)
    there = len(part_numbers(folder))
    other = read_record(told)
    difference = "nobody knows what" if other is None else record.difference(other)
    if there and difference:
        raise SpoterError(
            f"{folder}: found {there} parts of {difference}; to go on give the command that began it, to begin "
            f"anew remove {told} and {folder}"
        )
    if not there:
        write_record(told, record)


def part_numbers(folder: Path) -> set[int]:
    """Return the numbers of the parts' files in a folder."""
    return {int(path.stem) for path in folder.glob("*.jsonl") if path.stem.isdecimal()}


def do_parts(
    record: Record,
    paths: Sequence[Path],
    size: int,
    do: Doing,
    done: set[int],
    keep: Callable[[int, Any], None],
) -> None:
    """Do the parts that are not done, with a bar on stderr.

    Parameters
    ----------
    record : Record
    paths, size
        As for `spoter.batch.inputs.parts`.
    do : callable
        A `Doing`.
    done : set of int
        Numbers of the parts that an earlier run did.
    keep : callable
        Is given a number and what became of that part, and writes the part's file last.

    Raises
    ------
    SpoterError
        Those of `do`.
    Stopped
    """
    last = (record.pieces - 1) // size
    lengths = {last: record.pieces - last * size}
    ready = sum(lengths.get(number, size) for number in done)
    rest = (part for part in parts(paths, size) if part.number not in done)
    try:
        with (
            progress_bar(shown=True, total=record.pieces, initial=ready, desc="predicting", unit="clip") as bar,
            closing(do(rest)) as results,
        ):
            for number, result in results:
                keep(number, result)
                ready += lengths.get(number, size)
                bar.update(lengths.get(number, size))
    except KeyboardInterrupt:
        raise Stopped(f"{ready} of {record.pieces} clips are done and kept; the same command goes on") from None


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of a run that was killed."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        path.unlink()
