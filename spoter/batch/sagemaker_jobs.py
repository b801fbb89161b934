"""Files of a SageMaker batch job: clips to JSON Lines, and the job's answers to the lines of `predict_to_file`.

A line holds only the points of the model's layout, with all their digits, so that the job's predictions equal those of
the original clips. A job keeps the order of lines but no names: a second file holds the place of each line's clip. It
ends with the SHA-256 of the job's file, so that neither file counts as complete without the other.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Raw, UnsetType

from spoter.batch.inputs import ClipSource
from spoter.batch.output import count_lines, write_lines
from spoter.batch.predictor import encode_line
from spoter.batch.reader import Place, RequestReader
from spoter.batch.run import Counts, RunPlan, ShardExecutor, ShardFolder, read_record, run_shards, write_record
from spoter.error_codes import ErrorCode
from spoter.errors import InputError, SpoterError
from spoter.files import atomic_write_bytes, exclusive_lock, naming_errors
from spoter.formats import decode
from spoter.formats.request import ClipOrError, parse_attributes
from spoter.landmarks.clip import Clip
from spoter.landmarks.layouts import Layout
from spoter.messages import RawRequest
from spoter.model.config import ModelConfig, read_config
from spoter.model.folder import read_layout

REQUESTS, INPUTS, RECORD = "requests", "inputs", "run.json"
"""In a packed folder: the job's files, the places of their clips, and the record of the run."""


class _Input(msgspec.Struct):
    input: Raw
    error: Raw | UnsetType = UNSET  # if the clip cannot be sent


@dataclass(frozen=True)
class ShardPacker:
    """Packs a shard's sources with the layout and limits of a model; attributes as in `ShardPredictor`."""

    model: Path
    options: dict[str, float | None] = field(default_factory=dict)
    root: Path = field(default_factory=Path.cwd)

    def __call__(
        self, sources: Sequence[ClipSource], is_stopped: Callable[[], bool] = lambda: False
    ) -> tuple[bytes, bytes]:
        """Return the job's lines, and for each clip a line with its place, and its error if it cannot be sent."""
        requests, inputs = [], []
        with RequestReader(self.root, self.options) as reader:
            for source in sources:
                if is_stopped():
                    break
                for place, clip in self._read_clips(*reader.read(source)):
                    if isinstance(clip, InputError):
                        inputs.append(encode_line(place, msgspec.json.encode(clip.to_dict()), bool(source.line)))
                    else:
                        requests.append(self._encode(clip) + b"\n")
                        inputs.append(msgspec.json.encode({"input": place}) + b"\n")
        return b"".join(requests), b"".join(inputs)

    @cached_property
    def _config(self) -> ModelConfig:
        return read_config(self.model)

    @cached_property
    def _layout(self) -> Layout:
        return read_layout(self.model, self._config)

    def _read_clips(self, place: Place, request: RawRequest | InputError) -> Iterator[tuple[Place, ClipOrError]]:
        try:
            clips = [request] if isinstance(request, InputError) else self._decode(request)
        except InputError as error:
            clips = [error]
        for number, clip in enumerate(clips):
            yield place | {"clip": number} if len(clips) > 1 else place, clip

    def _decode(self, raw: RawRequest) -> list[ClipOrError]:
        request = decode(
            raw.body, raw.content_type, self._layout, self._config.limits, parse_attributes(raw.attributes)
        )
        if request.describe or request.enroll is not None or request.enrolled is not None or request.video is not None:
            raise InputError(
                ErrorCode.UNREADABLE_CLIP,
                "found describe, enroll, enrolled or uniqueName, expected landmarks only",
            )
        return request.clips

    def _encode(self, clip: Clip) -> bytes:
        points = shorten(self._layout.select(clip))
        return msgspec.json.encode({"layout": self._layout.name, "points": points.tolist()})  # NaN becomes null


def shorten(points: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return float64 numbers with the fewest decimals (4 to 9) that are still the same float32 numbers.

    Numbers that need more decimals are returned unchanged.
    """
    exact = points.astype(np.float64)
    shortest = exact
    for decimals in range(9, 3, -1):
        rounded = np.round(exact, decimals)
        shortest = np.where(rounded.astype(np.float32) == points, rounded, shortest)
    return shortest


def pack_clips(plan: RunPlan, execute: ShardExecutor[tuple[bytes, bytes]]) -> Counts:
    """Write the files of a job into the folder `plan.out`; resume an earlier run.

    The folder gets ``requests/`` and ``inputs/``, each with one file per shard, and run.json. Raise `SpoterError` for a
    file in ``requests/`` that this program did not write, and the errors of `ShardFolder.begin` and `run_shards`.
    """
    requests, inputs = ShardFolder(plan.out / REQUESTS), ShardFolder(plan.out / INPUTS)
    for shards in (requests, inputs):
        shards.folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(inputs.folder):
        inputs.begin(plan.out / RECORD, plan.record)
        requests.remove_unfinished()
        done = {number for number in inputs.numbers() if _is_complete(requests, inputs, number)}
        for path in requests.folder.iterdir():
            number = int(path.stem) if path.stem.isdecimal() else -1
            if path != requests.path(number):
                raise SpoterError(f"{path}: not written by spoter batch-pack, but a job would read it; move it away")
            if number not in done:
                path.unlink()

        def save(number: int, packed: tuple[bytes, bytes]) -> None:
            if packed[0]:  # a job may refuse an empty file
                atomic_write_bytes(requests.path(number), packed[0])
            inputs.write(number, packed[1] + _checksum(packed[0]))

        run_shards(plan, execute, done, save)
        counts = count_lines(line for _, lines in _read_inputs(inputs) for line in lines)
        write_record(plan.out / RECORD, msgspec.structs.replace(plan.record, clips=counts.clips, failed=counts.failed))
    return counts


def _checksum(requests: bytes) -> bytes:
    return b'{"requests":"%s"}\n' % hashlib.sha256(requests).hexdigest().encode()


def _is_complete(requests: ShardFolder, inputs: ShardFolder, number: int) -> bool:
    """Return whether both files of a shard are intact."""
    path = requests.path(number)
    content = path.read_bytes() if path.exists() else b""
    return (inputs.read(number) or b"").endswith(_checksum(content))


def _read_inputs(inputs: ShardFolder) -> Iterator[tuple[int, io.BytesIO]]:
    """Yield the number of each shard, and the lines with its clips' places."""
    for number in sorted(inputs.numbers()):
        content = inputs.read(number)
        if content is None:
            raise SpoterError(f"{inputs.path(number)}: the file is damaged; run `spoter batch-pack` again")
        yield number, io.BytesIO(content[: -len(_checksum(b""))])


def join_answers(folder: Path, answers: Path, out: Path) -> Counts:
    """Write a job's answers, ``NNNNN.jsonl.out``, with the places of their clips, as `predict_to_file` writes them.

    Raise `SpoterError` if `folder` was not written by `pack_clips`, is incomplete or damaged, or if the number of
    answers differs from the number of clips.
    """
    record = read_record(folder / RECORD)
    if record is None or record.clips is None:
        raise SpoterError(f"{folder}: not a complete output of `spoter batch-pack`; run that command again")
    return write_lines(_join(ShardFolder(folder / INPUTS), answers, record.clips), out)


def _join(inputs: ShardFolder, answers: Path, clips: int) -> Iterator[bytes]:
    count = 0
    for number, lines in _read_inputs(inputs):
        path = inputs.path(number)
        for line in _join_shard(path, lines, answers / f"{path.name}.out"):
            count += 1
            yield line
    if count != clips:
        raise SpoterError(f"{inputs.folder}: found {count} clips, expected {clips}; run `spoter batch-pack` again")


def _join_shard(path: Path, lines: io.BytesIO, answers: Path) -> Iterator[bytes]:
    inputs = [(line, msgspec.json.decode(line, type=_Input)) for line in lines]
    is_sent = any(clip.error is UNSET for _, clip in inputs)
    with naming_errors(answers, hint="; download all output files of the job"):
        answered = io.BytesIO(answers.read_bytes() if is_sent else b"")
    for line, clip in inputs:
        if clip.error is not UNSET:
            yield line
            continue
        answer = answered.readline()
        if not answer.endswith(b"}\n"):
            raise SpoterError(f"{answers}: found fewer lines than in {path}, expected one per clip; download it again")
        yield encode_line(msgspec.json.decode(clip.input), answer.removesuffix(b"\n"), is_line=True)
    if answered.readline():
        raise SpoterError(f"{answers}: found more lines than in {path}; expected the answers to its clips")
