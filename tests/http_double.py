"""A double of a server, over real HTTP, with the answers that a test sets.

TorchServe cannot be made to do the same at will: be busy for a while, answer late or not at all, or answer nonsense.
"""

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
"""Stands for an answer that arrives only after the test."""


@dataclass
class Double:
    """The requests that the double received, and its next answers; the last answer is repeated.

    Attributes
    ----------
    answers : list
        Each a status, a body (JSON unless bytes) and headers; a function of the request that returns these; or `LATE`.
    requests : list of Request
        The requests received; `bodies` holds their bodies.
    max_waiting : int
        The largest number of requests that waited for their answers at the same time.
    """

    url: str = ""
    answers: list = field(default_factory=lambda: [(200, ANSWER, {})])
    requests: list[Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    max_waiting: int = 0
    finished: threading.Event = field(default_factory=threading.Event)
    _waiting: int = 0

    def reset(self) -> None:
        """Forget the requests, and answer with success."""
        fresh = Double(self.url)
        for name in ("answers", "requests", "bodies", "max_waiting", "finished"):
            setattr(self, name, getattr(fresh, name))

    async def answer(self, request: Request) -> Response:
        self._waiting += 1
        self.max_waiting = max(self.max_waiting, self._waiting)
        body = await request.body()
        self.requests.append(request)
        self.bodies.append(body)
        await asyncio.sleep(0.01)  # so that simultaneous requests overlap
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if callable(answer):
            answer = answer(json.loads(body))
        if answer == LATE:
            finished = self.finished
            while not finished.is_set():
                await asyncio.sleep(0.01)
            answer = (200, ANSWER, {})
        self._waiting -= 1
        status, content, headers = answer
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
            double.finished.set()


@contextlib.contextmanager
def dropping_connections(times: int, then: bytes) -> Iterator[str]:
    """Serve on loopback: drop `times` connections without an answer, then answer with `then`."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for number in range(times + 1):
            try:
                connection, _ = server.accept()
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
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.close()
        thread.join(1)
