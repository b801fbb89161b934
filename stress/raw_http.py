"""HTTP over a plain socket, for requests that client libraries do not send, and checks of the answers."""

import csv
import io
import json
import re
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

from spoter.error_codes import ErrorCode, Source
from spoter.ops.local_server import NAME
from spoter.ops.ports import LOOPBACK

PATH = f"/predictions/{NAME}"
_LENGTH = re.compile(rb"^content-length:\s*(\d+)", re.IGNORECASE | re.MULTILINE)
_TYPE = re.compile(rb"^content-type:\s*([^\s;]+)", re.IGNORECASE | re.MULTILINE)
# Errors of TorchServe that do not come from a worker: the request is not HTTP, or not for TorchServe's API. Status 500
# is a Java exception while it parses a form or a content type; TorchServe continues to work.
TORCHSERVE_ERRORS = {
    400: ("BadRequestException", "InvalidPropertiesException"),
    403: ("IllegalArgumentException",),
    404: tuple(f"{kind}NotFoundException" for kind in ("Model", "ModelVersion", "Resource", "Workflow")),
    405: ("MethodNotAllowedException",),
    413: ("RequestEntityTooLargeException",),
    500: tuple(f"{kind}Exception" for kind in ("ArrayIndexOutOfBounds", "ErrorDataDecoder", "StringIndexOutOfBounds")),
    503: ("ServiceUnavailableException",),
}
EMPTY = {413, 417}  # Netty's answers without a body: more than max_request_size, and an unknown value of Expect
CONTENT_TYPES = ("application/json", "application/jsonlines", "text/csv")
DOCUMENTED = {code.value: code.status for code in ErrorCode if code.source is Source.SERVER}
"""Statuses of the model server's errors, by code."""


@dataclass(frozen=True)
class HttpAnswer:
    """A complete answer."""

    status: int
    content_type: str
    body: bytes

    @property
    def code(self) -> str:
        """The code of our error or the name of TorchServe's error; empty for other answers."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return ""
        error = document if isinstance(document, dict) else {}
        return error["error"]["code"] if "error" in error else error.get("type", "")


@dataclass(frozen=True)
class Exchange:
    """The answers on a connection, without answers with status 100."""

    answers: list[HttpAnswer]
    end: str
    """``answered``: all expected answers came; ``closed`` or ``reset``: the server ended the connection before that;
    ``silent``: the server stopped sending."""
    seconds: float

    @property
    def summary(self) -> str:
        """The first answer, such as "413 body_too_large", or `end` without any answer."""
        return f"{self.answers[0].status} {self.answers[0].code}".strip() if self.answers else self.end


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
    """Return the bytes of a request; `length` replaces the Content-Length, `chunk_size` splits the body into chunks."""
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
    """Return a connection to a loopback port, with a timeout for each call."""
    return socket.create_connection((LOOPBACK, port), timeout=seconds)


def exchange(
    port: int, data: bytes, wait: float = 30.0, answers: int = 1, half_close: bool = False, head: bool = False
) -> Exchange:
    """Send bytes on a new connection and read the given number of answers.

    After `wait` seconds without a byte the server counts as silent. With `half_close`, the client closes its side of
    the connection after the last byte. With `head`, answers have no body, as for the method HEAD.
    """
    began, received, end = time.monotonic(), b"", "answered"
    with connect(port) as connection:
        try:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            end = "reset"  # while sending; the server may still have answered
        connection.settimeout(wait)
        while len(_parse_answers(received, head)) < answers:
            try:
                content = connection.recv(1 << 16)
            except OSError as error:
                end = "silent" if isinstance(error, TimeoutError) else "reset"
                break
            if not content:
                end = "closed"
                break
            received += content
    return Exchange(_parse_answers(received, head), end, time.monotonic() - began)


def _parse_answers(received: bytes, head: bool) -> list[HttpAnswer]:
    """Return the complete answers, except those with status 100; TorchServe always sends a Content-Length."""
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
    return [answer for answer in answers if answer.status >= 200]


def judge(answer: HttpAnswer) -> tuple[str, str | None]:
    """Return a name for an answer (its source and error), and a problem or None."""
    status, content_type, body = answer.status, answer.content_type, answer.body
    if status in EMPTY and not body:
        return "TorchServe: no body", None
    try:
        document = json.loads(body) if content_type == "application/json" and body else {}
        codes = _error_codes(content_type, body, document)
    except ValueError as error:
        return "invalid body", f"invalid {content_type}: {error}"
    if status == 200:
        return "answered", None if content_type in CONTENT_TYPES or not body else f"unexpected type {content_type}"
    if codes:
        unknown = [code for code in codes if code not in DOCUMENTED]
        if unknown or DOCUMENTED[codes[0]] != status:
            return f"ours: {codes[0]}", f"docs/errors.md lacks {unknown or codes[0]} with status {status}"
        return f"ours: {codes[0]}", f"our code answered {status}" if status >= 500 else None
    kind = document.get("type") if isinstance(document, dict) else None
    if kind is None:
        return "unknown", f"{content_type} {body[:200]!r}"
    is_known = kind in TORCHSERVE_ERRORS.get(status, ())
    return f"TorchServe: {kind}", None if is_known else f"{document.get('message')!r:.200}"


def _error_codes(content_type: str, body: bytes, document: object) -> list[str]:
    """Return the codes of our errors in a body, in order; raise `ValueError` for a body of another type."""
    if content_type == "text/csv":
        header, *rows = csv.reader(io.StringIO(body.decode()))
        if any(len(row) != len(header) for row in rows):
            raise ValueError("found rows of different lengths")
        return [row[-1].partition(":")[0] for row in rows if row[-1]]
    documents = [document]
    if content_type == "application/jsonlines":
        documents = [json.loads(line) for line in body.splitlines()]
    elif isinstance(document, dict) and isinstance(document.get("answers"), list):
        documents = document["answers"]
    errors = [item["error"] for item in documents if isinstance(item, dict) and isinstance(item.get("error"), dict)]
    return [error.get("code", "") for error in errors]
