"""A double of a server, over real HTTP: it answers what a test tells it to, for what TorchServe cannot be made to do
at will: be busy and then not, answer late, in the middle, or nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.listening import listening

ANSWER = {
    "instances": [{"gloss": "HALLO", "score": 0.9, "index": 4}],
    "known": True,
    "frames": 3,
    "model": {"name": "m", "version": "1"},
}
LATE = "late"
"""An answer that does not come before the test is over."""


@dataclass
class Double:
    """What it has been asked, and what it says next; the last answer is given again and again.

    Attributes
    ----------
    answers : list
        Each a status, a body (JSON unless bytes) and headers; or `LATE`.
    asked : list of Request
        With `bodies`, one for each.
    most : int
        The most requests that were waiting for their answers at one time.
    """

    url: str = ""
    answers: list = field(default_factory=lambda: [(200, ANSWER, {})])
    asked: list[Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    most: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    _waiting: int = 0

    def reset(self) -> None:
        """Forget what was asked, and answer well."""
        fresh = Double(self.url)
        for name in ("answers", "asked", "bodies", "most", "over"):
            setattr(self, name, getattr(fresh, name))

    async def answer(self, request: Request) -> Response:
        self._waiting += 1
        self.most = max(self.most, self._waiting)
        body = await request.body()
        self.asked.append(request)
        self.bodies.append(body)
        await asyncio.sleep(0.01)  # so that those which come together are seen together
        said = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if callable(said):
            said = said(json.loads(body))
        if said == LATE:
            over = self.over
            while not over.is_set():
                await asyncio.sleep(0.01)
            said = (200, ANSWER, {})
        self._waiting -= 1
        status, content, headers = said
        if not isinstance(content, bytes):
            content, headers = json.dumps(content).encode(), {"Content-Type": "application/json"} | headers
        return Response(content, status, headers)


@contextlib.contextmanager
def serving() -> Iterator[Double]:
    """Serve a double on a free port of loopback."""
    double = Double()
    app = Starlette(routes=[Route("/{path:path}", double.answer, methods=["GET", "POST"])])
    with listening(app) as double.url:
        try:
            yield double
        finally:
            double.over.set()


@contextlib.contextmanager
def hanging_up(times: int, then: bytes) -> Iterator[str]:
    """Serve on loopback what breaks `times` connections off without an answer, and answers `then` from then on."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for number in range(times + 1):
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 20)
                if number == times:
                    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(then)}\r\n\r\n"
                    connection.sendall(head.encode() + then)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.close()
        thread.join(1)
