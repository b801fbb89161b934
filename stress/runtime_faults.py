"""Faults of a running server: each is injected, and then repaired as an operator would do it.

Some faults need a server with a small disk or with a clock that can be changed.
"""

import errno
import json
import os
import signal
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from unittest import mock

import yaml

from benchmarks import ROOT
from benchmarks.load.usage import measure_usage
from spoter.files import atomic_write_bytes
from spoter.ops.local_server import NAME
from spoter.processes import end_process_tree, session_members
from spoter.torchserve.pack import MANIFEST, zipped
from spoter.torchserve.server import TorchServe
from stress.harness import WORKERS, wait_until, wait_workers, worker_pids

BATCH = yaml.safe_load((ROOT / "handler" / "model-config.yaml").read_text())["batchSize"]
HOUR = 3600
STOPPED_TIMEOUT = 15  # seconds instead of the archive's 60; the handler reserves 10 of them
DIED = frozenset({500, 507})  # statuses for requests of a worker that died; 500 if its connection broke
DRAINED = 3.0  # seconds until the previous version has answered its last requests
WITHOUT_WORKERS = 5.0  # seconds without workers: at 40 requests per second a queue of 100 fills
MODEL_API = {"TS_ENABLE_MODEL_API": "true"}
# Bytes of the file system to fill: enough for TorchServe, two copies of its archive, its logs and a library of Netty.
DISK = 256 << 20
CLOCK_FILE = "FAKETIME_TIMESTAMP_FILE"
FAKETIME = ("usr/lib/*/faketime/libfaketimeMT.so.1", "usr/lib*/faketime/libfaketimeMT.so.1")  # Debian's, Fedora's


@dataclass(frozen=True)
class Fault:
    """A fault of a server under load, with the effects described in docs/failures.md."""

    name: str  # the name on the command line
    what: str  # a description for the report
    inject: Callable[[TorchServe], None]
    """Inject the fault into a ready server with `WORKERS` workers, and return after the fault was repaired."""
    log_pattern: str  # regular expression for the log line with the reason
    statuses: frozenset[int] = frozenset()  # statuses that clients may get in addition to 200 and 503
    frontend_down: bool = False  # whether connections are refused during the fault
    workers_killed: int = 0
    """TorchServe never answers the requests that a worker was collecting for its next batch when it died, so at most
    `BATCH` requests per killed worker get no answer."""
    known_loss: str = ""  # why TorchServe may lose other requests, and the alternative
    settings: Mapping[str, str] = field(default_factory=dict)
    archive: Mapping[str, object] = field(default_factory=dict)
    environment: Callable[[], AbstractContextManager] = nullcontext  # the context for starting the server


class CannotBeTried(Exception):
    """The machine cannot produce a fault; the text has the reason."""


@contextmanager
def small_disk() -> Iterator[None]:
    """Put temporary folders, and therefore all files that a server writes, on a small file system."""
    if os.geteuid() != 0:
        raise CannotBeTried("only root can mount a small file system to fill")
    before, folder = tempfile.tempdir, tempfile.mkdtemp(prefix="spoter-disk-")
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], capture_output=True)
    if mount.returncode:
        os.rmdir(folder)
        raise CannotBeTried("this container cannot mount a small file system to fill")
    tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = before
        subprocess.run(["umount", "--lazy", folder], check=True)
        os.rmdir(folder)


@contextmanager
def movable_clock() -> Iterator[None]:
    """Give servers a clock that `set_clock` changes, for Java and Python."""
    libraries = [path for pattern in FAKETIME for path in Path("/").glob(pattern)]
    if not libraries:
        raise CannotBeTried("changing the clock needs libfaketime, such as Debian's package faketime")
    handle, name = tempfile.mkstemp(prefix="spoter-clock-")
    os.close(handle)
    fake = {"LD_PRELOAD": str(libraries[0]), CLOCK_FILE: name, "FAKETIME_CACHE_DURATION": "1"}
    set_clock(name, 0)
    try:
        with mock.patch.dict(os.environ, fake, FAKETIME_DONT_FAKE_MONOTONIC="1"):  # timeouts use the monotonic clock
            yield
    finally:
        os.unlink(name)


def set_clock(path: str, seconds: int) -> None:
    """Set the clock of servers in `movable_clock` to the true time plus `seconds`."""
    atomic_write_bytes(Path(path), f"{seconds:+d}\n".encode())


def signal_worker(server: TorchServe, number: int) -> None:
    """Send a signal to a worker, and wait until a new worker has replaced it."""
    pid = worker_pids(server)[0]
    os.kill(pid, number)
    if not wait_until(lambda: len(pids := worker_pids(server)) == WORKERS and pid not in pids):
        raise TimeoutError(f"worker {pid}: no new worker replaced it after signal {number}")


kill_worker = partial(signal_worker, number=signal.SIGKILL)
stop_worker = partial(signal_worker, number=signal.SIGSTOP)


def cannot_start(server: TorchServe) -> None:
    """Remove the handler, kill all workers, and restore the handler after new workers have failed to start."""
    [handler] = Path(server.store.parent, "models").glob("*/spoter_handler.py")  # TorchServe's copy of the archive
    moved = handler.with_suffix(".moved")
    handler.rename(moved)
    try:
        for pid in worker_pids(server):
            os.kill(pid, signal.SIGKILL)
        time.sleep(WITHOUT_WORKERS)
    finally:
        moved.rename(handler)
    if not wait_workers(server):
        raise TimeoutError("workers did not start after the handler was restored")


def fill_disk(server: TorchServe) -> None:
    """Fill the disk, replace a worker while the disk is full, and free the space."""
    filler = server.store / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    try:
        time.sleep(3)
        kill_worker(server)
    finally:
        filler.unlink()


def replace_archive(server: TorchServe) -> None:
    """Truncate the archive in the model store, like a failed copy, then remove it; replace a worker after each."""
    archive = server.store / f"{NAME}.mar"
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    kill_worker(server)
    archive.unlink()
    kill_worker(server)
    archive.write_bytes(content)


def register_again(server: TorchServe) -> None:
    """Unregister the model through the management API, and register it again."""
    server.manage("DELETE", f"/models/{NAME}")
    _register(server, f"{NAME}.mar")


def next_version(server: TorchServe) -> None:
    """Register another version, make it the default, and unregister the old version."""
    old = server.manage("GET", f"/models/{NAME}")[0]["modelVersion"]
    with zipfile.ZipFile(server.store / f"{NAME}.mar") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files[MANIFEST])
    manifest["model"]["modelVersion"] = version = f"{old}.next"
    files[MANIFEST] = json.dumps(manifest).encode()
    atomic_write_bytes(server.store / "next.mar", zipped(files))
    _register(server, "next.mar")
    server.manage("PUT", f"/models/{NAME}/{version}/set-default")
    time.sleep(DRAINED)
    server.manage("DELETE", f"/models/{NAME}/{old}")


def _register(server: TorchServe, archive: str) -> None:
    query = f"url={archive}&model_name={NAME}&initial_workers={WORKERS}&synchronous=true"
    server.manage("POST", f"/models?{query}")


def restart(server: TorchServe) -> None:
    """End the server, as in an update, and start it again on the same ports."""
    end_process_tree(server.leader)
    server.start()
    server.wait_ready()


def kill_frontend(server: TorchServe) -> None:
    """Kill Java, wait until its workers end, and start the server again with Java's leftover files."""
    for process in session_members(server.leader):
        if process.name() == "java":
            process.kill()
    if not wait_until(lambda: not measure_usage(server.leader).workers):
        raise TimeoutError("workers did not end after Java was killed")
    restart(server)


def move_clock(server: TorchServe) -> None:
    """Set the clock an hour ahead, an hour back, and to the true time; replace a worker after each change."""
    for seconds in (HOUR, -HOUR, 0):
        set_clock(os.environ[CLOCK_FILE], seconds)
        time.sleep(3)
        kill_worker(server)
        access = (server.logs / "access_log.log").read_text().splitlines()
        logged = datetime.fromisoformat(access[-1].split()[0].replace(",", "."))
        offset = (logged - datetime.now()).total_seconds()
        if abs(offset - seconds) > HOUR / 2:
            raise RuntimeError(f"found the server's clock off by {offset:.0f} s, expected {seconds} s")


FAULTS = (
    Fault("kill-worker", "SIGKILL of a worker", kill_worker, "Retry worker", DIED, workers_killed=1),
    Fault(
        "stop-worker", f"SIGSTOP of a worker, responseTimeout {STOPPED_TIMEOUT} s", stop_worker,
        "did not respond in given time", DIED, workers_killed=1,
        archive={"responseTimeout": STOPPED_TIMEOUT, "handler": {"videoTimeout": 2}},
    ),
    Fault(
        "cannot-start", f"SIGKILL of all workers, and none can start for {WITHOUT_WORKERS:g} s", cannot_start,
        "Retry worker", DIED, workers_killed=WORKERS,
    ),
    Fault(
        "full-disk", "disk of temporary folder and logs full, then SIGKILL of a worker", fill_disk,
        "Retry worker", DIED, workers_killed=1, environment=small_disk,
    ),
    Fault(
        "replace-archive", "archive in the model store truncated, then removed; SIGKILL of a worker after each",
        replace_archive, "Retry worker", DIED, workers_killed=2,
    ),
    Fault(
        "register-again", "model unregistered and registered again", register_again,
        "unregistered successfully|Model spoter loaded", frozenset({404}), settings=MODEL_API,
        known_loss="TorchServe loses requests that wait for a model when it is unregistered; next-version avoids that",
    ),
    Fault(
        "next-version", "new version registered and made the default, old version unregistered", next_version,
        "Model spoter loaded", settings=MODEL_API,
    ),
    Fault(
        "restart", "SIGTERM of the server, then a new start", restart, "Initialize Inference server", frontend_down=True
    ),
    Fault(
        "kill-frontend", "SIGKILL of Java, then a new start", kill_frontend, "Initialize Inference server",
        frontend_down=True,
    ),
    Fault(
        "clock", "clock an hour ahead, an hour back, then right; SIGKILL of a worker after each", move_clock,
        "Retry worker", DIED, workers_killed=3, environment=movable_clock,
    ),
)  # fmt: skip
