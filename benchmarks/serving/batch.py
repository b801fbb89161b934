"""Large batches: `python -m benchmarks.serving.batch` times `spoter predict … --out` on HDF5 files that it writes.

It prints clips per second with one and with two workers, in alternating rounds; the peak memory of a run by the number
of clips; and whether a killed and resumed run writes the same bytes as an uninterrupted run.
"""

import contextlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import h5py
import numpy as np
import psutil
import typer

from benchmarks import MODEL, ROOT
from benchmarks.command import ModelOption, run_command
from benchmarks.tables import markdown_table
from spoter.errors import SpoterError
from spoter.landmarks.estimators import MEDIAPIPE

_DIFFERENT = 500  # different clips in a file: more would only need disk space
_MIB = 2**20


def write_clips(path: Path, count: int, seed: int = 0) -> Path:
    """Write a ConnectingPoints file of `count` random clips of 20 to 99 frames; all but 500 are links to others."""
    rng = np.random.default_rng(seed)
    body = rng.uniform(0.3, 0.7, (len(MEDIAPIPE.names), 2))  # no sign, but the same cost
    body[[MEDIAPIPE.names.index(f"pose_{side}_shoulder") for side in ("left", "right")]] = (0.62, 0.45), (0.38, 0.45)
    hands = np.r_[MEDIAPIPE.part("left_hand"), MEDIAPIPE.part("right_hand")]
    with h5py.File(path, "w", libver="latest") as file:
        for number in range(min(count, _DIFFERENT)):
            frames = int(rng.integers(20, 100))
            points = np.repeat(body[None], frames, axis=0).astype(np.float32)
            points[:, hands] += np.cumsum(0.01 * rng.standard_normal((frames, 1, 2)), axis=0)
            file[f"{number}/data"] = points.transpose(0, 2, 1)
        for number in range(_DIFFERENT, count):
            file[str(number)] = file[str(number % _DIFFERENT)]
    return path


@dataclass(frozen=True)
class Run:
    """A run of the command: wall and processor seconds, and the peak MiB of the parent and of a worker."""

    seconds: float
    cpu_s: float
    parent_mib: float
    worker_mib: float


def run_predict(model: Path, clips: Path, out: Path, jobs: int, kill_after: int | None = None) -> Run:
    """Run `spoter predict` and measure its processes; kill it after `kill_after` finished parts."""
    command = [sys.executable, "-m", "spoter", "predict", str(model), str(clips), "--out", str(out)]
    started = time.perf_counter()
    process = subprocess.Popen([*command, "--jobs", str(jobs)], cwd=ROOT, stdout=subprocess.DEVNULL)
    parent = psutil.Process(process.pid)
    cpu: dict[int, float] = {}
    parent_rss = worker_rss = 0
    try:
        while process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):  # the process has ended since
                parent_rss = max(parent_rss, parent.memory_info().rss)
                workers = parent.children(recursive=True)
                worker_rss = max([worker_rss, *(worker.memory_info().rss for worker in workers)])
                cpu |= {each.pid: sum(each.cpu_times()[:2]) for each in (parent, *workers)}
            if kill_after is not None and _count_parts(out) >= kill_after:
                process.kill()
                process.wait()
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGINT)  # no effect if it has ended
        process.wait()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SpoterError(f"spoter predict ended with status {process.returncode}")
    return Run(time.perf_counter() - started, sum(cpu.values()), parent_rss / _MIB, worker_rss / _MIB)


def _count_parts(out: Path) -> int:
    return len(list(out.with_name(f"{out.name}.parts").glob("*.jsonl")))


def report_workers(model: Path, folder: Path, count: int, rounds: int) -> str:
    """Return a Markdown table that compares one worker with two."""
    file = write_clips(folder / "timed.hdf5", count)
    runs: dict[int, list[Run]] = {1: [], 2: []}
    for number in range(rounds):
        for jobs, rounds_so_far in runs.items():
            rounds_so_far.append(run_predict(model, file, folder / f"timed-{jobs}-{number}.jsonl", jobs))
    rows = []
    for jobs, all_rounds in runs.items():
        seconds, cpu_s = (statistics.median(getattr(run, name) for run in all_rounds) for name in ("seconds", "cpu_s"))
        rows.append((jobs, f"{count / seconds:.0f}", f"{1e3 * cpu_s / count:.2f}"))
    ratio = statistics.median(one.seconds / two.seconds for one, two in zip(*runs.values(), strict=True))
    table = markdown_table(("workers", "clips/s", "CPU ms per clip"), rows, f"Workers, {count:,} clips", left=0)
    return f"{table}\nTwo workers are {ratio:.2f} times as fast as one (median of {rounds} rounds, with the start).\n"


def report_memory(model: Path, folder: Path, sizes: list[int]) -> str:
    """Return a Markdown table of peak memory by the number of clips."""
    rows = []
    for count in sizes:
        run = run_predict(model, write_clips(folder / f"{count}.hdf5", count), folder / f"{count}.jsonl", 2)
        rows.append((f"{count:,}", f"{count / run.seconds:.0f}", f"{run.parent_mib:.0f}", f"{run.worker_mib:.0f}"))
    return markdown_table(("clips", "clips/s", "parent MiB", "largest worker MiB"), rows, "Memory, 2 workers", left=0)


def report_resume(model: Path, folder: Path, count: int) -> str:
    """Kill a run with the file of `report_workers`, resume it, and compare its output with an uninterrupted run."""
    file, uninterrupted, out = folder / "timed.hdf5", folder / "timed-2-0.jsonl", folder / "killed.jsonl"
    run_predict(model, file, out, 2, kill_after=8)
    parts = _count_parts(out)
    run_predict(model, file, out, 2)
    if out.read_bytes() != uninterrupted.read_bytes():
        raise SpoterError(f"a run killed after {parts} parts and resumed wrote other bytes than an uninterrupted run")
    return f"A run over {count:,} clips, killed after {parts} parts and resumed, wrote the same bytes as without kill."


def main(
    model: ModelOption = MODEL,
    clips: Annotated[list[int] | None, typer.Option(help="Clips per file, for the memory table; repeatable.")] = None,
    timed: Annotated[int, typer.Option(help="Clips in the file for the comparison of workers.")] = 10_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; each runs one worker, then two.")] = 3,
) -> None:
    """Time `spoter predict … --out`, and print Markdown tables."""
    with tempfile.TemporaryDirectory(prefix="spoter-bulk-") as scratch:
        folder = Path(scratch)
        print(report_workers(model, folder, timed, rounds), flush=True)
        print(report_memory(model, folder, clips or [10_000, 100_000]), flush=True)
        print(report_resume(model, folder, timed))


if __name__ == "__main__":
    run_command(main)
