"""The files of a SageMaker batch job: clips -> JSON Lines that it takes, and its answers -> the lines of `predict`.

A line holds the points of the model's layout only, with all their digits, so that the job's answers are those of the
clips themselves. A job keeps the order and knows no names: what a line is of stands in a file beside, line for line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType

from spoter.bulk.answering import line
from spoter.bulk.pieces import Piece
from spoter.bulk.predicting import write_lines
from spoter.bulk.reading import Place, Reader
from spoter.bulk.run import Doing, Record, do_parts, part_file, read_record, remove_unfinished, write_record
from spoter.clip import Clip
from spoter.config import ModelConfig, read_config
from spoter.errors import InputError, SpoterError
from spoter.files import alone_in, write_whole
from spoter.formats import Limits, decode, parse_attributes
from spoter.formats.request import Video
from spoter.layouts import Layout
from spoter.model_folder import layout_of
from spoter.service import Incoming

REQUESTS, INPUTS, TOLD = "requests", "inputs", "run.json"
"""In a packed folder: what the job is given, what each line is of, and what all was made of."""


class _Input(msgspec.Struct):
    input: Raw
    error: Raw | UnsetType = UNSET


@dataclass(frozen=True)
class Packing:
    """Packs pieces for a model: as `spoter.bulk.answering.Answering`, which has the attributes.

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
        return layout_of(self.model, self._config)

    @cached_property
    def _limits(self) -> Limits:
        return Limits(**{name: getattr(self._config, name) for name in Limits.__dataclass_fields__})

    def _clips(self, place: Place, asked: Incoming | InputError) -> Iterator[tuple[Place, Clip | InputError]]:
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

    def _landmarks(self, asked: Incoming) -> list[Clip | InputError]:
        options = parse_attributes(asked.attributes)
        request = decode(asked.body, asked.content_type, self._layout, self._limits, options)
        of_requests = request.describe or request.enroll is not None or request.enrolled is not None
        if of_requests or any(isinstance(clip, Video) for clip in request.clips):
            raise InputError(
                "unreadable_clip",
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
        As for `spoter.bulk.predicting.predict`; `do` by `Packing`.

    Raises
    ------
    SpoterError, Stopped
        As `spoter.bulk.run.do_parts`.
    """
    requests, inputs = folder / REQUESTS, folder / INPUTS
    for made in (requests, inputs):
        made.mkdir(parents=True, exist_ok=True)
    with alone_in(inputs):
        remove_unfinished(requests)

        def keep(number: int, packed: tuple[bytes, bytes]) -> None:
            if packed[0]:  # a job may refuse an empty file
                write_whole(part_file(requests, number), packed[0])
            write_whole(part_file(inputs, number), packed[1])

        do_parts(inputs, folder / TOLD, record, paths, size, do, keep)
        clips = failed = 0
        for path in inputs.glob("*.jsonl"):
            with path.open("rb") as stream:
                for text in stream:
                    clips += 1
                    failed += msgspec.json.decode(text, type=_Input).error is not UNSET
        done = msgspec.structs.replace(record, clips=clips, failed=failed)
        write_record(folder / TOLD, done)
    return done


def join(folder: Path, answers: Path, out: Path) -> tuple[int, int]:
    """Put a job's answers to the clips they are of.

    Parameters
    ----------
    folder : Path
        What `pack` wrote.
    answers : Path
        Folder with the job's ``NNNNN.jsonl.out``.
    out : Path
        JSON Lines, as `spoter.bulk.predicting.predict` writes them.

    Returns
    -------
    tuple of int
        How many lines there are, and how many of them are errors.

    Raises
    ------
    SpoterError
        For a folder that is not packed, or not to its end; answers that are not there, or more or fewer than asked for.
    """
    told = read_record(folder / TOLD)
    if told is None or told.clips is None:
        raise SpoterError(f"{folder}: found no clips packed to their end, expected what `spoter pack` makes")
    return write_lines(_joined(folder, answers), out)


def _joined(folder: Path, answers: Path) -> Iterator[bytes]:
    for path in sorted((folder / INPUTS).glob("*.jsonl"), key=lambda path: int(path.stem)):
        yield from _joined_part(path, answers / f"{path.name}.out", (folder / REQUESTS / path.name).exists())


def _joined_part(inputs: Path, answers: Path, asked: bool) -> Iterator[bytes]:
    with ExitStack() as files:
        try:
            lines: Iterator[bytes] = iter(files.enter_context(answers.open("rb")) if asked else ())
        except OSError as error:
            raise SpoterError(f"{answers}: {error.strerror or error}; fetch all that the job wrote") from error
        fewer = f"{answers}: found fewer lines than {inputs} tells, expected one for each clip: fetch it again"
        for text in files.enter_context(inputs.open("rb")):
            told = msgspec.json.decode(text, type=_Input)
            if told.error is not UNSET:
                yield text
                continue
            answer = next(lines, b"")
            if not answer.endswith(b"}\n"):
                raise SpoterError(fewer)
            yield line(msgspec.json.decode(told.input), answer.removesuffix(b"\n"), of_a_line=True)
        if next(lines, None) is not None:
            raise SpoterError(f"{answers}: found more lines than {inputs} tells: are these the answers to its clips?")
