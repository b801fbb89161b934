"""The servers to compare; each starts by its name as in production, on loopback."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.load.bodies import compact_request, full_request
from benchmarks.peers.environment import find_environment
from benchmarks.peers.shared import LOADED, MODEL, PATH, PORT, RUNTIME, WORKERS
from benchmarks.serving.server import running_server
from spoter.ops import readiness
from spoter.ops.ports import LOOPBACK, free_port
from spoter.processes import end_process_tree, process_tree
from spoter.torchserve.process import START_TIMEOUT, StartError
from spoter.torchserve.server import TorchServe

OURS, ORIGINAL = "spoter", "original"
NAMES = {
    OURS: "TorchServe, our handler",
    "fastapi": "FastAPI, thread pool",
    "fastapi-loop": "FastAPI, event loop",
    "litserve": "LitServe",
    "bentoml": "BentoML",
    ORIGINAL: "TorchServe, the original's handler",
}
"""Descriptions of the servers by their names in `--servers`."""

_UVICORN = "--host {host} --port {port} --workers {workers} --loop uvloop --http httptools --no-access-log"
_COMMANDS = {
    "fastapi": f"uvicorn --factory benchmarks.peers.fastapi_app:create {_UVICORN} --log-level warning",
    "fastapi-loop": f"uvicorn --factory benchmarks.peers.fastapi_app:create_on_loop {_UVICORN} --log-level warning",
    "litserve": "benchmarks.peers.litserve_app",
    "bentoml": "bentoml serve benchmarks.peers.bentoml_app:Peer --host {host} --port {port}",
}
"""Arguments of `python -m` by the names of servers."""
# Modules for the archive of the original's handler.
_ORIGINAL_MODULES = ("__init__.py", "baseline/__init__.py", "baseline/layers.py", "baseline/pipeline.py")


@dataclass(frozen=True)
class PeerServer:
    """A running server in the session of `leader`."""

    name: str
    url: str
    leader: subprocess.Popen[Any]

    def pause(self) -> None:
        """Stop the processes: some servers always poll for work, which slows the server under load."""
        for process in process_tree(self.leader):
            process.suspend()

    def resume(self) -> None:
        """Resume the processes, workers before the processes that watch them."""
        for process in reversed(process_tree(self.leader)):
            process.resume()


@contextmanager
def running_peer(name: str, model: Path, runtime: str, workers: int) -> Iterator[PeerServer]:
    """Run a server of `NAMES`, with `workers` processes that compute, until the block ends.

    The original's handler always uses torch. Raises `StartError` with the last lines of the server's output, and
    `SpoterError` if the environment of the other servers is missing.
    """
    start = _torchserve if name in (OURS, ORIGINAL) else _peer
    with start(name, model, runtime, workers) as server:
        try:
            yield server
        finally:
            server.resume()  # stopped processes do not react to SIGTERM


@contextmanager
def _torchserve(name: str, model: Path, runtime: str, workers: int) -> Iterator[PeerServer]:
    options: dict[str, Any] = {"runtime": runtime}
    if name == ORIGINAL:
        benchmarks = ROOT / "benchmarks"
        files = {f"benchmarks/{module}": (benchmarks / module).read_bytes() for module in _ORIGINAL_MODULES}
        files["spoter_handler.py"] = (benchmarks / "baseline" / "handler.py").read_bytes()
        # The original's container handled one request at a time.
        options = {"runtime": "torch", "archive": {"batchSize": 1}, "files": files}

    def wait(server: TorchServe) -> None:
        all_loaded = partial(readiness.workers, server.management, server.model)
        _wait(server.leader, server.url, full_request(), lambda: all_loaded().ok, server.logs / "model_log.log")

    with running_server(model, workers, wait=wait, **options) as server:
        yield PeerServer(name, server.url, server.leader)


@contextmanager
def _peer(name: str, model: Path, runtime: str, workers: int) -> Iterator[PeerServer]:
    port, python = free_port(), find_environment()
    command = _COMMANDS[name].format(host=LOOPBACK, port=port, workers=workers)
    with tempfile.TemporaryDirectory(prefix="spoter-peer-") as folder:
        loaded, log = Path(folder, "loaded"), Path(folder, "log")
        loaded.mkdir()
        settings = {MODEL: model.resolve(), RUNTIME: runtime, WORKERS: workers, LOADED: loaded, PORT: port}
        settings |= {"BENTOML_HOME": folder, "BENTOML_DO_NOT_TRACK": True, "PYTHONPATH": ROOT}
        with log.open("w") as output:
            leader = subprocess.Popen(
                [python, "-m", *command.split()],
                cwd=folder,  # deleted at the end, with all files of the server
                env=os.environ | {key: str(value) for key, value in settings.items()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            url = f"http://{LOOPBACK}:{port}{PATH}"
            _wait(leader, url, compact_request(), lambda: len(list(loaded.iterdir())) >= workers, log)
            yield PeerServer(name, url, leader)
        finally:
            end_process_tree(leader)


def _wait(leader: subprocess.Popen[Any], url: str, body: bytes, all_loaded: Callable[[], bool], log: Path) -> None:
    """Wait until every worker has loaded the model and a request is answered."""
    deadline = time.monotonic() + START_TIMEOUT
    while leader.poll() is None and time.monotonic() < deadline:
        if all_loaded() and readiness.send(url, None, body).status == 200:
            return
        time.sleep(0.1)
    lines = log.read_text(errors="replace").splitlines()[-20:] if log.exists() else []
    output = "\n".join(f"  {line[:200]}" for line in lines)
    raise StartError(f"{' '.join(map(str, leader.args[1:5]))} did not start:\n{output}")
