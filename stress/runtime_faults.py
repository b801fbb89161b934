"""Faults of a server that runs: each strikes it, and mends what a person on duty would mend."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import psutil
import yaml

from benchmarks.load.usage import WORKER
from spoter.files import atomic_write_bytes
from spoter.ops.local_server import NAME
from spoter.processes import end_process_tree, session_members
from spoter.torchserve.server import TorchServe
from stress import ROOT
from stress.fault_environments import CLOCK_FILE, clock, set_clock, small_disk
from stress.harness import wait_until, worker_pids

WORKERS = 2
BATCH = yaml.safe_load((ROOT / "handler" / "model-config.yaml").read_text())["batchSize"]
HOUR = 3600
# Seconds, in place of the archive's 60; the handler wants 10 of them for itself.
STOPPED_TIMEOUT = 15
# What TorchServe answers to the requests that a worker had when it died: 507, or 500 where their way to it broke.
DIED = frozenset({500, 507})
# Seconds after which the version before has answered what was on its way to it: its queue is then empty.
DRAINED = 3.0
# Seconds without any worker: long enough for a queue of 100 to be full at 40 requests a second.
WITHOUT_WORKERS = 5.0
MODEL_API = {"TS_ENABLE_MODEL_API": "true"}


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong while requests come in.

    Attributes
    ----------
    name, what : str
        A word for the command line, and what happens.
    strike : callable
        Does it to a ready server of `WORKERS` workers, and returns once it is over or has been mended.
    cause : str
        Regular expression of the line of the logs that tells why.
    statuses : frozenset of int
        What clients may see besides 200 and 503, as docs/operations.md tells them.
    away : bool
        The front end itself goes: whoever asks meanwhile is refused a connection.
    killed : int
        Workers that are killed. TorchServe never answers the requests that a worker was collecting for its next batch
        when it died, so at most `BATCH` requests for each of them get no answer.
    forgotten : str
        Where TorchServe may forget requests, which then get no answer: what to do instead. Else none may be.
    settings, archive : mapping
        As `benchmarks.serving.server.running_server` takes them.
    around : callable
        Makes what the server has to be started in.
    """

    name: str
    what: str
    strike: Callable[[TorchServe], None]
    cause: str
    statuses: frozenset[int] = frozenset()
    away: bool = False
    killed: int = 0
    forgotten: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    archive: Mapping[str, object] = field(default_factory=dict)
    around: Callable[[], AbstractContextManager] = nullcontext


def kill_worker(server: TorchServe) -> None:
    _strike_worker(server, signal.SIGKILL)


def stop_worker(server: TorchServe) -> None:
    _strike_worker(server, signal.SIGSTOP)


def _strike_worker(server: TorchServe, number: int) -> None:
    """Send a worker a signal, and wait until another has its place."""
    struck = worker_pids(server)[0]
    os.kill(struck, number)

    def replaced() -> bool:
        now = worker_pids(server)
        return len(now) == WORKERS and struck not in now

    if not wait_until(replaced):
        raise TimeoutError("no new worker took its place")


def cannot_start(server: TorchServe) -> None:
    """Take away what workers load, kill them all, and put it back after they have tried to start in vain."""
    [handler] = Path(server.store.parent, "models").glob("*/spoter_handler.py")  # TorchServe's copy of the archive
    aside = handler.with_suffix(".aside")
    handler.rename(aside)
    try:
        for pid in worker_pids(server):
            os.kill(pid, signal.SIGKILL)
        time.sleep(WITHOUT_WORKERS)
    finally:
        aside.rename(handler)
    if not wait_until(lambda: len(worker_pids(server)) == WORKERS):
        raise TimeoutError("workers do not start again")


def fill_disk(server: TorchServe) -> None:
    """Fill the disk, have a worker start on the full one, and empty it again."""
    spare = server.store / "spare"
    try:
        with spare.open("wb") as file:
            while True:
                file.write(bytes(1 << 20))
                file.flush()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    try:
        time.sleep(3)
        kill_worker(server)
    finally:
        spare.unlink()


def replace_archive(server: TorchServe) -> None:
    """Cut the archive short where it lies, as a copy that failed does, and have a worker start beside that."""
    archive = server.store / f"{NAME}.mar"
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    kill_worker(server)
    archive.unlink()
    kill_worker(server)
    archive.write_bytes(whole)


def register_again(server: TorchServe) -> None:
    """Take the model away through the management API, and bring it back."""
    server.manage("DELETE", f"/models/{NAME}")
    _register(server, f"{NAME}.mar")


def next_version(server: TorchServe) -> None:
    """Bring another version up beside the model, make it the default, and take the old one away."""
    from spoter.torchserve.pack import MANIFEST, zipped

    old = _version(server)
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


def _version(server: TorchServe) -> str:
    return server.manage("GET", f"/models/{NAME}")[0]["modelVersion"]


def _register(server: TorchServe, archive: str) -> None:
    query = f"url={archive}&model_name={NAME}&initial_workers={WORKERS}&synchronous=true"
    server.manage("POST", f"/models?{query}")


def restart(server: TorchServe) -> None:
    """End the server as an update does, and start it again on the same ports."""
    end_process_tree(server.leader)
    _start(server)


def kill_frontend(server: TorchServe) -> None:
    """Kill Java outright; see its workers go, and start again over what it left."""
    java = [process for process in session_members(server.leader) if process.name() == "java"]
    for process in java:
        process.kill()
    if not wait_until(lambda: not _workers(server)):
        raise TimeoutError("workers outlive their front end")
    end_process_tree(server.leader)
    _start(server)


def _workers(server: TorchServe) -> list[psutil.Process]:
    found = []
    for process in session_members(server.leader):
        with suppress(psutil.Error):
            found += [process] if any(WORKER in part for part in process.cmdline()) else []
    return found


def _start(server: TorchServe) -> None:
    server.start()
    server.wait_ready()


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
    Fault("kill-worker", "SIGKILL of a worker", kill_worker, r"Retry worker", DIED, killed=1),
    Fault(
        "stop-worker",
        f"SIGSTOP of a worker, responseTimeout {STOPPED_TIMEOUT} s",
        stop_worker,
        r"did not respond in given time",
        DIED,
        killed=1,
        archive={"responseTimeout": STOPPED_TIMEOUT, "handler": {"videoTimeout": 2}},
    ),
    Fault(
        "cannot-start",
        f"all workers killed, and none can start for {WITHOUT_WORKERS:g} s",
        cannot_start,
        r"Retry worker",
        DIED,
        killed=WORKERS,
    ),
    Fault(
        "full-disk",
        "temporary folder's and logs' disk full, then SIGKILL of a worker",
        fill_disk,
        r"Retry worker",
        DIED,
        killed=1,
        around=small_disk,
    ),
    Fault(
        "replace-archive",
        "archive cut short, then removed, where it lies; SIGKILL of a worker after each",
        replace_archive,
        r"Retry worker",
        DIED,
        killed=2,
    ),
    Fault(
        "register-again",
        "model unregistered and registered again",
        register_again,
        r"unregistered successfully|Model spoter loaded",
        frozenset({404}),
        forgotten="TorchServe forgets what waits for a model that is unregistered; next-version does without",
        settings=MODEL_API,
    ),
    Fault(
        "next-version",
        "another version registered, made the default, the old one unregistered",
        next_version,
        r"Model spoter loaded",
        settings=MODEL_API,
    ),
    Fault("restart", "SIGTERM of the server, started again", restart, r"Initialize Inference server", away=True),
    Fault("kill-frontend", "SIGKILL of Java, started again", kill_frontend, r"Initialize Inference server", away=True),
    Fault(
        "clock",
        "clock an hour on, an hour back, right again; SIGKILL of a worker after each",
        move_clock,
        r"Retry worker",
        DIED,
        killed=3,
        around=clock,
    ),
)
