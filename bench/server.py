"""The whole request through a real TorchServe on loopback, beside the same request in this process."""

from __future__ import annotations

import http.client
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from bench.bodies import compact, full_holistic
from bench.timing import Timing, in_turn
from build_mar import build
from handler.process import LOOPBACK, NAME, Server, free_port
from spoter.doctor import find_java
from spoter.recognizer import Recognizer
from spoter.service import Incoming, respond

PATH = f"/predictions/{NAME}"
HEADERS = {"Content-Type": "application/json"}


@contextmanager
def served(model: Path) -> Iterator[int]:
    """Run TorchServe on free ports, with one worker; yield the port of predictions."""
    java = find_java()
    if java is None:
        raise SystemExit("found no Java to run TorchServe with: spoter doctor tells more")
    ports = (free_port(), free_port(), free_port())
    with tempfile.TemporaryDirectory(prefix="spoter-bench-") as logs:
        server = Server(LOOPBACK, ports, 1, False, Path(logs), java.environment(os.environ))
        try:
            build(model, NAME, None, server.store)
            server.start()
            server.wait_ready()
            yield ports[0]
        finally:
            server.stop()


def measure(model: Path, seconds: float) -> list[Timing]:
    """Time one client's requests over a kept connection, in turn with the same work in process."""
    torch.set_num_threads(1)
    recognizer = Recognizer.load(model)
    bodies = {"full": full_holistic(), "compact": compact(recognizer.layout)}
    with served(model) as port:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)

        def post(body: bytes) -> Callable[[], object]:
            def run() -> bytes:
                connection.request("POST", PATH, body, HEADERS)
                response = connection.getresponse()
                content = response.read()
                if response.status != 200:
                    raise SystemExit(f"the server answered {response.status}: {content[:500].decode()}")
                return content

            return run

        def alone(body: bytes) -> Callable[[], object]:
            return lambda: respond(recognizer, [Incoming(body, "application/json")])

        things = {}
        for name, body in bodies.items():
            things[f"in process, {name}"] = alone(body)
            things[f"through the server, {name}"] = post(body)
        return in_turn(things, seconds, "through the server")
