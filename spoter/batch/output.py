"""All answers in one file, in the clips' order.

Beside ``OUT`` lie ``OUT.parts/`` for as long as the run lasts, and ``OUT.run.json``, which stays and tells what the
answers were made of.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import UNSET, Raw, UnsetType

from spoter.batch.resume import (
    Doing,
    Record,
    begin,
    do_parts,
    part_file,
    part_numbers,
    read_part,
    read_record,
    write_part,
    write_record,
)
from spoter.errors import SpoterError
from spoter.files import atomic_move, atomic_write, exclusive_lock


class _Line(msgspec.Struct):
    error: Raw | UnsetType = UNSET


def predict(out: Path, record: Record, paths: list[Path], size: int, do: Doing) -> Record:
    """Answer all clips and write the answers to `out`; go on where an earlier run was stopped.

    Parameters
    ----------
    out : Path
        JSON Lines; there whole or not at all.
    record : Record
    paths : list of Path
    size : int
        Pieces in a part.
    do : callable
        A `Doing` by `spoter.batch.predictor`.

    Returns
    -------
    Record
        With the numbers of lines, and of errors among them.

    Raises
    ------
    SpoterError
        Where answers of something else are there, or another command is writing them; those of `begin` and `do_parts`.
    Stopped
    """
    told, folder = _beside(out, ".run.json"), _beside(out, ".parts")
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder):
        if out.exists():
            earlier = read_record(told)
            difference = "nobody knows what" if earlier is None else record.difference(earlier)
            if difference:
                with suppress(OSError):  # it may hold parts: of an earlier run, and not ours to remove
                    folder.rmdir()
                raise SpoterError(
                    f"{out}: found answers of {difference}, expected none; remove them, or give another --out"
                )
            if earlier.clips is not None:
                shutil.rmtree(folder)
                return earlier

        def keep(number: int, lines: bytes) -> None:
            write_part(part_file(folder, number), lines)

        begin(folder, told, record)
        done = {number for number in part_numbers(folder) if read_part(part_file(folder, number)) is not None}
        do_parts(record, paths, size, do, done, keep)
        # In the folder first: what is left there of a run that is killed goes with it.
        whole = folder / "whole"
        clips, failed = write_lines(_lines(folder, -(-record.pieces // size)), whole)
        atomic_move(whole, out)
        finished = msgspec.structs.replace(record, clips=clips, failed=failed)
        write_record(told, finished)
        shutil.rmtree(folder)
    return finished


def write_lines(lines: Iterable[bytes], path: Path) -> tuple[int, int]:
    """Write lines of answers to a file, whole or not at all; return how many there are, and how many are errors."""
    clips = failed = 0
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        for line in lines:
            stream.write(line)
            clips += 1
            failed += msgspec.json.decode(line, type=_Line).error is not UNSET
    return clips, failed


def _lines(folder: Path, parts: int) -> Iterator[bytes]:
    for number in range(parts):
        path = part_file(folder, number)
        lines = read_part(path)
        if lines is None:
            raise SpoterError(f"{path}: the file is damaged or missing; run the same command to make this part again")
        yield from io.BytesIO(lines)


def _beside(out: Path, ending: str) -> Path:
    return out.with_name(out.name + ending)
