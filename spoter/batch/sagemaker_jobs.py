"""The files of a SageMaker batch job: clips -> JSON Lines that it takes, and its answers -> the lines of `predict`.

A line holds the points of the model's layout only, with all their digits, so that the job's answers are those of the
clips themselves. A job keeps the order and knows no names: what a line is of stands in a file beside, line for line.
Behind those lines that file has the SHA-256 of the job's file, so that neither is taken for whole where it is not.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType

from spoter.batch.inputs import Piece
from spoter.batch.output import write_lines
from spoter.batch.predictor import line
from spoter.batch.reader import Place, Reader
from spoter.batch.resume import (
    Doing,
    Record,
    begin,
    do_parts,
    part_file,
    part_numbers,
    read_part,
    read_record,
    remove_unfinished,
    write_part,
    write_record,
)
from spoter.error_codes import ErrorCode
from spoter.errors import InputError, SpoterError
from spoter.files import atomic_write_bytes, exclusive_lock
from spoter.formats import Limits, decode, parse_attributes
from spoter.formats.request import Video
from spoter.landmarks.clip import Clip
from spoter.landmarks.layouts import Layout
from spoter.messages import RawRequest
from spoter.model.config import ModelConfig, read_config
from spoter.model.folder import read_layout

REQUESTS, INPUTS, TOLD = "requests", "inputs", "run.json"
"""In a packed folder: what the job is given, what each line is of, and what all was made of."""


class _Input(msgspec.Struct):
    input: Raw
    error: Raw | UnsetType = UNSET


@dataclass(frozen=True)
class Packing:
    """Packs pieces for a model: as `spoter.batch.predictor.Answering`, which has the attributes.

    Only the model's layout and limits are read.
    """

    model: Path
    said: dict[str, float | None] = field(default_factory=dict)
    root: Path = field(default_factory=Path.cwd)

    def __call__(self, pieces: Sequence[Piece], stopped: Callable[[], bool] = lambda: False) -> tuple[bytes, bytes]:
        """Return lines for a job, and what they are of: a line for each clip, those that cannot be sent with errors."""
        requests, inputs = [], []
        with Reader(self.root, self.said) as reader:
            for piece in pieces:
                if stopped():
                    break
                for place, clip in self._clips(*reader.read(piece)):
                    if isinstance(clip, InputError):
                        inputs.append(line(place, msgspec.json.encode(clip.to_dict()), bool(piece.line)))
                    else:
                        requests.append(self._written(clip) + b"\n")
                        inputs.append(msgspec.json.encode({"input": place}) + b"\n")
        return b"".join(requests), b"".join(inputs)

    @cached_property
    def _config(self) -> ModelConfig:
        return read_config(self.model)

    @cached_property
    def _layout(self) -> Layout:
        return read_layout(self.model, self._config)

    @cached_property
    def _limits(self) -> Limits:
        return Limits(**{name: getattr(self._config, name) for name in Limits.__dataclass_fields__})

    def _clips(self, place: Place, asked: RawRequest | InputError) -> Iterator[tuple[Place, Clip | InputError]]:
        if isinstance(asked, InputError):
            yield place, asked
            return
        try:
            clips = self._landmarks(asked)
        except InputError as error:
            yield place, error
            return
        for number, clip in enumerate(clips):
            yield place | {"clip": number} if len(clips) > 1 else place, clip

    def _landmarks(self, asked: RawRequest) -> list[Clip | InputError]:
        options = parse_attributes(asked.attributes)
        request = decode(asked.body, asked.content_type, self._layout, self._limits, options)
        of_requests = request.describe or request.enroll is not None or request.enrolled is not None
        if of_requests or any(isinstance(clip, Video) for clip in request.clips):
            raise InputError(
                ErrorCode.UNREADABLE_CLIP,
                "found describe, enroll, enrolled or uniqueName, expected landmarks: a job's line holds nothing else",
            )
        return request.clips

    def _written(self, clip: Clip) -> bytes:
        points = shortest(self._layout.select(clip))
        return msgspec.json.encode({"layout": self._layout.name, "points": points.tolist()})  # NaN becomes null


def shortest(points: np.ndarray) -> np.ndarray:
    """Return float32 `points` as the float64 numbers with the fewest decimals, from 4 to 9, that are still the same.

    Numbers that need more are returned as they are.
    """
    exact = points.astype(np.float64)
    found = exact
    for decimals in range(9, 3, -1):
        rounded = np.round(exact, decimals)
        found = np.where(rounded.astype(np.float32) == points, rounded, found)
    return found


def pack(folder: Path, record: Record, paths: list[Path], size: int, do: Doing) -> Record:
    """Write the files of a job; go on where an earlier run was stopped.

    Parameters
    ----------
    folder : Path
        Gets ``requests/`` and ``inputs/``, a file in each for every `size` pieces, and run.json.
    record, paths, size, do
        As for `spoter.batch.output.predict`; `do` by `Packing`.

    Raises
    ------
    SpoterError, Stopped
        As `spoter.batch.resume.begin` and `do_parts`; for a file in ``requests/`` that is not of this program.
    """
    requests, inputs = folder / REQUESTS, folder / INPUTS
    for made in (requests, inputs):
        made.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(inputs):
        begin(inputs, folder / TOLD, record)
        remove_unfinished(requests)
        done = {number for number in part_numbers(inputs) if _is_whole(folder, number)}
        for path in requests.iterdir():
            number = int(path.stem) if path.stem.isdecimal() else -1
            if path != part_file(requests, number):
                raise SpoterError(f"{path}: spoter pack did not write it, and a job would read it as clips; move it")
            if number not in done:
                path.unlink()

        def keep(number: int, packed: tuple[bytes, bytes]) -> None:
            if packed[0]:  # a job may refuse an empty file
                atomic_write_bytes(part_file(requests, number), packed[0])
            write_part(part_file(inputs, number), packed[1] + _digest(packed[0]))

        do_parts(record, paths, size, do, done, keep)
        clips = failed = 0
        for number in sorted(part_numbers(inputs)):
            for text in io.BytesIO(_inputs(inputs, number)):
                clips += 1
                failed += msgspec.json.decode(text, type=_Input).error is not UNSET
        finished = msgspec.structs.replace(record, clips=clips, failed=failed)
        write_record(folder / TOLD, finished)
    return finished


def _digest(requests: bytes) -> bytes:
    return b'{"requests":"%s"}\n' % hashlib.sha256(requests).hexdigest().encode()


def _is_whole(folder: Path, number: int) -> bool:
    """Tell whether both files of a part hold what was written."""
    path = part_file(folder / REQUESTS, number)
    requests = path.read_bytes() if path.exists() else b""
    return (read_part(part_file(folder / INPUTS, number)) or b"").endswith(_digest(requests))


def _inputs(folder: Path, number: int) -> bytes:
    """Return what the lines of a part are of."""
    path = part_file(folder, number)
    content = read_part(path)
    if content is None:
        raise SpoterError(f"{path}: the file is damaged; run the `spoter pack` command that wrote it again")
    return content[: -len(_digest(b""))]


def join(folder: Path, answers: Path, out: Path) -> tuple[int, int]:
    """Put a job's answers to the clips they are of.

    Parameters
    ----------
    folder : Path
        What `pack` wrote.
    answers : Path
        Folder with the job's ``NNNNN.jsonl.out``.
    out : Path
        JSON Lines, as `spoter.batch.output.predict` writes them.

    Returns
    -------
    tuple of int
        How many lines there are, and how many of them are errors.

    Raises
    ------
    SpoterError
        For a folder that is not packed, not to its end, or damaged; answers that are not there, or more or fewer than
        asked for.
    """
    told = read_record(folder / TOLD)
    if told is None or told.clips is None:
        raise SpoterError(f"{folder}: found no clips packed to their end, expected what `spoter pack` makes")
    return write_lines(_joined(folder, answers, told.clips), out)


def _joined(folder: Path, answers: Path, clips: int) -> Iterator[bytes]:
    inputs, count = folder / INPUTS, 0
    for number in sorted(part_numbers(inputs)):
        path = part_file(inputs, number)
        for text in _joined_part(path, _inputs(inputs, number), answers / f"{path.name}.out"):
            count += 1
            yield text
    if count != clips:
        raise SpoterError(f"{inputs}: found {count} clips, expected {clips}; run the `spoter pack` command again")


def _joined_part(path: Path, inputs: bytes, answers: Path) -> Iterator[bytes]:
    inputs_of = [(text, msgspec.json.decode(text, type=_Input)) for text in io.BytesIO(inputs)]
    with ExitStack() as files:
        try:
            asked = any(told.error is UNSET for _, told in inputs_of)
            lines: Iterator[bytes] = iter(files.enter_context(answers.open("rb")) if asked else ())
        except OSError as error:
            raise SpoterError(f"{answers}: {error.strerror or error}; fetch all that the job wrote") from error
        fewer = f"{answers}: found fewer lines than {path} tells, expected one for each clip: fetch it again"
        for text, told in inputs_of:
            if told.error is not UNSET:
                yield text
                continue
            answer = next(lines, b"")
            if not answer.endswith(b"}\n"):
                raise SpoterError(fewer)
            yield line(msgspec.json.decode(told.input), answer.removesuffix(b"\n"), of_a_line=True)
        if next(lines, None) is not None:
            raise SpoterError(f"{answers}: found more lines than {path} tells: are these the answers to its clips?")
