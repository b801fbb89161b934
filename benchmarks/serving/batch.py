"""Very many clips: `python -m benchmarks.serving.batch` times `spoter predict … --out` over HDF5 files that it makes.

Clips a second with one worker and with two, in turn; the most memory that a run takes, by the number of clips; and what
a run that is killed and gone on with costs more than one that is not. Markdown on stdout.
"""

from __future__ import annotations

import signal
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

from benchmarks import ROOT
from benchmarks.load.processes import end_on_signals
from spoter.landmarks.estimators import MEDIAPIPE

# Clips of a file that differ: more would fill the disk and cost no more to answer.
_DIFFERENT = 500
_FRAMES = (20, 100)
_MIB = 2**20


def write_clips(path: Path, count: int, seed: int = 0) -> Path:
    """Write a ConnectingPoints file of `count` made-up clips of 20 to 100 frames; 500 differ, the others are links.

    A body stands still, its hands wander at random: nothing that a model knows, and as much work as any clip.
    """
    rng = np.random.default_rng(seed)
    body = rng.uniform(0.3, 0.7, (len(MEDIAPIPE.names), 2))
    body[[MEDIAPIPE.names.index(f"pose_{side}_shoulder") for side in ("left", "right")]] = (0.62, 0.45), (0.38, 0.45)
    hands = [*range(*MEDIAPIPE.part("left_hand").indices(543)), *range(*MEDIAPIPE.part("right_hand").indices(543))]
    with h5py.File(path, "w", libver="latest") as file:
        for number in range(min(count, _DIFFERENT)):
            frames = int(rng.integers(*_FRAMES))
            points = np.repeat(body[None], frames, axis=0).astype(np.float32)
            points[:, hands] += np.cumsum(0.01 * rng.standard_normal((frames, 1, 2)), axis=0)
            file[f"{number}/data"] = points.transpose(0, 2, 1)
        for number in range(_DIFFERENT, count):
            file[str(number)] = file[str(number % _DIFFERENT)]
    return path


@dataclass(frozen=True)
class Run:
    """A run of the command: wall and processor seconds, and the most memory of each kind of process in MiB."""

    seconds: float
    cpu_s: float
    parent_mib: float
    worker_mib: float


def run(model: Path, clips: Path, out: Path, jobs: int, kill_after: float | None = None) -> Run:
    """Run the command and watch its processes; kill it where `kill_after` says how many parts are to be kept."""
    command = [sys.executable, "-m", "spoter.cli.main", "predict", str(model), str(clips), "--out", str(out)]
    started = time.perf_counter()
    process = subprocess.Popen([*command, "--jobs", str(jobs)], cwd=ROOT, stdout=subprocess.DEVNULL)
    parent, cpu = psutil.Process(process.pid), {}
    most = {"parent": 0.0, "worker": 0.0}
    try:
        while process.poll() is None:
            try:
                for one in (parent, *parent.children(recursive=True)):
                    times = one.cpu_times()
                    cpu[one.pid] = times.user + times.system
                    kind = "parent" if one == parent else "worker"
                    most[kind] = max(most[kind], one.memory_info().rss / _MIB)
            except psutil.NoSuchProcess:
                pass
            if kill_after is not None and len(list(out.with_name(f"{out.name}.parts").glob("*.jsonl"))) >= kill_after:
                process.send_signal(signal.SIGKILL)
                process.wait()
            time.sleep(0.05)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"spoter predict ended with {process.returncode}")
    return Run(time.perf_counter() - started, sum(cpu.values()), most["parent"], most["worker"])


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = ROOT / "models" / "dgs11",
    clips: Annotated[list[int] | None, typer.Option(help="Sizes of files, to see whether memory grows.")] = None,
    timed: Annotated[int, typer.Option(help="Clips of the file that workers are compared by.")] = 10_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of one and two workers in turn.")] = 3,
) -> None:
    """Time `spoter predict … --out`."""
    with tempfile.TemporaryDirectory(prefix="spoter-bulk-") as scratch:
        folder = Path(scratch)
        _workers(model, folder, timed, rounds)
        _memory(model, folder, clips or [10_000, 100_000])
        _killed(model, folder, timed)


def _workers(model: Path, folder: Path, count: int, rounds: int) -> None:
    file = write_clips(folder / "timed.hdf5", count)
    taken: dict[int, list[Run]] = {1: [], 2: []}
    for number in range(rounds):
        for jobs, runs in taken.items():
            runs.append(run(model, file, folder / f"timed-{jobs}-{number}.jsonl", jobs))
    print(f"### Workers, {count:,} clips\n\n| workers | clips/s | processor ms a clip |\n|---:|---:|---:|")
    for jobs, runs in taken.items():
        rate, cpu = (count / np.median([one.seconds for one in runs]), np.median([one.cpu_s for one in runs]))
        print(f"| {jobs} | {rate:.0f} | {1e3 * cpu / count:.2f} |")
    ratio = np.median([one.seconds / two.seconds for one, two in zip(taken[1], taken[2], strict=True)])
    print(f"\nTwo workers are {ratio:.2f} times as fast as one (median of {rounds} rounds, start included).\n")


def _memory(model: Path, folder: Path, sizes: list[int]) -> None:
    print("### Memory, 2 workers\n\n| clips | clips/s | parent MiB | largest worker MiB |\n|---:|---:|---:|---:|")
    for count in sizes:
        file = write_clips(folder / f"{count}.hdf5", count)
        one = run(model, file, folder / f"{count}.jsonl", 2)
        print(f"| {count:,} | {count / one.seconds:.0f} | {one.parent_mib:.0f} | {one.worker_mib:.0f} |", flush=True)
    print()


def _killed(model: Path, folder: Path, count: int) -> None:
    file, whole, out = folder / "timed.hdf5", folder / "timed-2-0.jsonl", folder / "killed.jsonl"
    run(model, file, out, 2, kill_after=8)
    kept = len(list((folder / "killed.jsonl.parts").glob("*.jsonl")))
    run(model, file, out, 2)
    same = "the same bytes as" if out.read_bytes() == whole.read_bytes() else "OTHER BYTES THAN"
    print(f"Killed with {kept} parts of {count:,} clips kept, and gone on with: {same} a run that was left alone.")
    if same.startswith("OTHER"):
        raise typer.Exit(1)


if __name__ == "__main__":
    end_on_signals()
    typer.run(main)
