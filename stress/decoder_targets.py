"""Fuzz targets: every function that reads untrusted bytes, with valid inputs to start from.

These functions may only return or raise errors of `spoter.errors`.
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
# Maximum length of a quotation from a request in an error: a gloss (`spoter.fewshot.enrolled`) in quotation marks.
LONGEST_QUOTE = 110
LONGEST_ERROR = 1000  # maximum length of an error; errors of model files contain the path and a short quotation
_TYPES = (JSON, JSONLINES, CSV, NPY, MP4, None)
_LIMITS = Limits(max_frames=40, max_clips=4)


class ContractViolation(Exception):
    """A decoder or a response broke a rule of this module."""


@dataclass(frozen=True)
class Target:
    """A function that decodes bytes and raises only forbidden errors, and a function that returns valid inputs."""

    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]


def check_response(response: Response, body: bytes) -> None:
    """Raise `ContractViolation` unless a response to `body` has status 200 or an error of docs/errors.md."""
    if response.status == 200:
        return
    if not 400 <= response.status < 500 or DOCUMENTED.get(response.error_code) != response.status:
        raise ContractViolation(f"found code {response.error_code} with status {response.status}: see docs/errors.md")
    for line in response.body.splitlines() if response.content_type == JSONLINES else [response.body]:
        if response.content_type != CSV:
            check_errors(json.loads(line), body)


def check_errors(document: dict, body: bytes) -> None:
    """Raise `ContractViolation` if errors in an answer are too long or quote too much of the request."""
    for item in document.get("answers", [document]):
        error = item.get("error") or {"message": "", "where": ""}
        length = len(f"{error['where']}: {error['message']}")
        if length > LONGEST_ERROR:
            raise ContractViolation(f"found an error of {length} characters, expected at most {LONGEST_ERROR}")
        for start in range(len(error["message"]) - LONGEST_QUOTE):
            if error["message"][start : start + LONGEST_QUOTE].encode(errors="surrogatepass") in body:
                raise ContractViolation(f"found an error that quotes {LONGEST_QUOTE} characters of the request")


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
    """Answer a request whose first line has type (or spaces that select one), Accept and attributes, split by |."""
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
                raise ContractViolation(f"expected one line, found {str(error)[:LONGEST_ERROR]!r}") from error

    return Target(read, seeds)


def _small_model() -> Spoter:
    model = Spoter(Sizes(**SMALL))
    for value in model.state_dict().values():
        value.fill_(0.5)
    return model


def _checkpoints() -> list[bytes]:
    """Return checkpoints of a small SPOTER: in torch's two formats, as a training dict, and compressed."""
    state, contents = _small_model().state_dict(), []
    training = {"model_state_dict": state, "epoch": 1, "loss": 0.5}
    for content, is_zip in ((state, True), (training, True), (state, False)):
        stream = io.BytesIO()
        torch.save(content, stream, _use_new_zipfile_serialization=is_zip)
        contents.append(stream.getvalue())
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(contents[0])) as stored, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as out:
        for entry in stored.infolist():
            out.writestr(entry.filename, stored.read(entry))
    return [*contents, stream.getvalue()]


def _safetensors() -> list[bytes]:
    state = _small_model().state_dict()
    return [safetensors.torch.save(state), safetensors.torch.save(state, {"format": "pt"})]


def small_graphs() -> list[bytes]:
    """Return graphs of a small SPOTER, without and with the SHA-256 of the weights that `spoter export` adds."""
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
    """Load and run a graph, as `spoter.serving.recognizer.Recognizer` does at its start."""
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
"""All targets by name."""
