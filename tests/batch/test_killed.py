"""`spoter predict … --out` as a process: killed, stopped by Ctrl-C, and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest

from spoter.batch.inputs import iterate_shards, scan_inputs
from spoter.batch.predictor import ShardPredictor
from spoter.cli import main
from spoter.errors import SpoterError
from tests.training.datasets import generated_points, write_hdf5

pytestmark = pytest.mark.slow

CLIPS = 600
SLOW_COMMAND = Path(__file__).with_name("slow_command.py")


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """An HDF5 file with few different clips, each of them many times."""
    rng = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("many") / "many.hdf5"
    write_hdf5(file, [(f"camera/{i}", "NOD", generated_points("NOD", 20 + i, rng)) for i in range(20)])
    with h5py.File(file, "a") as opened:
        for number in range(20, CLIPS):
            opened[str(number)] = opened[str(number % 20)]
    return file


def start(model: Path, clips: Path, out: Path, *options: str, slow: bool = False) -> subprocess.Popen:
    """Start the command with two workers in a new process group, as a terminal does; `slow` adds delays."""
    command = [sys.executable, *([str(SLOW_COMMAND)] if slow else ["-m", "spoter"])]
    command += ["predict", str(model), str(clips), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--jobs", "2", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode}: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_killed_and_interrupted_run_loses_no_shard_and_ends_with_the_same_bytes(tmp_path, many, dgs11):
    out, folder = tmp_path / "answers.jsonl", tmp_path / "answers.jsonl.parts"

    def saved() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.jsonl")}

    process = start(dgs11, many, out, slow=True)
    wait_until(lambda: len(saved()) >= 2, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(workers, timeout=30)[1], "workers live without their parent"
    after_kill = saved()
    assert 2 <= len(after_kill) < 20 and not out.exists()

    process = start(dgs11, many, out, slow=True)
    wait_until(lambda: len(saved()) >= len(after_kill) + 2, process)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate()
    assert (process.returncode, output) == (130, "")
    after_interrupt = saved()
    size, count = scan_inputs([many]).shard_size, len(after_interrupt)
    # The signal may arrive after a shard was written and before it was counted.
    assert any(f"{size * number} of {CLIPS} clips" in errors for number in (count - 1, count))
    assert errors.count("\n") == 1
    assert after_kill.items() <= after_interrupt.items() and count < 30 and not out.exists()

    with pytest.raises(SpoterError) as error:
        main.app(["predict", str(dgs11), str(many), "--out", str(out), "--top-k", "2"], standalone_mode=False)
    assert str(error.value).startswith(f"{folder}: found {count} parts ") and "\n" not in str(error.value)

    process = start(dgs11, many, out)
    output, errors = process.communicate()
    assert process.returncode == 0
    assert all(line.startswith("predicting: ") for line in errors.splitlines())  # progress, if it takes over 10 seconds
    assert output.startswith(f"{out}: {CLIPS} clips") and output.count("\n") == 1
    work = ShardPredictor(dgs11)
    assert out.read_bytes() == b"".join(work(shard.sources) for shard in iterate_shards([many], size))
    assert not folder.exists()


def test_errors_are_one_line_and_clips_with_errors_are_counted(tmp_path, dgs11, monkeypatch, capsys):
    (tmp_path / "a.json").write_text("{")
    process = start(dgs11, tmp_path / "a.json", tmp_path / "out.jsonl")
    output, errors = process.communicate()
    assert output.startswith(f"{tmp_path}/out.jsonl: 1 clip, 1 ") and output.count("\n") == 1 and errors == ""
    assert process.returncode == 2
    for model, options, part in (
        (tmp_path / "nowhere", [], f"{tmp_path}/nowhere/config.json: No such file or directory"),
        (dgs11, ["--accept", "text/csv"], "--accept"),
    ):
        files = [str(tmp_path / name) for name in ("a.json", "out.jsonl")]
        arguments = ["spoter", "predict", str(model), files[0], "--out", files[1], *options]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as exit_:
            main.main()
        output, errors = capsys.readouterr()
        assert (exit_.value.code, output) == (2, "") and part in errors and errors.startswith("error: ")
        assert errors.count("\n") == 1
