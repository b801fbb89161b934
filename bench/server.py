"""The whole request through a real TorchServe on loopback, beside the same request in this process."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from bench.bodies import compact, full_holistic
from bench.timing import Timing, in_turn
from handler.process import free_port
from spoter.recognizer import Recognizer
from spoter.service import Incoming, respond

ROOT = Path(__file__).resolve().parent.parent
PATH = "/predictions/spoter"
HEADERS = {"Content-Type": "application/json"}


@contextmanager
def served(model: Path) -> Iterator[int]:
    """Run serve.py on free ports, with one worker; yield the port of predictions."""
    ports = [free_port() for _ in range(3)]
    with tempfile.TemporaryDirectory(prefix="spoter-bench-") as folder:
        command = [sys.executable, str(ROOT / "serve.py"), "--model", str(model), "--workers", "1"]
        command += ["--model-store", folder, "--logs", folder]
        for option, port in zip(("--port", "--management-port", "--metrics-port"), ports, strict=True):
            command += [option, str(port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
        try:
            for line in process.stdout:
                if line.startswith("Ctrl-C"):
                    break
            else:
                raise SystemExit(f"serve.py ended with status {process.wait()}")
            yield ports[0]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()


def measure(model: Path, seconds: float) -> list[Timing]:
    """Time one client's requests over a kept connection, in turn with the same work in process."""
    torch.set_num_threads(1)
    recognizer = Recognizer.load(model)
    bodies = {"full": full_holistic(), "compact": compact(recognizer.layout)}
    with served(model) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

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
