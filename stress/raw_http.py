"""HTTP spoken by hand over a socket, where no client library would say what an attack has to say."""

from __future__ import annotations

import json
import re
import socket
import time
from dataclasses import dataclass

from spoter.ops.local_server import NAME
from spoter.ops.ports import LOOPBACK

PATH = f"/predictions/{NAME}"
LENGTH = re.compile(rb"^content-length:\s*(\d+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Said:
    """What came back on a connection.

    Attributes
    ----------
    answers : list of (int, bytes)
        Status and body of each whole answer.
    end : str
        ``answered``: as many as were waited for; ``closed`` or ``reset`` by the server before that; ``silent``:
        nothing more came in the time given.
    seconds : float
    """

    answers: list[tuple[int, bytes]]
    end: str
    seconds: float

    @property
    def words(self) -> str:
        """The first final answer in words, "413 body_too_large", or how the connection ended."""
        final = [(status, body) for status, body in self.answers if status >= 200]
        if not final:
            return self.end
        status, body = final[0]
        return f"{status} {_code(body)}".strip()


def _code(body: bytes) -> str:
    """Return our error's code, or the name of TorchServe's; nothing of an answer that is none."""
    try:
        document = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(document, dict):
        return ""
    return document["error"]["code"] if "error" in document else document.get("type", "")


def post(body: bytes, *headers: str, length: object = None, version: str = "1.1") -> bytes:
    """Return a request for a prediction; `length` is what is said of its body, the truth unless given."""
    lines = [f"POST {PATH} HTTP/{version}", "Host: localhost", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(body: bytes, size: int) -> bytes:
    """Return a request whose body comes in chunks of `size` bytes."""
    lines = [f"POST {PATH} HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Transfer-Encoding: chunked"]
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + chunks + b"0\r\n\r\n"


def dial(port: int, seconds: float = 30.0) -> socket.socket:
    return socket.create_connection((LOOPBACK, port), timeout=seconds)


def exchange(port: int, data: bytes, wait: float = 30.0, answers: int = 1, half: bool = False) -> Said:
    """Send bytes on a connection of their own and read what comes back.

    Parameters
    ----------
    port : int
    data : bytes
    wait : float
        Seconds without a byte after which the server counts as silent.
    answers : int
        How many final answers are waited for.
    half : bool
        Whether our side of the connection is closed after the last byte.
    """
    began, heard, end = time.monotonic(), b"", "answered"
    with dial(port, wait) as connection:
        try:
            connection.sendall(data)
            if half:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            end = "reset"  # while we sent; an answer may wait for us all the same
        while sum(status >= 200 for status, _ in _parsed(heard)) < answers:
            try:
                piece = connection.recv(1 << 16)
            except TimeoutError:
                end = "silent"
                break
            except OSError:
                end = "reset"
                break
            if not piece:
                end = "closed"
                break
            heard += piece
    return Said(_parsed(heard), end, time.monotonic() - began)


def _parsed(heard: bytes) -> list[tuple[int, bytes]]:
    """Take whole answers off what was heard; TorchServe always tells their length."""
    found = []
    while (stop := heard.find(b"\r\n\r\n")) >= 0:
        head, rest = heard[:stop], heard[stop + 4 :]
        status, told = int(head.split()[1]), LENGTH.search(head)
        size = int(told[1]) if told else 0
        if len(rest) < size:
            break
        found.append((status, rest[:size]))
        heard = rest[size:]
    return found
