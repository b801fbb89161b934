"""Start time and memory of a server: `python -m benchmarks.serving.startup`; `--clone` adds a start from a new clone.

Restart to ready: from the start of `spoter serve` to its first prediction. Worker to ready: TorchServe's measurement;
the tables add the time of its imports, and memory after requests. Clone to ready: `git clone` and `make serve`.
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

READY_WITHIN = 5.0  # the project's target for the start of a worker, seconds
AT_MOST = {"torch": 350e6, "onnx": 150e6, "onnx-int8": 150e6}  # the project's targets for memory, bytes by runtime
REQUESTS = 200
RESTART_LIMIT, CLONE_LIMIT = 200.0, 1800.0  # seconds until a start counts as failed
# A line of Python's -X importtime: microseconds of the module, microseconds with the modules it imports, and its name.
IMPORT = re.compile(r"-stderr MODEL_LOG - import time: +(\d+) \| +\d+ \| +([\w.]+)")
LOADED = re.compile(r'^WorkerLoadTime\{[^}]*WorkerName="W-[^}]*\} ([0-9.]+)', re.MULTILINE)


@dataclass(frozen=True)
class WorkerStart:
    """One start: seconds to READY, and bytes of worker and Java process after JSON requests, then after a CSV one."""

    ready_s: float
    rss: int
    pss: int
    rss_after_csv: int
    frontend_rss: int


def time_until_ready(command: Sequence[str], folder: Path, environ: dict[str, str], limit: float) -> float:
    """Return the seconds until a command that runs `spoter serve` prints that it is ready; then end it."""
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
            output_tail = " / ".join(map(str.strip, lines[-5:]))
            raise SpoterError(f"{' '.join(command[:2])} was not ready within {limit:g} s: {output_tail}")
        finally:
            guard.cancel()
            end_process_tree(process)  # `spoter serve` handles SIGTERM like Ctrl-C, and ends TorchServe's session


def separate_settings(model: Path, runtime: str, scratch: Path) -> dict[str, str]:
    """Return environment variables that give a server separate ports and folders."""
    ports = {name: str(free_port()) for name in ("SPOTER_PORT", "SPOTER_MANAGEMENT_PORT", "SPOTER_METRICS_PORT")}
    folders = {"SPOTER_LOGS": str(scratch / "logs"), "SPOTER_MODEL_STORE": str(scratch / "store")}
    return ports | folders | {"SPOTER_MODEL": str(model), "SPOTER_RUNTIME": runtime, "SPOTER_WORKERS": "1"}


def time_restart(model: Path, runtime: str) -> float:
    """Return the seconds until `spoter serve` is ready in this environment."""
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
            raise SpoterError("found no WorkerLoadTime in TorchServe's metrics, expected one per worker")
        run_closed_loop(server.url, [compact], 4, 60.0, most=REQUESTS).require_success()
        usage = measure_usage(server.leader)
        run_closed_loop(server.url, [csv], 4, 60.0, most=1).require_success()
        [worker], [after_csv] = usage.workers, measure_usage(server.leader).workers
        return WorkerStart(float(loaded[1]) / 1e3, worker.rss, worker.pss, after_csv.rss, usage.frontend.rss)


def measure_imports(model: Path, runtime: str) -> Counter[str]:
    """Return the milliseconds of a worker's imports, by package."""
    with running_server(model, runtime=runtime, settings={"PYTHONPROFILEIMPORTTIME": "1"}) as server:
        lines = (server.logs / "model_log.log").read_text(errors="replace")
    packages: Counter[str] = Counter()
    for own, name in IMPORT.findall(lines):
        package = name.split(".")[0]
        packages["standard library" if package in sys.stdlib_module_names else package] += int(own) / 1e3
    return packages


def report_clone(pip_args: str) -> str:
    """Clone the repository, run `make serve` in the clone, and return a line with the times."""
    commit = _run("git", "rev-parse", "--short", "HEAD")
    with tempfile.TemporaryDirectory(prefix="spoter-bench-") as scratch:
        started = time.perf_counter()
        folder = Path(scratch, "clone")
        _run("git", "clone", "--quiet", str(ROOT), str(folder))
        cloned = time.perf_counter() - started
        environ = os.environ | separate_settings(folder / "models" / "dgs11", "torch", Path(scratch))
        python = getattr(sys, "_base_executable", sys.executable)  # the interpreter outside of this environment
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
    """Return the cells of a row of the table; missed targets are marked."""
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
    runtime: Annotated[list[str] | None, typer.Option(help="Repeatable [default: torch and onnx].")] = None,
    starts: Annotated[int, typer.Option(min=1, help="Starts of each kind.")] = 3,
    from_clone: Annotated[bool, typer.Option("--clone", help="Also clone and install: minutes, gigabytes.")] = False,
    pip_args: Annotated[str, typer.Option(envvar="PIP_ARGS", help="PIP_ARGS of make serve, for --clone.")] = "",
) -> None:
    """Measure start times and memory, and print Markdown tables."""
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
            imports = measure_imports(model, name)
            bar.update()
            slowest = ", ".join(f"{package} {ms:.0f}" for package, ms in imports.most_common(8))
            packages.append(f"- {name}: {imports.total():.0f} in total; {slowest}")
    columns = ["runtime", "restart to ready, s", "worker to ready, s", "worker RSS, MB", "PSS, MB", "RSS after CSV, MB"]
    table = markdown_table([*columns, "Java RSS, MB"], rows)
    print(f"{describe_machine()}; times: median (maximum) of {starts} starts; memory: maximum\n\n{table}")
    print(f"Targets: worker ready within {READY_WITHIN:g} s; RSS at most 350 MB (torch), 150 MB (onnx).\n")
    print("Import times of a worker in milliseconds (measuring slows the imports):\n\n" + "\n".join(packages))
    if from_clone:
        print("\n" + report_clone(pip_args))


if __name__ == "__main__":
    run_command(main)
