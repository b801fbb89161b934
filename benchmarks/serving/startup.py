"""Start time and memory of a server: `python -m benchmarks.serving.startup`; with `--clone` from an empty folder.

Restart to ready: `spoter serve` from its start to the first prediction. A worker: TorchServe's own clock from its start
to READY, its imports, and memory after requests. Clone to ready: `git clone` and `make serve`.
"""

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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from benchmarks import MODEL, ROOT
from benchmarks.command import ModelOption, run_command
from benchmarks.load.bodies import compact_request
from benchmarks.load.client import Request, run_closed_loop
from benchmarks.load.usage import measure_usage
from benchmarks.serving.server import running_server
from benchmarks.tables import markdown_table
from benchmarks.timing import describe_machine
from spoter.errors import SpoterError
from spoter.ops.ports import LOOPBACK, free_port
from spoter.ops.readiness import send
from spoter.processes import end_process_tree
from spoter.serving.recognizer import Recognizer

READY_WITHIN = 5.0  # seconds of a worker: a target of the project
AT_MOST = {"torch": 350e6, "onnx": 150e6, "onnx-int8": 150e6}  # its targets for memory: bytes by runtime
REQUESTS = 200
RESTART_LIMIT, CLONE_LIMIT = 200.0, 1800.0  # seconds, after which a start counts as failed
# A line of Python's -X importtime: microseconds of the module itself, with its own imports, and its name.
IMPORT = re.compile(r"-stderr MODEL_LOG - import time: +(\d+) \| +\d+ \| +([\w.]+)")
LOADED = re.compile(r'^WorkerLoadTime\{[^}]*WorkerName="W-[^}]*\} ([0-9.]+)', re.MULTILINE)


@dataclass(frozen=True)
class WorkerStart:
    """One start: seconds to READY, and bytes of worker and front end after requests in JSON, then one in CSV."""

    ready_s: float
    rss: int
    pss: int
    rss_after_csv: int
    frontend_rss: int


def time_until_ready(command: Sequence[str], folder: Path, environ: dict[str, str], limit: float) -> float:
    """Return the seconds until the `spoter serve` that `command` starts prints that it is ready; then end it."""
    started = time.perf_counter()
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with subprocess.Popen(command, cwd=folder, env=environ, start_new_session=True, **output) as process:
        guard = threading.Timer(limit, os.killpg, (process.pid, signal.SIGTERM))
        guard.start()
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                if line.startswith("ready after"):
                    return time.perf_counter() - started
            last = "".join(lines[-5:]).strip()
            raise SpoterError(f"{' '.join(command[:2])} was not ready within {limit:g} s: {last}")
        finally:
            guard.cancel()
            end_process_tree(process)  # `spoter serve` takes SIGTERM as Ctrl-C, and ends TorchServe's own session


def separate_settings(model: Path, runtime: str, scratch: Path) -> dict[str, str]:
    """Return environment variables with which a server shares no port and no folder with other servers."""
    ports = {name: str(free_port()) for name in ("SPOTER_PORT", "SPOTER_MANAGEMENT_PORT", "SPOTER_METRICS_PORT")}
    folders = {"SPOTER_LOGS": str(scratch / "logs"), "SPOTER_MODEL_STORE": str(scratch / "store")}
    return ports | folders | {"SPOTER_MODEL": str(model), "SPOTER_RUNTIME": runtime, "SPOTER_WORKERS": "1"}


def time_restart(model: Path, runtime: str) -> float:
    """Return the seconds until a `spoter serve` is ready where everything is installed."""
    with tempfile.TemporaryDirectory(prefix="spoter-bench-") as scratch:
        environ = os.environ | separate_settings(model.resolve(), runtime, Path(scratch))
        return time_until_ready([sys.executable, "-m", "spoter", "serve"], ROOT, environ, RESTART_LIMIT)


def measure_worker(model: Path, runtime: str) -> WorkerStart:
    """Start a TorchServe with one worker, send requests, and measure its memory."""
    compact = Request(compact_request(Recognizer.load(model).layout))
    csv = Request((ROOT / "samples" / "deutschland.csv").read_bytes(), "text/csv")
    with running_server(model, runtime=runtime) as server:
        loaded = LOADED.search(send(f"http://{LOOPBACK}:{server.ports[2]}/metrics").body)
        if loaded is None:
            raise SpoterError("found no WorkerLoadTime among TorchServe's metrics")
        run_closed_loop(server.url, [compact], 4, 60.0, most=REQUESTS).require_success()
        usage = measure_usage(server.leader)
        run_closed_loop(server.url, [csv], 4, 60.0, most=1).require_success()
        [worker], [after_csv] = usage.workers, measure_usage(server.leader).workers
        return WorkerStart(float(loaded[1]) / 1e3, worker.rss, worker.pss, after_csv.rss, usage.frontend.rss)


def measure_imports(model: Path, runtime: str) -> Counter[str]:
    """Return the milliseconds that a worker's imports take, by package."""
    with running_server(model, runtime=runtime, settings={"PYTHONPROFILEIMPORTTIME": "1"}) as server:
        lines = (server.logs / "model_log.log").read_text(errors="replace")
    packages: Counter[str] = Counter()
    for own, name in IMPORT.findall(lines):
        package = name.split(".")[0]
        packages["Python's own" if package in sys.stdlib_module_names else package] += int(own) / 1e3
    return packages


def report_clone(pip_args: str) -> str:
    """Clone the repository, run `make serve` there, and report how long that takes."""
    commit = _run("git", "rev-parse", "--short", "HEAD")
    with tempfile.TemporaryDirectory(prefix="spoter-bench-") as scratch:
        started = time.perf_counter()
        folder = Path(scratch, "clone")
        _run("git", "clone", "--quiet", str(ROOT), str(folder))
        cloned = time.perf_counter() - started
        environ = os.environ | separate_settings(folder / "models" / "dgs11", "torch", Path(scratch))
        python = getattr(sys, "_base_executable", sys.executable)  # the one that this environment was made from
        command = ["make", "serve", f"PYTHON={python}", f"PIP_ARGS={pip_args}"]
        ready = time_until_ready(command, folder, environ, CLONE_LIMIT)
    parts = f"git clone {cloned:.1f} s, make serve {ready:.0f} s"
    return f"Clone to ready: {cloned + ready:.0f} s ({parts}), commit {commit}."


def _run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SpoterError(f"{' '.join(command)}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout.strip()


def make_row(runtime: str, restarts: Sequence[float], workers: Sequence[WorkerStart]) -> list[str]:
    """Return the cells of a row of the table; a target that was missed is marked."""
    ready = [worker.ready_s for worker in workers]
    rss = max(worker.rss for worker in workers)
    others = [(worker.pss, worker.rss_after_csv, worker.frontend_rss) for worker in workers]
    return [
        runtime,
        f"{statistics.median(restarts):.1f} ({max(restarts):.1f})",
        f"{statistics.median(ready):.1f} ({max(ready):.1f})" + " **missed**" * (max(ready) > READY_WITHIN),
        f"{rss / 1e6:.0f}" + " **missed**" * (rss > AT_MOST[runtime]),
        *(f"{max(values) / 1e6:.0f}" for values in zip(*others, strict=True)),
    ]


def main(
    model: ModelOption = MODEL,
    runtime: Annotated[list[str] | None, typer.Option(help="Again for more [default: torch and onnx].")] = None,
    starts: Annotated[int, typer.Option(min=1, help="Of each kind.")] = 3,
    from_clone: Annotated[bool, typer.Option("--clone", help="Clone and install, too: minutes, gigabytes.")] = False,
    pip_args: Annotated[str, typer.Option(envvar="PIP_ARGS", help="Of make serve, with --clone.")] = "",
) -> None:
    """Measure starts and memory, and print Markdown tables."""
    runtimes = runtime or ["torch", "onnx"]
    if unknown := set(runtimes) - set(AT_MOST):
        raise SpoterError(f"found the runtime {min(unknown)}, expected one of {', '.join(AT_MOST)}")
    rows, packages = [], []
    with tqdm(total=len(runtimes) * (2 * starts + 1), unit=" starts", leave=False) as bar:
        for name in runtimes:
            restarts, workers = [], []
            for _ in range(starts):
                restarts.append(time_restart(model, name))
                workers.append(measure_worker(model, name))
                bar.update(2)
            rows.append(make_row(name, restarts, workers))
            taken = measure_imports(model, name)
            bar.update()
            slowest = ", ".join(f"{package} {ms:.0f}" for package, ms in taken.most_common(8))
            packages.append(f"- {name}: {taken.total():.0f} in all; {slowest}")
    columns = ["runtime", "restart to ready, s", "worker ready, s", "RSS, MB", "PSS", "RSS after a CSV", "Java's RSS"]
    print(f"{describe_machine()}; medians (most) of {starts}\n\n{markdown_table(columns, rows)}")
    print(f"Targets: ready within {READY_WITHIN:g} s; RSS at most 350 MB (torch), 150 MB (onnx).\n")
    print("Milliseconds of a worker's imports, which measuring makes longer:\n\n" + "\n".join(packages))
    if from_clone:
        print("\n" + report_clone(pip_args))


if __name__ == "__main__":
    run_command(main)
