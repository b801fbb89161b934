"""Mutated requests, each reproducible from a seed and a number."""

import gzip
import io
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from benchmarks import ROOT
from spoter.formats.request import CSV, JSON, JSONLINES, MP4, NPY, SYNONYMS, VIDEOS
from spoter.ops.local_server import NAME
from stress.raw_http import PATH, http_request

FRAMES = 2
NUMBER = re.compile(rb"-?\d+\.?\d*(?:[eE][+-]?\d+)?")
TOKENS = [
    b"null", b"NaN", b"-Infinity", b"true", b'"', b",", b"[", b"]", b"{", b"}", b":", b"\\", b"\\ud800", b"[]", b"{}",
    b'""', b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b";", b"\t", b"_x", b"frame", b"0", b" ",
    b'"clips":', b'"points":', b'"enroll":"A",', b'"describe":true,', b'"top_k":0,', b'"width":1,', b'"layout":54,',
]  # fmt: skip
NUMBERS = [
    b"1e400", b"-1e400", b"1e-310", b"-0", b"1" * 400, b"1" * 10_000, b"0." + b"9" * 1000, b"1e30", b"640", b"0x10",
    b"00", b"1.", b".5", b"18446744073709551616", b"1e99999999", b"",
]  # fmt: skip
WORDS = [
    "", "*", "*/*", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded", "a" * 2000, "null",
    "application/json; charset=utf-16", "Application/JSON ; q=", "text/*;q=nan", "application/json,,;;==", "image/png",
    "multipart/form-data", "multipart/form-data; boundary=", "gzip", "100-continue", "chunked", "identity", "1", "True",
    JSON, CSV, NPY, JSONLINES, *VIDEOS, *SYNONYMS,
]  # fmt: skip
ATTRIBUTES = [
    "top_k=3", "top_k=0", "top_k=99999999999999999999", "top_k=-1", "width=640,height=480", "width=1e400,height=1",
    "fps=nan", "fps=0", "estimator=openpose", "estimator=", "=", "=,=", "top_k", "a=b", "top_k=3,top_k=3", ",,,",
    "\xe9=1",
]  # fmt: skip
HEADERS = (
    "Content-Type", "Accept", "X-Amzn-SageMaker-Custom-Attributes", "Content-Encoding", "describe", "explain", "body",
    "data", "Expect", "X-A", "Origin", "Range", "Authorization", "Cookie", "Accept-Charset", "Connection",
)  # fmt: skip
METHODS = ("GET", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD", "POST", "FOO", "get", "TRACE")
PATHS = (
    PATH, f"{PATH}/1.0", f"{PATH}/9.9", "/predictions/other", "/predictions", "/predictions/", "/invocations", "/ping",
    "/", "/models", "/models/spoter", f"/explanations/{NAME}", "/v1/models/spoter:predict", "/wfpredict/spoter",
    "/metrics", "/api-description", "//", "/../../etc/passwd", "/%00", "/%zz", "/predictions/%2e%2e%2f", "*",
    "/" + "a" * 3000,
)  # fmt: skip
QUERIES = (
    "data=1", "body=%7B%22describe%22%3Atrue%7D", "top_k=3", "customized=true", "a[]=1&a[]=2", "%00", "=&=&=",
    "a" * 3000, "body=%ff", "Content-Type=text%2Fcsv",
)  # fmt: skip


@dataclass(frozen=True)
class FuzzRequest:
    """A request, sent once or several times on one connection."""

    body: bytes
    content_type: str
    path: str = PATH
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()
    chunk_size: int | None = None  # bytes per chunk, for a chunked body
    length: int | None = None  # a wrong Content-Length
    copies: int = 1  # sent in sequence without waiting for answers
    mutations: tuple[str, ...] = ()  # names of the mutations of this request

    @property
    def is_complete(self) -> bool:
        """Whether each copy must get an answer."""
        return self.length is None

    def to_bytes(self) -> bytes:
        """Return the bytes to send."""
        return self.copies * http_request(
            self.body,
            (f"{name}: {value}" for name, value in self.headers),
            method=self.method,
            path=self.path,
            content_type=self.content_type,
            length=self.length,
            chunk_size=self.chunk_size,
        )


def make_request(seed: int, number: int, space: str = "") -> FuzzRequest:
    """Return a request from the sequence of `seed`; `space` of the model's prototypes goes into enrolled glosses."""
    rng = random.Random(f"{seed}:{number}")
    request = FuzzRequest(*rng.choice(seed_requests(space)))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        name = rng.choice(list(MUTATIONS))
        request = replace(request, **MUTATIONS[name](request, rng), mutations=(*request.mutations, name))
    return request


@cache
def seed_requests(space: str) -> list[tuple[bytes, str]]:
    """Return valid requests made from samples cut to `FRAMES` frames, and videos, which get 415 if not supported."""
    frames, samples = slice(8, 8 + FRAMES), ROOT / "samples"
    full, compact = (json.loads((samples / name).read_bytes()) for name in ("hallo.json", "zeigen-compact.json"))
    compact["points"] = compact["points"][frames]
    lines = [json.loads(line) for line in (samples / "ich-welt.jsonl").read_bytes().splitlines()]
    lines = [line | {"points": line["points"][frames]} for line in lines]
    stream = io.BytesIO()
    np.save(stream, np.load(samples / "software.npy")[frames])
    points = np.round(np.random.default_rng(0).uniform(0.2, 0.8, (FRAMES, 137, 3)), 3)
    parts = np.split(points, (25, 95, 116), axis=1)
    person = dict(zip(("pose", "face", "hand_left", "hand_right"), parts, strict=True))
    people = [{f"{part}_keypoints_2d": values[i].ravel().tolist() for part, values in person.items()} for i in (0, 1)]
    documents = [
        full | {"keypoints": full["keypoints"][frames]},
        compact,
        compact | {"top_k": 2, "fps": 25, "estimator": "mediapipe"},
        {"clips": [compact, compact], "top_k": 3},
        {"clips": [compact], "enroll": "GREETING"},
        compact | {"enrolled": {"space": space, "glosses": [{"gloss": "A", "clips": 1, "prototype": [0.5] * 8}]}},
        {"frames": [{"people": [people[0], people[1]]}, {"people": [people[1]]}]},
        {"describe": True},
        {"uniqueName": "videos/1.webm"},
    ]
    tables = {"deutschland.csv": 1 + 8 + FRAMES, "mainz-long.csv": 200}
    contents = [(samples / name).read_bytes().splitlines(keepends=True)[:rows] for name, rows in tables.items()]
    return [
        *((json.dumps(document, separators=(",", ":")).encode(), JSON) for document in documents),
        (b"\n".join(json.dumps(line).encode() for line in lines), JSONLINES),
        *((b"".join(rows), CSV) for rows in contents),
        (stream.getvalue(), NPY),
        (b"\0\0\0\x18ftypmp42", MP4),
    ]


Changes = dict[str, Any]  # changed fields of a request


def _change_body(change: Callable[[bytes, random.Random], bytes]) -> Callable[[FuzzRequest, random.Random], Changes]:
    return lambda request, rng: {"body": change(request.body, rng)}


def _flip(body: bytes, rng: random.Random) -> bytes:
    changed = bytearray(body)
    for _ in range(rng.randint(1, 16) if body else 0):
        changed[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _replace(body: bytes, rng: random.Random, new: bytes, length: int) -> bytes:
    """Replace `length` bytes at a random position."""
    start = rng.randint(0, len(body))
    return body[:start] + new + body[start + length :]


def _repeat(body: bytes, rng: random.Random) -> bytes:
    start = rng.randint(0, len(body))
    return body[:start] + body[start : start + rng.choice((1, 10, 200))] * rng.choice((2, 10, 500)) + body[start:]


def _replace_number(body: bytes, rng: random.Random, new: bytes) -> bytes:
    start, end = rng.choice([match.span() for match in NUMBER.finditer(body)] or [(0, 0)])
    return body[:start] + new + body[end:]


def _nest(body: bytes, rng: random.Random) -> bytes:
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
    depth = rng.choice((1, 2, 50, 2000, 20_000))
    return _replace_number(body, rng, opening * depth + b"0" + closing * rng.choice((depth, 0)))


def _splice(body: bytes, rng: random.Random) -> bytes:
    other = rng.choice(seed_requests(""))[0]
    return _replace(body, rng, other[rng.randint(0, len(other)) :], len(body))


def _encode(request: FuzzRequest, rng: random.Random) -> Changes:
    name = rng.choice(("utf-16", "utf-32", "latin-1", "utf-8-sig", "utf-7", "gzip", "undeclared gzip"))
    if "gzip" not in name:
        return {"body": request.body.decode("latin-1").encode(name)}
    headers = (("Content-Encoding", "gzip"),) if name == "gzip" else ()
    return {"body": gzip.compress(request.body, mtime=0), "headers": request.headers + headers}


def _header(request: FuzzRequest, rng: random.Random) -> Changes:
    name = rng.choice(HEADERS)
    value = rng.choice(ATTRIBUTES if "Attributes" in name and rng.random() < 0.9 else WORDS)
    return {"headers": (*request.headers, (name, value))}


def _form(request: FuzzRequest, rng: random.Random) -> Changes:
    field, boundary = rng.choice(("body", "data", "file", "")), "x" * rng.choice((1, 70))
    name = f'name="{field}"' + rng.choice(("", '; filename="a.json"'))
    head = f"--{boundary}\r\nContent-Disposition: form-data; {name}\r\nContent-Type: {request.content_type}\r\n\r\n"
    body = head.encode("latin-1", "replace") + request.body + f"\r\n--{boundary}{rng.choice(('--', ''))}\r\n".encode()
    return {"body": body, "content_type": f"multipart/form-data; boundary={boundary}"}


MUTATIONS: dict[str, Callable[[FuzzRequest, random.Random], Changes]] = {
    "flip": _change_body(_flip),
    "cut": _change_body(lambda body, rng: _replace(body, rng, b"", rng.choice((9, len(body))))),
    "repeat": _change_body(_repeat),
    "token": _change_body(lambda body, rng: _replace(body, rng, rng.choice(TOKENS), rng.randint(0, 12))),
    "number": _change_body(lambda body, rng: _replace_number(body, rng, rng.choice(NUMBERS))),
    "nest": _change_body(_nest),
    "splice": _change_body(_splice),
    "encode": _encode,
    "content_type": lambda request, rng: {"content_type": rng.choice(WORDS)},
    "header": _header,
    "many_headers": lambda request, rng: {
        "headers": request.headers + tuple((f"X-{i}", rng.choice(WORDS)) for i in range(rng.choice((5, 50, 300))))
    },
    "path": lambda request, rng: {"path": rng.choice(PATHS)},
    "query": lambda request, rng: {"path": f"{request.path}?{rng.choice(QUERIES)}"},
    "method": lambda request, rng: {"method": rng.choice(METHODS)},
    "chunked": lambda request, rng: {"chunk_size": rng.choice((7, 100, 5000)), "length": None},
    "pipelined": lambda request, rng: {"copies": rng.choice((2, 3))},
    "wrong_length": lambda request, rng: {
        "length": rng.choice((0, 1, len(request.body) + 1, len(request.body) // 2, 10**9, 10**20, -1))
        if request.chunk_size is None
        else None
    },
    "form": _form,
}
"""Functions that return the changed fields of a request, by the names of the mutations."""
