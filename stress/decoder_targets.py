"""All functions that read bytes from outside, as functions of bytes, and valid inputs that fuzzing begins with.

The functions may only return, or raise our errors.
"""

import gzip
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from benchmarks import MODEL
from spoter.errors import InputError, SpoterError
from spoter.fewshot.enrolled import read_enrolled
from spoter.fewshot.prototypes import Prototypes, read_prototypes
from spoter.files import read_text
from spoter.formats import Limits, Request, decode
from spoter.formats.request import CSV, DEFAULT_TOP_K, JSON, JSONLINES, MP4, NPY, parse_attributes
from spoter.formats.response import choose_accept
from spoter.landmarks.layouts import load_layout
from spoter.messages import RawRequest, Response
from spoter.model.checkpoint import read_checkpoint
from spoter.model.config import Sizes, parse_config
from spoter.model.folder import read_glosses
from spoter.model.network import Spoter
from spoter.ops.archive import scan
from spoter.runtime.onnx_graph import build_graph
from spoter.runtime.onnx_runtime import WEIGHTS_SHA256, OnnxRuntime
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond
from stress.archive_mutations import make_tars, make_zips
from stress.mutations import seed_requests
from stress.raw_http import DOCUMENTED

SMALL = {
    "width": 4, "heads": 1, "encoder_layers": 1, "decoder_layers": 1, "encoder_feedforward": 2,
    "decoder_feedforward": 2, "position_rows": 2, "classes": 2,
}  # fmt: skip
"""Sizes of the model whose files are mutated."""
# Most letters of a request's value that an error quotes: a gloss (`spoter.fewshot.enrolled`) with its quotation marks.
LONGEST_QUOTE = 110
LONGEST_ERROR = 1000  # most letters of an error: one of a model file names the file, and quotes a little of it
_TYPES = (JSON, JSONLINES, CSV, NPY, MP4, None)
_LIMITS = Limits(max_frames=40, max_clips=4)


class ContractViolation(Exception):
    """A reader of bytes did something that it must never do."""


@dataclass(frozen=True)
class Target:
    """A function of bytes, which raises only what must not happen; and a function that returns valid inputs."""

    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]


def check_response(response: Response, body: bytes) -> None:
    """Raise `ContractViolation` if a response to a body is not as docs/errors.md describes it."""
    if response.status == 200:
        return
    if not 400 <= response.status < 500 or DOCUMENTED.get(response.error_code) != response.status:
        raise ContractViolation(f"{response.error_code} with {response.status}")
    for line in response.body.splitlines() if response.content_type == JSONLINES else [response.body]:
        if response.content_type != CSV:
            check_errors(json.loads(line), body)


def check_errors(document: dict, body: bytes) -> None:
    """Raise `ContractViolation` if an answer's errors are too long, or quote too much of the request."""
    for item in document.get("answers", [document]):
        error = item.get("error") or {"message": "", "where": ""}
        length = len(f"{error['where']}: {error['message']}")
        if length > LONGEST_ERROR:
            raise ContractViolation(f"an error of {length} letters")
        for start in range(len(error["message"]) - LONGEST_QUOTE):
            if error["message"][start : start + LONGEST_QUOTE].encode(errors="surrogatepass") in body:
                raise ContractViolation("an error that quotes too much of the request")


def _check_input_error(read: Callable[[], object], content: bytes) -> None:
    try:
        read()
    except InputError as error:
        check_errors(error.to_dict(), content)


def _body_target(content_type: str) -> Target:
    def read(content: bytes) -> None:
        for layout in map(load_layout, ("54", "71")):
            _check_input_error(lambda layout=layout: decode(content, content_type, layout, _LIMITS), content)

    return Target(read, lambda: [body for body, kind in seed_requests("") if kind == content_type])


def _read_headers(content: bytes) -> None:
    text, request = content.decode("latin-1"), Request([], True, DEFAULT_TOP_K, JSON)
    _check_input_error(lambda: parse_attributes(text), content)
    _check_input_error(lambda: choose_accept(text, request), content)


@cache
def _recognizer() -> Recognizer:
    return Recognizer.load(MODEL)


def _respond(content: bytes) -> None:
    """Answer a request whose first line is its type, or spaces that select one, its Accept, and its attributes."""
    head, _, body = content.partition(b"\n")
    kind, _, rest = head.decode("latin-1").partition("|")
    accept, _, attributes = rest.partition("|")
    content_type = _TYPES[len(kind) % len(_TYPES)] if kind[:1] == " " or not kind else kind
    [response], _ = respond(_recognizer(), [RawRequest(body, content_type, accept or None, attributes or None)])
    check_response(response, body)


@cache
def _scratch() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="spoter-fuzz-")


def _file_target(name: str, read_file: Callable[[Path], object], seeds: Callable[[], list[bytes]]) -> Target:
    def read(content: bytes) -> None:
        path = Path(_scratch().name, name)
        path.write_bytes(content)
        try:
            read_file(path)
        except SpoterError as error:
            if not str(error) or "\n" in str(error) or len(str(error)) > LONGEST_ERROR:
                raise ContractViolation(f"an error that is no line: {str(error)[:LONGEST_ERROR]!r}") from error

    return Target(read, seeds)


def _small_model() -> Spoter:
    model = Spoter(Sizes(**SMALL))
    for value in model.state_dict().values():
        value.fill_(0.5)
    return model


def _checkpoints() -> list[bytes]:
    """Return a small SPOTER in torch's two forms, as a training dict, and packed."""
    state, made = _small_model().state_dict(), []
    training = {"model_state_dict": state, "epoch": 1, "loss": 0.5}
    for content, is_zip in ((state, True), (training, True), (state, False)):
        stream = io.BytesIO()
        torch.save(content, stream, _use_new_zipfile_serialization=is_zip)
        made.append(stream.getvalue())
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(made[0])) as plain, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    return [*made, stream.getvalue()]


def _safetensors() -> list[bytes]:
    state = _small_model().state_dict()
    return [safetensors.torch.save(state), safetensors.torch.save(state, {"format": "pt"})]


def small_graphs() -> list[bytes]:
    """Return a small SPOTER's graph, plain and with the note of its weights that `spoter export` leaves."""
    graph = build_graph(_small_model())
    plain = graph.SerializeToString(deterministic=True)
    graph.metadata_props.add(key=WEIGHTS_SHA256, value="0" * 64)
    return [plain, graph.SerializeToString(deterministic=True)]


def _small_prototypes() -> Prototypes:
    """Return prototypes of two glosses in three dimensions."""
    identity = np.eye(3, dtype=np.float32)
    return Prototypes(np.zeros(3, np.float32), identity, identity[:2], 10.0, 0.5)


def _enrolled() -> list[bytes]:
    glosses = [{"gloss": "C", "clips": 2, "prototype": [0.0, 0.6, 0.8]}]
    return [json.dumps({"space": _small_prototypes().space, "glosses": glosses}).encode()]


def _run_graph(path: Path) -> None:
    """Load a graph and have it answer once, as `spoter.serving.recognizer.Recognizer` does at the start."""
    runtime = OnnxRuntime.read(path, SMALL["width"], SMALL["classes"])
    runtime.metadata.get(WEIGHTS_SHA256)
    runtime.run([np.zeros((2, SMALL["width"]), dtype=np.float32)], with_embeddings=True)


TARGETS = {
    "json": _body_target(JSON),
    "jsonlines": _body_target(JSONLINES),
    "csv": _body_target(CSV),
    "npy": _body_target(NPY),
    "headers": Target(_read_headers, lambda: [b"top_k=3,width=640,height=480", b"text/csv;q=0.5, application/json"]),
    "respond": Target(
        _respond, lambda: [f"{kind}|application/json|top_k=2\n".encode() + body for body, kind in seed_requests("")]
    ),
    "checkpoint": _file_target("model.pth", read_checkpoint, _checkpoints),
    "safetensors": _file_target("model.safetensors", read_checkpoint, _safetensors),
    "onnx": _file_target("model.onnx", _run_graph, small_graphs),
    "prototypes": _file_target(
        "prototypes.npz", lambda path: read_prototypes(path, 2, 3), lambda: [_small_prototypes().to_bytes()]
    ),
    "meaning": _file_target("meaning.json", lambda path: read_glosses(path, 2), lambda: [b'{"0": "A", "1": "B"}']),
    "config": _file_target(
        "config.json",
        lambda path: parse_config(read_text(path), str(path)),
        lambda: [(MODEL / "config.json").read_bytes()],
    ),
    "archive": _file_target("spoter.mar", scan, lambda: [make_zips()[0], gzip.compress(make_tars()[0], mtime=0)]),
    "enrolled": _file_target(
        "enrolled.json", lambda path: read_enrolled(path, ("A", "B"), _small_prototypes()), _enrolled
    ),
}
"""By name, all targets."""
