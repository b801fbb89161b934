"""Everything that reads bytes of strangers, as functions of bytes that may only end well or with an error of ours."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stress import ROOT, model_file_seeds
from stress.model_file_seeds import SMALL, small_prototypes

# Of a value of the request an error quotes at most so many letters: a gloss (`spoter.fewshot.enrolled`) and quotes around it.
LONGEST_QUOTE = 110
# An error of a model file names the file, and quotes a little of it.
LONGEST_LINE = 1000
_TYPES = ("application/json", "application/jsonlines", "text/csv", "application/x-npy", "video/mp4", None)


class Broken(Exception):
    """A promise that a reader of bytes did not keep."""


@dataclass(frozen=True)
class Target:
    """Something that reads bytes.

    Attributes
    ----------
    name : str
    prepare : callable
        Loads what is needed, and returns the function of bytes. That raises for what must not happen only.
    seeds : callable
        Returns bytes that are read without an error.
    """

    name: str
    prepare: Callable[[], Callable[[bytes], object]]
    seeds: Callable[[], list[bytes]]


def check_response(response, body: bytes, codes: dict[str, int]) -> None:
    """Raise `Broken` where a response is not what docs/errors.md promises.

    Parameters
    ----------
    response : spoter.messages.Response
    body : bytes
        The request's.
    codes : dict of str to int
        Documented ones, with their status.
    """
    if response.status == 200:
        return
    if not 400 <= response.status < 500 or codes.get(response.error_code) != response.status:
        raise Broken(f"{response.error_code} with {response.status}")
    for line in response.body.splitlines() if response.content_type == "application/jsonlines" else [response.body]:
        if response.content_type != "text/csv":
            check_errors(json.loads(line), body)


def check_errors(document: dict, body: bytes) -> None:
    """Raise `Broken` where an answer's errors are longer than they may be, or quote too much of the request."""
    for item in document.get("answers", [document]):
        error = item.get("error") or {"message": "", "where": ""}
        text = f"{error['where']}: {error['message']}"
        if len(text) > 1000:
            raise Broken(f"an error of {len(text)} letters")
        for start in range(len(error["message"]) - LONGEST_QUOTE):
            if error["message"][start : start + LONGEST_QUOTE].encode(errors="surrogatepass") in body:
                raise Broken("an error that quotes too much of the request")


def _decoder(content_type: str) -> Callable[[], Callable[[bytes], object]]:
    def prepare() -> Callable[[bytes], object]:
        from spoter.errors import InputError
        from spoter.formats import Limits, decode
        from spoter.landmarks.layouts import load_layout

        layouts, limits = [load_layout(name) for name in ("54", "71")], Limits(max_frames=40, max_clips=4)

        def read(content: bytes) -> None:
            for layout in layouts:
                try:
                    decode(content, content_type, layout, limits)
                except InputError as error:
                    check_errors(error.to_dict(), content)

        return read

    return prepare


def _headers() -> Callable[[bytes], object]:
    from spoter.errors import InputError
    from spoter.formats import Request, choose_accept, parse_attributes
    from spoter.formats.request import DEFAULT_TOP_K, JSON

    def read(content: bytes) -> None:
        text = content.decode("latin-1")
        for reader in (parse_attributes, lambda text: choose_accept(text, Request([], True, DEFAULT_TOP_K, JSON))):
            try:
                reader(text)
            except InputError as error:
                check_errors(error.to_dict(), content)

    return read


def _respond() -> Callable[[bytes], object]:
    """Answer a request whose first line, up to the first line end, is type number, Accept and attributes."""
    from spoter.messages import RawRequest
    from spoter.serving.recognizer import Recognizer
    from spoter.serving.service import respond
    from stress.http_fuzz import documented

    recognizer, codes = Recognizer.load(ROOT / "models" / "dgs11"), documented()

    def read(content: bytes) -> None:
        head, _, body = content.partition(b"\n")
        kind, _, rest = head.decode("latin-1").partition("|")
        accept, _, attributes = rest.partition("|")
        content_type = _TYPES[len(kind) % len(_TYPES)] if kind[:1] == " " or not kind else kind
        [response], _ = respond(recognizer, [RawRequest(body, content_type, accept or None, attributes or None)])
        check_response(response, body, codes)

    return read


def _file(name: str, reader: Callable[[], Callable[[Path], object]]) -> Callable[[], Callable[[bytes], object]]:
    def prepare() -> Callable[[bytes], object]:
        from spoter.errors import SpoterError

        read_file, folder = reader(), tempfile.TemporaryDirectory(prefix="spoter-fuzz-")

        def read(content: bytes, _folder: tempfile.TemporaryDirectory = folder) -> None:
            path = Path(_folder.name, name)
            path.write_bytes(content)
            try:
                read_file(path)
            except SpoterError as error:
                if not str(error) or "\n" in str(error) or len(str(error)) > LONGEST_LINE:
                    raise Broken(f"an error that is no line: {str(error)[:LONGEST_LINE]!r}") from error

        return read

    return prepare


def _checkpoint() -> Callable[[Path], object]:
    from spoter.model.checkpoint import read_checkpoint

    return read_checkpoint


def _graph() -> Callable[[Path], object]:
    """Load a graph and have it answer once, as `spoter.serving.recognizer.Recognizer` does before anyone asks."""
    from spoter.runtime.onnx_runtime import WEIGHTS_SHA256, OnnxRuntime

    blank = np.zeros((2, SMALL["width"]), dtype=np.float32)

    def read(path: Path) -> None:
        forward = OnnxRuntime.read(path, SMALL["width"], SMALL["classes"])
        forward.notes.get(WEIGHTS_SHA256)
        forward([blank], embed=True)

    return read


def _prototypes() -> Callable[[Path], object]:
    from spoter.fewshot.prototypes import read_prototypes

    return lambda path: read_prototypes(path, 2, 3)


def _meaning() -> Callable[[Path], object]:
    from spoter.model.folder import read_glosses

    return lambda path: read_glosses(path, 2)


def _archive() -> Callable[[Path], object]:
    from spoter.ops.archive import scan

    return scan


def _config() -> Callable[[Path], object]:
    from spoter.files import read_text
    from spoter.model.config import parse_config

    return lambda path: parse_config(read_text(path), str(path))


def _enrolled() -> Callable[[Path], object]:
    from spoter.fewshot.enrolled import read_enrolled

    return lambda path: read_enrolled(path, ("A", "B"), small_prototypes())


def _bodies(content_type: str) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        from stress.mutations import seeds as requests

        return [body for body, kind in requests("") if kind == content_type]

    return seeds


def _respond_seeds() -> list[bytes]:
    from stress.mutations import seeds as requests

    return [f"{kind}|application/json|top_k=2\n".encode() + body for body, kind in requests("")]


TARGETS = {
    target.name: target
    for target in (
        Target("json", _decoder("application/json"), _bodies("application/json")),
        Target("jsonlines", _decoder("application/jsonlines"), _bodies("application/jsonlines")),
        Target("csv", _decoder("text/csv"), _bodies("text/csv")),
        Target("npy", _decoder("application/x-npy"), _bodies("application/x-npy")),
        Target("headers", _headers, lambda: [b"top_k=3,width=640,height=480", b"text/csv;q=0.5, application/json"]),
        Target("respond", _respond, _respond_seeds),
        Target("checkpoint", _file("model.pth", _checkpoint), model_file_seeds.checkpoints),
        Target("safetensors", _file("model.safetensors", _checkpoint), model_file_seeds.safetensors),
        Target("onnx", _file("model.onnx", _graph), model_file_seeds.graphs),
        Target("prototypes", _file("prototypes.npz", _prototypes), lambda: [small_prototypes().to_bytes()]),
        Target("meaning", _file("meaning.json", _meaning), lambda: [b'{"0": "A", "1": "B"}']),
        Target("config", _file("config.json", _config), lambda: [(ROOT / "models/dgs11/config.json").read_bytes()]),
        Target("archive", _file("spoter.mar", _archive), model_file_seeds.archives),
        Target("enrolled", _file("enrolled.json", _enrolled), model_file_seeds.enrolled),
    )
}
