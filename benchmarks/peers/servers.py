"""The servers that are compared, each started as it would be in production, on loopback, by one name."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks import ROOT
from benchmarks.load.bodies import compact_request, full_request
from benchmarks.load.usage import Usage
from benchmarks.peers.shared import LOADED, MODEL, PORT, RUNTIME, WORKERS
from spoter.ops import readiness
from spoter.ops.ports import LOOPBACK, free_port
from spoter.processes import end_process_tree, session_members
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
"""What can be compared, by the name that `--servers` takes."""

# What of the bench package the original's handler needs in its archive.
_ORIGINAL_FILES = ("__init__.py", "original.py", "original_layers.py")


class Running:
    """A server that is up.

    Parameters
    ----------
    name : str
        Of `NAMES`.
    url : str
        Where requests are posted.
    leader : subprocess.Popen
        The process that was started; the server is its session, and whatever it or they have started.
    loaded : pathlib.Path or None
        A folder with a file for each process that holds the model; None where TorchServe's workers are told by name.
    ready_s : float
        Seconds from its start to its first answer.
    """

    def __init__(self, name: str, url: str, leader: subprocess.Popen, loaded: Path | None, ready_s: float):
        self.name, self.url, self.leader, self.ready_s = name, url, leader, ready_s
        self._loaded = loaded

    def usage(self) -> Usage:
        """Look at all of its processes."""
        return Usage.from_processes(family(self.leader))

    def worker_rss(self) -> int:
        """Return the bytes of memory of the largest of the processes that hold the model."""
        usage = self.usage()
        if self._loaded is None:
            return max(worker.rss for worker in usage.workers)
        holders = {int(path.name) for path in self._loaded.iterdir()}
        return max(process.rss for process in usage.processes if process.pid in holders)

    def pause(self) -> None:
        """Stop its processes: some of the servers look for work all the time, at the cost of whoever is measured."""
        for process in family(self.leader):
            process.suspend()

    def resume(self) -> None:
        """Let it go on, its workers before those that watch them."""
        for process in reversed(family(self.leader)):
            process.resume()


def family(leader: subprocess.Popen) -> list[psutil.Process]:
    """Return the living processes of a leader's session and their descendants: BentoML's have sessions of their own."""
    found = {process.pid: process for process in session_members(leader)}
    for process in list(found.values()):
        try:
            found |= {child.pid: child for child in process.children(recursive=True)}
        except psutil.NoSuchProcess:  # it ended in the meantime
            continue
    return sorted(found.values(), key=lambda process: process.pid)


@contextmanager
def started(name: str, model: Path, runtime: str, workers: int, python: Path | None) -> Iterator[Running]:
    """Run a server until the block ends.

    Parameters
    ----------
    name : str
        Of `NAMES`.
    model : pathlib.Path
        Model folder.
    runtime : str
        What computes, of `spoter.model.config.RUNTIMES`; the original's handler has nothing but torch.
    workers : int
        Processes that hold the model.
    python : pathlib.Path or None
        Interpreter of `benchmarks.peers.environment`; the two that TorchServe runs do without.

    Raises
    ------
    spoter.torchserve.server.StartError
        Where it did not come up, with its last words.
    """
    if name in (OURS, ORIGINAL):
        serving = _torchserve(name, model, runtime, workers)
    else:
        serving = _peer(name, model, runtime, workers, python)
    with serving as running:
        try:
            yield running
        finally:
            running.resume()  # a process that is stopped does not end when it is asked to


@contextmanager
def _torchserve(name: str, model: Path, runtime: str, workers: int) -> Iterator[Running]:
    from benchmarks.serving.server import running_server  # here, for it takes a second of torch

    other = {"runtime": runtime}
    if name == ORIGINAL:
        files = {f"bench/{file}": (ROOT / "bench" / file).read_bytes() for file in _ORIGINAL_FILES}
        files["spoter_handler.py"] = (ROOT / "bench" / "original_handler.py").read_bytes()
        # The toolkit of its container took one request after the other.
        other = {"runtime": "torch", "archive": {"batchSize": 1}, "files": files}
    body, began = full_request(), time.monotonic()

    def wait(server: TorchServe) -> None:
        def all_loaded() -> bool:
            return readiness.workers(server.management, server.model).ok

        _wait(server.leader, server.url, body, all_loaded, server.logs / "model_log.log")

    with running_server(model, workers, wait=wait, **other) as server:
        yield Running(name, server.url, server.leader, None, time.monotonic() - began)


@contextmanager
def _peer(name: str, model: Path, runtime: str, workers: int, python: Path) -> Iterator[Running]:
    port = free_port()
    command = [str(python), "-m", *_commands(port, workers)[name]]
    with tempfile.TemporaryDirectory(prefix="spoter-peer-") as folder:
        loaded, log = Path(folder, "loaded"), Path(folder, "log")
        loaded.mkdir()
        told = {
            MODEL: str(model.resolve()),
            RUNTIME: runtime,
            WORKERS: str(workers),
            LOADED: str(loaded),
            PORT: str(port),
        }
        told |= {"BENTOML_HOME": folder, "BENTOML_DO_NOT_TRACK": "True", "PYTHONPATH": str(ROOT)}
        began = time.monotonic()
        with log.open("w") as said:
            leader = subprocess.Popen(
                command,
                cwd=folder,  # whatever a server leaves behind goes with it
                env=os.environ | told,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            url = f"http://{LOOPBACK}:{port}/predict"
            _wait(leader, url, compact_request(), lambda: len(list(loaded.iterdir())) >= workers, log)
            yield Running(name, url, leader, loaded, time.monotonic() - began)
        finally:
            end(leader)


def _commands(port: int, workers: int) -> dict[str, list[str]]:
    at = ["--host", LOOPBACK, "--port", str(port)]
    uvicorn = [*at, "--workers", str(workers), "--loop", "uvloop", "--http", "httptools"]
    uvicorn += ["--no-access-log", "--log-level", "warning"]
    return {
        "fastapi": ["uvicorn", "--factory", "benchmarks.peers.fastapi_app:create", *uvicorn],
        "fastapi-loop": ["uvicorn", "--factory", "benchmarks.peers.fastapi_app:create_on_loop", *uvicorn],
        "litserve": ["benchmarks.peers.litserve_app"],
        "bentoml": ["bentoml", "serve", "benchmarks.peers.bentoml_app:Peer", *at],
    }


def _wait(leader: subprocess.Popen, url: str, body: bytes, all_loaded: Callable[[], bool], log: Path) -> None:
    """Wait until every worker has its model and a request is answered."""
    deadline = time.monotonic() + START_TIMEOUT
    while leader.poll() is None and time.monotonic() < deadline:
        if all_loaded() and readiness.send(url, None, body).status == 200:
            return
        time.sleep(0.1)
    words = log.read_text(errors="replace").splitlines()[-20:] if log.exists() else []
    said = "\n".join(f"  {line[:200]}" for line in words)
    raise StartError(f"{' '.join(map(str, leader.args[1:5]))} did not come up:\n{said}")


def end(leader: subprocess.Popen) -> None:
    """End a server: its session, and then what of its descendants lies outside of that and has not gone with it."""
    outside = family(leader)
    end_process_tree(leader)
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        _, outside = psutil.wait_procs(outside, timeout=0)
        for process in outside:
            with contextlib.suppress(psutil.NoSuchProcess):
                ask(process)
        _, outside = psutil.wait_procs(outside, timeout=5)


def executable(servers: list[str]) -> Path | None:
    """Return the interpreter that the peers among `servers` need; raises as `environment.find` does."""
    from benchmarks.peers.environment import find

    return find() if set(servers) - {OURS, ORIGINAL} else Path(sys.executable)
