"""Sources to lines of JSON: a server's response for each clip, after the clip's place."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec

from spoter.batch.inputs import ClipSource
from spoter.batch.reader import Place, RequestReader
from spoter.errors import InputError
from spoter.formats.request import JSONLINES
from spoter.messages import RawRequest, error_response
from spoter.serving.recognizer import Recognizer, load_single_threaded
from spoter.serving.service import respond

# Bytes of requests in a batch. This bounds a worker's memory for clips of every format: about six clips of Holistic's
# JSON reach it, while `batch` clips of a layout's points stay below it.
_MAX_BATCH_BYTES = 2**24

Located = tuple[Place, RawRequest | InputError]


@dataclass(frozen=True)
class ShardPredictor:
    """Computes a shard's predictions. It loads the model with its first shard, so that it can be pickled."""

    model: Path  # folder
    runtime: str | None = None  # default: the runtime in the model's config
    options: dict[str, float | None] = field(default_factory=dict)  # of `RequestReader`
    batch: int = 64  # number of clips in a forward pass
    root: Path = field(default_factory=Path.cwd)  # folder that the paths of sources are relative to

    def __call__(self, sources: Sequence[ClipSource], is_stopped: Callable[[], bool] = lambda: False) -> bytes:
        """Return one line per clip, in order; fewer if `is_stopped` returns true between two batches.

        The line of an unusable clip is its error. Raise `ModelFolderError` if the model cannot be loaded.
        """
        lines: list[bytes] = []
        with RequestReader(self.root, self.options) as reader:
            for batch in self._batches(reader, sources):
                if is_stopped():
                    break
                lines += self._answer(batch)
        return b"".join(lines)

    @cached_property
    def _recognizer(self) -> Recognizer:
        return load_single_threaded(self.model, self.runtime)

    def _batches(self, reader: RequestReader, sources: Sequence[ClipSource]) -> Iterator[list[Located]]:
        batch: list[Located] = []
        size = 0
        for source in sources:
            place, request = reader.read(source)
            batch.append((place, request))
            size += len(request.body) if isinstance(request, RawRequest) else 0
            if len(batch) == self.batch or size >= _MAX_BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _answer(self, batch: list[Located]) -> Iterator[bytes]:
        requests = [request for _, request in batch if isinstance(request, RawRequest)]
        responses = iter(respond(self._recognizer, requests)[0])
        for place, request in batch:
            response = error_response(request) if isinstance(request, InputError) else next(responses)
            answers = response.body.rstrip(b"\n").split(b"\n")
            is_line = isinstance(request, RawRequest) and request.content_type == JSONLINES
            for number, answer in enumerate(answers):
                yield encode_line(place | {"clip": number} if len(answers) > 1 else place, answer, is_line)


def encode_line(place: Place, answer: bytes, is_line: bool) -> bytes:
    """Return an answer, a JSON object, with its clip's place as the first key, ``input``, and a newline.

    If the request was a single line, its error names "line 1"; that is removed, because the place holds the line.
    """
    if is_line and answer.startswith(b'{"error"'):
        document = msgspec.json.decode(answer)
        first, _, rest = (document["error"]["where"] or "").partition(", ")
        if first == "line 1":
            document["error"]["where"] = rest or None
            answer = msgspec.json.encode(document)
    return b'{"input":%s,%s\n' % (msgspec.json.encode(place), answer[1:])
