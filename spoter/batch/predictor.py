"""Pieces -> lines of JSON: what a server answers to each, with the clip's place before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec

from spoter.batch.inputs import Piece
from spoter.batch.reader import Place, Reader
from spoter.errors import InputError
from spoter.formats.request import JSONLINES
from spoter.messages import RawRequest, error_response
from spoter.serving.recognizer import Recognizer, load_single_threaded
from spoter.serving.service import respond

# Bytes of requests that are answered together. It bounds the memory of a worker whatever form the clips have: of
# Holistic's JSON a batch is some six clips, of the layout's points alone as many as `Answering.batch` says.
_MOST_BYTES = 2**24

Asked = tuple[Place, RawRequest | InputError]


@dataclass(frozen=True)
class Answering:
    """Answers pieces with a model folder, which is loaded when the first come.

    Attributes
    ----------
    model : Path
        Model folder.
    runtime : str or None
        What computes; None takes what the model's config says.
    said : dict
        `top_k`, `width` and `height`, as for `Reader`.
    batch : int
        Clips that go through the model together.
    root : Path
        What paths of pieces are relative to.
    """

    model: Path
    runtime: str | None = None
    said: dict[str, float | None] = field(default_factory=dict)
    batch: int = 64
    root: Path = field(default_factory=Path.cwd)

    def __call__(self, pieces: Sequence[Piece], stopped: Callable[[], bool] = lambda: False) -> bytes:
        """Return a line for each clip, in order; fewer where `stopped` says so between two batches.

        Raises
        ------
        ModelFolderError
            Where the model cannot be loaded. What is wrong with a clip is its line.
        """
        lines: list[bytes] = []
        with Reader(self.root, self.said) as reader:
            for batch in self._batches(reader, pieces):
                if stopped():
                    break
                lines += self._lines(batch)
        return b"".join(lines)

    @cached_property
    def _recognizer(self) -> Recognizer:
        return load_single_threaded(self.model, self.runtime)

    def _batches(self, reader: Reader, pieces: Sequence[Piece]) -> Iterator[list[Asked]]:
        batch: list[Asked] = []
        size = 0
        for piece in pieces:
            place, asked = reader.read(piece)
            batch.append((place, asked))
            size += len(asked.body) if isinstance(asked, RawRequest) else 0
            if len(batch) == self.batch or size >= _MOST_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _lines(self, batch: list[Asked]) -> Iterator[bytes]:
        requests = [asked for _, asked in batch if isinstance(asked, RawRequest)]
        responses = iter(respond(self._recognizer, requests)[0])
        for place, asked in batch:
            response = error_response(asked) if isinstance(asked, InputError) else next(responses)
            answers = response.body.rstrip(b"\n").split(b"\n")
            of_a_line = isinstance(asked, RawRequest) and asked.content_type == JSONLINES
            for number, answer in enumerate(answers):
                yield line(place | {"clip": number} if len(answers) > 1 else place, answer, of_a_line)


def line(place: Place, answer: bytes, of_a_line: bool) -> bytes:
    """Return an answer with ``input``, its clip's place, as its first key, and a line end.

    Parameters
    ----------
    place : dict
    answer : bytes
        A JSON object without a line end, as a server answers it.
    of_a_line : bool
        Whether a request of one line was answered. An error then says "line 1", which is told better by the place.
    """
    if of_a_line and answer.startswith(b'{"error"'):
        document = msgspec.json.decode(answer)
        first, _, rest = (document["error"]["where"] or "").partition(", ")
        if first == "line 1":
            document["error"]["where"] = rest or None
            answer = msgspec.json.encode(document)
    return b'{"input":%s,%s\n' % (msgspec.json.encode(place), answer[1:])
