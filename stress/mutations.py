"""Requests that nobody would send, made of such as people send: drawn by a number, so that each can be made again."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from spoter.formats.request import CSV, JSON, JSONLINES, MP4, NPY, SYNONYMS, VIDEOS
from spoter.ops.local_server import NAME
from stress import ROOT

PATH = f"/predictions/{NAME}"
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
class Attack:
    """A request, or several on one connection.

    Attributes
    ----------
    path, method, headers, body
        Of HTTP.
    chunks : int or None
        Bytes of each chunk where the body comes in chunks.
    length : int or None
        What is said of the body's length where that is not the truth.
    copies : int
        How often it is sent without waiting for an answer.
    changes : tuple of str
        What was done to it, in words.
    """

    body: bytes
    content_type: str
    path: str = PATH
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()
    chunks: int | None = None
    length: int | None = None
    copies: int = 1
    changes: tuple[str, ...] = field(default=())

    @property
    def whole(self) -> bool:
        """Whether it is all there, so that an answer to each copy has to come."""
        return self.length is None

    def bytes(self) -> bytes:
        """Return what is written to the connection."""
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: localhost"]
        if self.content_type:
            lines.append(f"Content-Type: {self.content_type}")
        body = self.body
        if self.chunks is None:
            lines.append(f"Content-Length: {len(body) if self.length is None else self.length}")
        else:
            lines.append("Transfer-Encoding: chunked")
            pieces = [body[i : i + self.chunks] for i in range(0, len(body), self.chunks)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        lines += [f"{name}: {value}" for name, value in self.headers]
        return ("\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body) * self.copies


def attack(seed: int, number: int, space: str = "") -> Attack:
    """Return the request of this number in the row that `seed` begins.

    Parameters
    ----------
    seed, number : int
    space : str
        Of the model's prototypes (`Prototypes.space`), so that enrolled glosses get past the first check.
    """
    rng = random.Random(f"{seed}:{number}")
    body, content_type = rng.choice(seeds(space))
    made = Attack(body, content_type)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        change = rng.choice(CHANGES)
        made = replace(change(made, rng), changes=(*made.changes, change.__name__.strip("_")))
    return made


@cache
def seeds(space: str) -> list[tuple[bytes, str]]:
    """Return requests that are answered 200, or 415 where no videos are read: samples, cut to a few frames."""
    samples = ROOT / "samples"
    full = json.loads((samples / "hallo.json").read_bytes())
    compact = json.loads((samples / "zeigen-compact.json").read_bytes())
    compact["points"] = compact["points"][8 : 8 + FRAMES]
    lines = [json.loads(line) for line in (samples / "ich-welt.jsonl").read_bytes().splitlines()]
    lines = [line | {"points": line["points"][8 : 8 + FRAMES]} for line in lines]
    stream = io.BytesIO()
    np.save(stream, np.load(samples / "software.npy")[8 : 8 + FRAMES])
    points = np.round(np.random.default_rng(0).uniform(0.2, 0.8, (FRAMES, 137, 3)), 3)
    person = dict(
        zip(("pose", "face", "hand_left", "hand_right"), np.split(points, (25, 95, 116), axis=1), strict=True)
    )
    people = [{f"{part}_keypoints_2d": values[i].ravel().tolist() for part, values in person.items()} for i in (0, 1)]
    key = next(name for name in ("keypoints", "frames") if name in full)
    documents = [
        full | {key: full[key][8 : 8 + FRAMES]},
        compact,
        compact | {"top_k": 2, "fps": 25, "estimator": "mediapipe"},
        {"clips": [compact, compact], "top_k": 3},
        {"clips": [compact], "enroll": "GREETING"},
        compact | {"enrolled": {"space": space, "glosses": [{"gloss": "A", "clips": 1, "prototype": [0.5] * 8}]}},
        {"frames": [{"people": [people[0], people[1]]}, {"people": [people[1]]}]},
        {"describe": True},
        {"uniqueName": "videos/1.webm"},
    ]
    wide = b"".join((samples / "deutschland.csv").read_bytes().splitlines(keepends=True)[: 1 + 8 + FRAMES])
    long = b"".join((samples / "mainz-long.csv").read_bytes().splitlines(keepends=True)[:200])
    return [
        *((json.dumps(document, separators=(",", ":")).encode(), JSON) for document in documents),
        (b"\n".join(json.dumps(line).encode() for line in lines), JSONLINES),
        (wide, CSV),
        (long, CSV),
        (stream.getvalue(), NPY),
        (b"\0\0\0\x18ftypmp42", MP4),
    ]


def _flip(made: Attack, rng: random.Random) -> Attack:
    body = bytearray(made.body)
    for _ in range(rng.randint(1, 8) if body else 0):
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    return replace(made, body=bytes(body))


def _cut(made: Attack, rng: random.Random) -> Attack:
    start = rng.randint(0, len(made.body))
    return replace(made, body=made.body[:start] + made.body[rng.choice((start, len(made.body), start + 9)) :])


def _truncate(made: Attack, rng: random.Random) -> Attack:
    return replace(made, body=made.body[: rng.randint(0, len(made.body))])


def _repeat(made: Attack, rng: random.Random) -> Attack:
    start = rng.randint(0, len(made.body))
    piece = made.body[start : start + rng.choice((1, 10, 200))]
    return replace(made, body=made.body[:start] + piece * rng.choice((2, 10, 500)) + made.body[start:])


def _token(made: Attack, rng: random.Random) -> Attack:
    start = rng.randint(0, len(made.body))
    return replace(made, body=made.body[:start] + rng.choice(TOKENS) + made.body[start + rng.randint(0, 12) :])


def _number(made: Attack, rng: random.Random) -> Attack:
    found = [match.span() for match in NUMBER.finditer(made.body)]
    start, end = rng.choice(found) if found else (0, 0)
    return replace(made, body=made.body[:start] + rng.choice(NUMBERS) + made.body[end:])


def _nest(made: Attack, rng: random.Random) -> Attack:
    found = [match.span() for match in NUMBER.finditer(made.body)]
    start, end = rng.choice(found) if found else (0, 0)
    opened, closed = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
    depth = rng.choice((1, 2, 50, 2000, 20_000))
    nested = opened * depth + b"0" + closed * rng.choice((depth, 0))
    return replace(made, body=made.body[:start] + nested + made.body[end:])


def _splice(made: Attack, rng: random.Random) -> Attack:
    other = rng.choice(seeds(""))[0]
    return replace(made, body=made.body[: rng.randint(0, len(made.body))] + other[rng.randint(0, len(other)) :])


def _encode(made: Attack, rng: random.Random) -> Attack:
    name = rng.choice(("utf-16", "utf-32", "latin-1", "utf-8-sig", "utf-7", "gzip", "gzip, undeclared"))
    if name.startswith("gzip"):
        headers = () if "," in name else (("Content-Encoding", "gzip"),)
        return replace(made, body=gzip.compress(made.body, mtime=0), headers=made.headers + headers)
    return replace(made, body=made.body.decode("latin-1").encode(name))


def _type(made: Attack, rng: random.Random) -> Attack:
    return replace(made, content_type=rng.choice(WORDS))


def _header(made: Attack, rng: random.Random) -> Attack:
    name = rng.choice(HEADERS)
    value = rng.choice(ATTRIBUTES if "Attributes" in name and rng.random() < 0.9 else WORDS)
    return replace(made, headers=(*made.headers, (name, value)))


def _many_headers(made: Attack, rng: random.Random) -> Attack:
    several = tuple((f"X-{i}", rng.choice(WORDS)) for i in range(rng.choice((5, 50, 300))))
    return replace(made, headers=made.headers + several)


def _way(made: Attack, rng: random.Random) -> Attack:
    return replace(made, path=rng.choice(PATHS))


def _query(made: Attack, rng: random.Random) -> Attack:
    return replace(made, path=f"{made.path}?{rng.choice(QUERIES)}")


def _method(made: Attack, rng: random.Random) -> Attack:
    return replace(made, method=rng.choice(METHODS))


def _chunked(made: Attack, rng: random.Random) -> Attack:
    return replace(made, chunks=rng.choice((7, 100, 5000)), length=None)


def _pipelined(made: Attack, rng: random.Random) -> Attack:
    return replace(made, copies=rng.choice((2, 3)))


def _wrong_length(made: Attack, rng: random.Random) -> Attack:
    if made.chunks is not None:
        return made
    return replace(made, length=rng.choice((0, 1, len(made.body) + 1, len(made.body) // 2, 10**9, 10**20, -1)))


def _form(made: Attack, rng: random.Random) -> Attack:
    field, mark = rng.choice(("body", "data", "file", "")), "x" * rng.choice((1, 70))
    name = f'name="{field}"' + rng.choice(("", '; filename="a.json"'))
    head = f"--{mark}\r\nContent-Disposition: form-data; {name}\r\nContent-Type: {made.content_type}\r\n\r\n"
    body = head.encode("latin-1", "replace") + made.body + f"\r\n--{mark}{rng.choice(('--', ''))}\r\n".encode()
    return replace(made, body=body, content_type=f"multipart/form-data; boundary={mark}")


CHANGES: tuple[Callable[[Attack, random.Random], Attack], ...] = (
    _flip, _flip, _cut, _truncate, _repeat, _token, _token, _token, _number, _number, _nest, _splice, _encode, _type,
    _header, _header, _many_headers, _way, _query, _method, _chunked, _pipelined, _wrong_length, _form,
)  # fmt: skip
