"""`spoter predict … --out` as a process: killed, stopped by Ctrl-C, and gone on with."""

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
SLOWLY = Path(__file__).with_name("slow_command.py")


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """An HDF5 file of few clips, each under many names."""
    rng = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("many") / "many.hdf5"
    write_hdf5(file, [(f"camera/{i}", "NOD", generated_points("NOD", 20 + i, rng)) for i in range(20)])
    with h5py.File(file, "a") as opened:
        for number in range(20, CLIPS):
            opened[str(number)] = opened[str(number % 20)]
    return file


def start(model: Path, clips: Path, out: Path, *options: str, slowly: bool = False) -> subprocess.Popen:
    """Start the command with two workers, in a group of its own, as a terminal does; `slowly`, to strike it midway."""
    command = [sys.executable, *([str(SLOWLY)] if slowly else ["-m", "spoter"])]
    command += ["predict", str(model), str(clips), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--jobs", "2", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def wait_until(true: Callable[[], bool], process: subprocess.Popen) -> None:
    until = time.monotonic() + 120
    while not true():
        assert process.poll() is None, f"ended with {process.returncode}: {process.communicate()}"
        assert time.monotonic() < until
        time.sleep(0.005)


def test_killed_and_stopped_it_loses_no_part_and_ends_in_the_same_bytes(tmp_path, many, dgs11):
    out, folder = tmp_path / "answers.jsonl", tmp_path / "answers.jsonl.parts"

    def kept() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.jsonl")}

    process = start(dgs11, many, out, slowly=True)
    wait_until(lambda: len(kept()) >= 2, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(workers, timeout=30)[1], "workers live on without their parent"
    killed = kept()
    assert 2 <= len(killed) < 20 and not out.exists()

    process = start(dgs11, many, out, slowly=True)
    wait_until(lambda: len(kept()) >= len(killed) + 2, process)
    os.killpg(process.pid, signal.SIGINT)
    said, complaint = process.communicate()
    assert (process.returncode, said) == (130, "")
    stopped = kept()
    size = scan_inputs([many]).shard_size
    # The signal may come when a part is written and not yet counted.
    assert any(f"{size * number} of {CLIPS} clips" in complaint for number in (len(stopped) - 1, len(stopped)))
    assert complaint.count("\n") == 1
    assert killed.items() <= stopped.items() and len(stopped) < 30 and not out.exists()

    with pytest.raises(SpoterError) as error:
        main.app(["predict", str(dgs11), str(many), "--out", str(out), "--top-k", "2"], standalone_mode=False)
    assert f"found {len(stopped)} parts of other options (none)" in str(error.value) and "\n" not in str(error.value)

    process = start(dgs11, many, out)
    said, complaint = process.communicate()
    assert (process.returncode, complaint) == (0, "")
    assert said == f"{out}: {CLIPS} clips, none of them with an error\n"
    work = ShardPredictor(dgs11)
    assert out.read_bytes() == b"".join(work(shard.sources) for shard in iterate_shards([many], size))
    assert not folder.exists()


def test_mistakes_are_one_line_and_errors_are_counted(tmp_path, dgs11, monkeypatch, capsys):
    (tmp_path / "a.json").write_text("{")
    process = start(dgs11, tmp_path / "a.json", tmp_path / "out.jsonl")
    assert process.communicate() == (f"{tmp_path}/out.jsonl: 1 clip, 1 of them with an error\n", "")
    assert process.returncode == 2
    for model, options, complaint in (
        (tmp_path / "nowhere", [], f"{tmp_path}/nowhere/config.json: No such file or directory"),
        (dgs11, ["--accept", "text/csv"], "found --out with --server or --accept, expected a MODEL, and JSON Lines"),
    ):
        files = [str(tmp_path / name) for name in ("a.json", "out.jsonl")]
        arguments = ["spoter", "predict", str(model), files[0], "--out", files[1], *options]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as ended:
            main.main()
        said, told = capsys.readouterr()
        assert (ended.value.code, said) == (2, "") and complaint in told and told.startswith("error: ")
        assert told.count("\n") == 1
