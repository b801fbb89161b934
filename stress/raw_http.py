"""HTTP over a plain socket, for requests that no client library would send."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

from spoter.ops.local_server import NAME
from spoter.ops.ports import LOOPBACK

PATH = f"/predictions/{NAME}"
_LENGTH = re.compile(rb"^content-length:\s*(\d+)", re.IGNORECASE | re.MULTILINE)
_TYPE = re.compile(rb"^content-type:\s*([^\s;]+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class HttpAnswer:
    """A whole answer."""

    status: int
    content_type: str
    body: bytes

    @property
    def code(self) -> str:
        """Our error's code, or the name of TorchServe's; empty for an answer that is no error."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return ""
        if not isinstance(document, dict):
            return ""
        return document["error"]["code"] if "error" in document else document.get("type", "")


@dataclass(frozen=True)
class Exchange:
    """The answers on a connection."""

    answers: list[HttpAnswer]
    end: str
    """``answered``: all expected answers came; ``closed`` or ``reset`` by the server before that; ``silent``: nothing
    more came in time."""
    seconds: float

    @property
    def final(self) -> list[HttpAnswer]:
        """The answers without those of status 100."""
        return [answer for answer in self.answers if answer.status >= 200]

    @property
    def summary(self) -> str:
        """The first final answer, "413 body_too_large", or how the connection ended."""
        return f"{self.final[0].status} {self.final[0].code}".strip() if self.final else self.end


def http_request(
    body: bytes,
    headers: Iterable[str] = (),
    *,
    method: str = "POST",
    path: str = PATH,
    version: str = "1.1",
    content_type: str = "application/json",
    length: object = None,
    chunk_size: int | None = None,
) -> bytes:
    """Return a request; `length` replaces the true Content-Length, `chunk_size` makes chunks of the body."""
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    if chunk_size is None:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    else:
        lines.append("Transfer-Encoding: chunked")
        chunks = [body[start : start + chunk_size] for start in range(0, len(body), chunk_size)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    return "\r\n".join([*lines, *headers]).encode("latin-1", "replace") + b"\r\n\r\n" + body


def connect(port: int, seconds: float = 30.0) -> socket.socket:
    """Return a connection to a port of loopback, with a time limit for each of its calls."""
    return socket.create_connection((LOOPBACK, port), timeout=seconds)


def exchange(
    port: int, data: bytes, wait: float = 30.0, answers: int = 1, half_close: bool = False, head: bool = False
) -> Exchange:
    """Send bytes on a new connection and read as many final answers as expected.

    After `wait` seconds without a byte the server counts as silent. With `half_close` our side of the connection is
    closed after the last byte; with `head` answers come without a body, as those to HEAD.
    """
    began, received, end = time.monotonic(), b"", "answered"
    with connect(port) as connection:
        try:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            end = "reset"  # while we sent; an answer may be there all the same
        connection.settimeout(wait)
        while sum(answer.status >= 200 for answer in _parse_answers(received, head)) < answers:
            try:
                content = connection.recv(1 << 16)
            except TimeoutError:
                end = "silent"
                break
            except OSError:
                end = "reset"
                break
            if not content:
                end = "closed"
                break
            received += content
    return Exchange(_parse_answers(received, head), end, time.monotonic() - began)


def _parse_answers(received: bytes, head: bool) -> list[HttpAnswer]:
    """Return the whole answers at the start of the bytes; TorchServe always sends their length."""
    answers = []
    while (stop := received.find(b"\r\n\r\n")) >= 0:
        header, rest = received[:stop], received[stop + 4 :]
        length, content_type = _LENGTH.search(header), _TYPE.search(header)
        size = int(length[1]) if length and not head else 0
        if len(rest) < size:
            break
        kind = content_type[1].decode("latin-1") if content_type else ""
        answers.append(HttpAnswer(int(header.split()[1]), kind, rest[:size]))
        received = rest[size:]
    return answers
