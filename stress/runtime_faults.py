"""Faults of a running server: each is injected, and then repaired as a person on duty would.

Some need a server with a small disk, or with a clock that can be moved.
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
STOPPED_TIMEOUT = 15  # seconds, in place of the archive's 60; the handler needs 10 of them for itself
DIED = frozenset({500, 507})  # answers to the requests of a worker that died; 500 where the connection to it broke
DRAINED = 3.0  # seconds after which the previous version has answered its last requests: its queue is then empty
WITHOUT_WORKERS = 5.0  # seconds without any worker: long enough for a queue of 100 to be full at 40 requests a second
MODEL_API = {"TS_ENABLE_MODEL_API": "true"}
# Bytes of the file system that is filled up. TorchServe, its archive twice and its logs fit in; a jar of Netty's too.
DISK = 256 << 20
CLOCK_FILE = "FAKETIME_TIMESTAMP_FILE"
FAKETIME = ("usr/lib/*/faketime/libfaketimeMT.so.1", "usr/lib*/faketime/libfaketimeMT.so.1")  # Debian's, Fedora's


@dataclass(frozen=True)
class Fault:
    """A fault of a server that gets requests, with the effects that docs/failures.md describes."""

    name: str  # a word for the command line
    what: str
    inject: Callable[[TorchServe], None]
    """Injects it into a ready server of `WORKERS` workers, and returns once it is over or repaired."""
    log_pattern: str  # regular expression of the line of the logs that tells the reason
    statuses: frozenset[int] = frozenset()  # that clients may get in addition to 200 and 503
    frontend_down: bool = False  # connections are refused meanwhile
    workers_killed: int = 0
    """TorchServe never answers the requests that a worker was collecting for its next batch when it died, so at most
    `BATCH` requests for each of these workers get no answer."""
    known_loss: str = ""  # TorchServe may lose other requests, too: what to do instead
    settings: Mapping[str, str] = field(default_factory=dict)
    archive: Mapping[str, object] = field(default_factory=dict)
    environment: Callable[[], AbstractContextManager] = nullcontext  # that the server is started in


class CannotBeTried(Exception):
    """The machine lacks the means for a fault; the text says which."""


@contextmanager
def small_disk() -> Iterator[None]:
    """Put temporary folders, and so all files that a server writes, on a small file system."""
    if os.geteuid() != 0:
        raise CannotBeTried("only root may mount a file system to fill up")
    before, folder = tempfile.tempdir, tempfile.mkdtemp(prefix="spoter-disk-")
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], capture_output=True)
    if mount.returncode:
        os.rmdir(folder)
        raise CannotBeTried("this container may not mount a file system to fill up")
    tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = before
        subprocess.run(["umount", "--lazy", folder], check=True)
        os.rmdir(folder)


@contextmanager
def movable_clock() -> Iterator[None]:
    """Start servers with a movable clock, for Java and Python alike."""
    libraries = [path for pattern in FAKETIME for path in Path("/").glob(pattern)]
    if not libraries:
        raise CannotBeTried("moving the clock needs libfaketime: Debian's package faketime")
    handle, name = tempfile.mkstemp(prefix="spoter-clock-")
    os.close(handle)
    fake = {"LD_PRELOAD": str(libraries[0]), CLOCK_FILE: name, "FAKETIME_CACHE_DURATION": "1"}
    set_clock(name, 0)
    try:
        with mock.patch.dict(os.environ, fake, FAKETIME_DONT_FAKE_MONOTONIC="1"):  # by which both wait
            yield
    finally:
        os.unlink(name)


def set_clock(path: str, seconds: int) -> None:
    """Set the clock of servers in `movable_clock` to `seconds` from the true time."""
    atomic_write_bytes(Path(path), f"{seconds:+d}\n".encode())


def signal_worker(server: TorchServe, number: int) -> None:
    """Send a worker a signal, and wait until another one has replaced it."""
    pid = worker_pids(server)[0]
    os.kill(pid, number)
    if not wait_until(lambda: len(now := worker_pids(server)) == WORKERS and pid not in now):
        raise TimeoutError("no new worker replaced it")


kill_worker = partial(signal_worker, number=signal.SIGKILL)
stop_worker = partial(signal_worker, number=signal.SIGSTOP)


def cannot_start(server: TorchServe) -> None:
    """Remove the handler, kill all workers, and put it back after they have failed to start."""
    [handler] = Path(server.store.parent, "models").glob("*/spoter_handler.py")  # TorchServe's copy of the archive
    aside = handler.with_suffix(".aside")
    handler.rename(aside)
    try:
        for pid in worker_pids(server):
            os.kill(pid, signal.SIGKILL)
        time.sleep(WITHOUT_WORKERS)
    finally:
        aside.rename(handler)
    if not wait_workers(server):
        raise TimeoutError("workers do not start again")


def fill_disk(server: TorchServe) -> None:
    """Fill the disk, have a worker start on the full one, and empty it again."""
    spare = server.store / "spare"
    try:
        with spare.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    try:
        time.sleep(3)
        kill_worker(server)
    finally:
        spare.unlink()


def replace_archive(server: TorchServe) -> None:
    """Truncate the archive in the model store, as a failed copy does, remove it, and have a worker start after each."""
    archive = server.store / f"{NAME}.mar"
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    kill_worker(server)
    archive.unlink()
    kill_worker(server)
    archive.write_bytes(whole)


def register_again(server: TorchServe) -> None:
    """Unregister the model through the management API, and register it again."""
    server.manage("DELETE", f"/models/{NAME}")
    _register(server, f"{NAME}.mar")


def next_version(server: TorchServe) -> None:
    """Register another version, make it the default, and unregister the old one."""
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
    """End the server as an update does, and start it again on the same ports."""
    end_process_tree(server.leader)
    server.start()
    server.wait_ready()


def kill_frontend(server: TorchServe) -> None:
    """Kill Java, wait until its workers end, and start the server again over the files that Java left."""
    for process in session_members(server.leader):
        if process.name() == "java":
            process.kill()
    if not wait_until(lambda: not measure_usage(server.leader).workers):
        raise TimeoutError("workers outlive their front end")
    restart(server)


def move_clock(server: TorchServe) -> None:
    """Move the clock an hour on, two back and to the right time; each time a worker starts at that time."""
    for seconds in (HOUR, -HOUR, 0):
        set_clock(os.environ[CLOCK_FILE], seconds)
        time.sleep(3)
        kill_worker(server)
        access = (server.logs / "access_log.log").read_text().splitlines()
        written = datetime.fromisoformat(access[-1].split()[0].replace(",", "."))
        off = (written - datetime.now()).total_seconds() - seconds
        if abs(off) > HOUR / 2:
            raise RuntimeError(f"the server's clock was to be moved by {seconds} s and is {off:.0f} s from there")


FAULTS = (
    Fault("kill-worker", "SIGKILL of a worker", kill_worker, "Retry worker", DIED, workers_killed=1),
    Fault(
        "stop-worker", f"SIGSTOP of a worker, responseTimeout {STOPPED_TIMEOUT} s", stop_worker,
        "did not respond in given time", DIED, workers_killed=1,
        archive={"responseTimeout": STOPPED_TIMEOUT, "handler": {"videoTimeout": 2}},
    ),
    Fault(
        "cannot-start", f"all workers killed, and none can start for {WITHOUT_WORKERS:g} s", cannot_start,
        "Retry worker", DIED, workers_killed=WORKERS,
    ),
    Fault(
        "full-disk", "temporary folder's and logs' disk full, then SIGKILL of a worker", fill_disk,
        "Retry worker", DIED, workers_killed=1, environment=small_disk,
    ),
    Fault(
        "replace-archive", "archive truncated, then removed, where it lies; SIGKILL of a worker after each",
        replace_archive, "Retry worker", DIED, workers_killed=2,
    ),
    Fault(
        "register-again", "model unregistered and registered again", register_again,
        "unregistered successfully|Model spoter loaded", frozenset({404}), settings=MODEL_API,
        known_loss="TorchServe loses requests that wait for a model when it is unregistered; next-version avoids that",
    ),
    Fault(
        "next-version", "another version registered, made the default, the old one unregistered", next_version,
        "Model spoter loaded", settings=MODEL_API,
    ),
    Fault(
        "restart", "SIGTERM of the server, started again", restart, "Initialize Inference server", frontend_down=True
    ),
    Fault(
        "kill-frontend", "SIGKILL of Java, started again", kill_frontend, "Initialize Inference server",
        frontend_down=True,
    ),
    Fault(
        "clock", "clock an hour on, an hour back, right again; SIGKILL of a worker after each", move_clock,
        "Retry worker", DIED, workers_killed=3, environment=movable_clock,
    ),
)  # fmt: skip
