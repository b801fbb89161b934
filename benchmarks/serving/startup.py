"""How long a server takes to answer, and what it takes of memory: `python -m benchmarks.serving.startup`, with --clone from nothing.

Restart to ready: `spoter serve` from its start to the first prediction. A worker: TorchServe's own clock from its start to
READY, what of that Python's imports are, and memory after requests. Clone to ready: `git clone` and `make serve`.
"""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.load.processes import end_on_signals
from benchmarks.timing import machine
from spoter.errors import ModelFolderError, SpoterError

# What the project asks of itself: seconds of a worker, and bytes by what computes.
READY_WITHIN = 5.0
AT_MOST = {"torch": 350e6, "onnx": 150e6, "onnx-int8": 150e6}
REQUESTS = 200
RESTART_LIMIT, CLONE_LIMIT = 200.0, 1800.0  # seconds, after which a start counts as failed
# As Python's -X importtime writes it: microseconds of the module itself, with what it imports, and its name.
IMPORT = re.compile(r"-stderr MODEL_LOG - import time: +(\d+) \| +\d+ \| +([\w.]+)")
LOADED = re.compile(r'^WorkerLoadTime\{[^}]*WorkerName="W-[^}]*\} ([0-9.]+)', re.MULTILINE)


@dataclass(frozen=True)
class Worker:
    """One start: seconds to READY, and bytes of worker and front end after requests in JSON, then one in CSV."""

    ready_s: float
    rss: int
    pss: int
    rss_after_csv: int
    frontend_rss: int


def until_ready(command: list[str], folder: Path, environ: dict[str, str], limit: float) -> float:
    """Return the seconds until `spoter serve`, which `command` leads to, says that it is ready; then end it."""
    from spoter.torchserve.server import end_session

    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    guard = threading.Timer(limit, os.killpg, (process.pid, signal.SIGTERM))
    guard.start()
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if line.startswith("ready after"):
                return time.perf_counter() - started
        raise SpoterError(f"{' '.join(command[:2])} was not ready within {limit:g} s: {''.join(said[-5:]).strip()}")
    finally:
        guard.cancel()
        end_session(process)  # which `spoter serve` takes as Ctrl-C, and ends TorchServe's own session


def options(model: Path, runtime: str, scratch: Path) -> dict[str, str]:
    """Return variables that keep a server out of the way of all others."""
    from spoter.torchserve.server import free_port

    ports = {name: str(free_port()) for name in ("SPOTER_PORT", "SPOTER_MANAGEMENT_PORT", "SPOTER_METRICS_PORT")}
    folders = {"SPOTER_LOGS": str(scratch / "logs"), "SPOTER_MODEL_STORE": str(scratch / "store")}
    return ports | folders | {"SPOTER_MODEL": str(model), "SPOTER_RUNTIME": runtime, "SPOTER_WORKERS": "1"}


def restart(model: Path, runtime: str) -> float:
    """Return the seconds of a `spoter serve` where everything is installed."""
    with tempfile.TemporaryDirectory(prefix="spoter-bench-") as scratch:
        environ = os.environ | options(model.resolve(), runtime, Path(scratch))
        return until_ready([sys.executable, "-m", "spoter", "serve"], ROOT, environ, RESTART_LIMIT)


def worker(model: Path, runtime: str) -> Worker:
    """Start a TorchServe with one worker, ask it, and look at it."""
    from benchmarks.load.bodies import compact_request
    from benchmarks.load.client import Request, run_closed_loop
    from benchmarks.load.usage import Usage
    from benchmarks.serving.server import running_server
    from spoter.ops.readiness import send
    from spoter.serving.recognizer import Recognizer
    from spoter.torchserve.server import LOOPBACK

    def answered(requests: list[Request], count: int) -> None:
        load = run_closed_loop(server.url, requests, 4, 60.0, most=count)
        if load.failures():
            raise SpoterError(f"found answers of status {dict(load.statuses)}, expected 200 only")

    layout = Recognizer.load(model).layout
    with running_server(model, runtime=runtime) as server:
        told = send(f"http://{LOOPBACK}:{server.ports[2]}/metrics").body
        loaded = LOADED.search(told)
        if loaded is None:
            raise SpoterError("found no WorkerLoadTime among TorchServe's metrics")
        answered([Request(compact_request(layout))], REQUESTS)
        usage = Usage.from_session(server.leader)
        answered([Request((ROOT / "samples" / "deutschland.csv").read_bytes(), "text/csv")], 1)
        after = Usage.from_session(server.leader)
        [one], [later] = usage.workers, after.workers
        return Worker(float(loaded[1]) / 1e3, one.rss, one.pss, later.rss, usage.frontend.rss)


def imports(model: Path, runtime: str) -> Counter[str]:
    """Return the milliseconds that a worker's imports take, by package."""
    from benchmarks.serving.server import running_server

    with running_server(model, runtime=runtime, settings={"PYTHONPROFILEIMPORTTIME": "1"}) as server:
        lines = (server.logs / "model_log.log").read_text(errors="replace")
    found: Counter[str] = Counter()
    for own, name in IMPORT.findall(lines):
        top = name.split(".")[0]
        found["Python's own" if top in sys.stdlib_module_names else top] += int(own) / 1e3
    return found


def clone(pip_args: str) -> str:
    """Clone the repository, `make serve` there, and tell how long that took, and from what."""
    commit = _said("git", "rev-parse", "--short", "HEAD")
    changed = len(_said("git", "status", "--porcelain").splitlines())
    cache = Path(_said(sys.executable, "-m", "pip", "cache", "dir"))
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) if cache.is_dir() else 0
    with tempfile.TemporaryDirectory(prefix="spoter-bench-") as scratch:
        started = time.perf_counter()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), f"{scratch}/clone"], check=True)
        cloned = time.perf_counter() - started
        folder = Path(scratch, "clone")
        environ = os.environ | options(folder / "models" / "dgs11", "torch", Path(scratch))
        python = getattr(sys, "_base_executable", sys.executable)  # not of this environment: of what made it
        command = ["make", "serve", f"PYTHON={python}", f"PIP_ARGS={pip_args}"]
        ready = until_ready(command, folder, environ, CLONE_LIMIT)
    return (
        f"Clone to ready: {cloned + ready:.0f} s (git clone {cloned:.1f} s, make serve {ready:.0f} s), commit {commit}"
        f"{f' without {changed} changed files' if changed else ''}, {size / 1e6:.0f} MB in pip's cache before."
    )


def _said(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SpoterError(f"{' '.join(command)}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout.strip()


def row(runtime: str, restarts: list[float], workers: list[Worker]) -> str:
    """Return a line of the table; a bar that was missed is marked."""
    ready = max(worker.ready_s for worker in workers)
    rss = max(worker.rss for worker in workers)
    cells = [
        f"{statistics.median(restarts):.1f} ({max(restarts):.1f})",
        f"{statistics.median(worker.ready_s for worker in workers):.1f} ({ready:.1f}){_mark(ready <= READY_WITHIN)}",
        f"{rss / 1e6:.0f}{_mark(rss <= AT_MOST[runtime])}",
        f"{max(worker.pss for worker in workers) / 1e6:.0f}",
        f"{max(worker.rss_after_csv for worker in workers) / 1e6:.0f}",
        f"{max(worker.frontend_rss for worker in workers) / 1e6:.0f}",
    ]
    return f"| {runtime} | {' | '.join(cells)} |"


def _mark(reached: bool) -> str:
    return "" if reached else " **missed**"


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = ROOT / "models" / "dgs11",
    runtime: Annotated[list[str] | None, typer.Option(help="Again for more [default: torch and onnx].")] = None,
    starts: Annotated[int, typer.Option(min=1, help="Of each kind.")] = 3,
    from_clone: Annotated[bool, typer.Option("--clone", help="Clone and install, too: minutes, gigabytes.")] = False,
    pip_args: Annotated[str, typer.Option(envvar="PIP_ARGS", help="Of make serve, with --clone.")] = "",
) -> None:
    """Measure starts and memory, and print Markdown tables."""
    from spoter.torchserve.server import StartError

    runtimes = runtime or ["torch", "onnx"]
    if unknown := set(runtimes) - set(AT_MOST):
        raise _fail(f"found the runtime {min(unknown)}, expected one of {', '.join(AT_MOST)}")
    print(f"{machine()}; medians (most) of {starts}\n")
    rows, packages = [], []
    try:
        with tqdm(total=len(runtimes) * (2 * starts + 1), unit=" starts", leave=False) as bar:
            for name in runtimes:
                restarts, workers = [], []
                for _ in range(starts):
                    restarts.append(restart(model, name))
                    bar.update()
                    workers.append(worker(model, name))
                    bar.update()
                rows.append(row(name, restarts, workers))
                taken = imports(model, name)
                bar.update()
                most = ", ".join(f"{package} {ms:.0f}" for package, ms in taken.most_common(8))
                packages.append(f"- {name}: {taken.total():.0f} in all; {most}")
        print("| runtime | restart to ready, s | worker ready, s | its RSS, MB | PSS | RSS after a CSV | Java's RSS |")
        print("|---|---:|---:|---:|---:|---:|---:|\n" + "\n".join(rows))
        print(f"\nBars: ready within {READY_WITHIN:g} s; RSS at most 350 MB (torch), 150 MB (onnx).\n")
        print("Milliseconds of a worker's imports, which measuring makes longer:\n\n" + "\n".join(packages))
        if from_clone:
            print("\n" + clone(pip_args))
    except (SpoterError, StartError, OSError, subprocess.CalledProcessError) as error:
        raise _fail(str(error), 2 if isinstance(error, ModelFolderError) else 1) from None


def _fail(message: str, status: int = 2) -> typer.Exit:
    typer.echo(f"error: {message}", err=True)
    return typer.Exit(status)


if __name__ == "__main__":
    end_on_signals()
    typer.run(main)
