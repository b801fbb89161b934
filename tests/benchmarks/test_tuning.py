"""benchmarks.serving.tuning and .startup without a server: settings to try, ranking, TorchServe's output, errors."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.load.client import Figures
from benchmarks.serving import startup, tuning
from benchmarks.serving.tuning import CLIENTS, Setting
from spoter.errors import SpoterError
from tests import ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("cores", "runtime", "pairs"),
    [
        (1, "torch", {(1, 1), (2, 1)}),
        (2, "torch", {(1, 1), (1, 2), (2, 1), (3, 1)}),
        (4, "torch", {(2, 1), (2, 2), (4, 1), (5, 1)}),
        (4, "onnx", {(2, 1), (4, 1), (5, 1)}),
    ],
)
def test_what_is_tried_goes_with_the_cores_and_holds_the_default(cores, runtime, pairs):
    chosen = tuning.list_settings(cores, runtime)
    assert {(setting.workers, setting.threads) for setting in chosen} == pairs
    assert len(chosen) == len(set(chosen)) and tuning.default_setting(cores) in chosen
    assert all(setting.delay >= 1 for setting in chosen)  # 0 is TorchServe's default, 100


def test_the_table_is_ranked_and_marks_the_default():
    def found(rate: float) -> dict[int, Figures]:
        return {clients: Figures(rate * clients, 10.0, 15.0, 20.0, 3.25) for clients in CLIENTS}

    slow, fast = Setting(1, 1, 4, 1), Setting(2, 1, 8, 1)
    *_, first, second = tuning.results_table({slow: found(1.0), fast: found(2.0)}, slow).splitlines()
    assert first.startswith("| 2 | 1 | 8 | 1 | 2 |") and first.endswith("| 64 | 10.0 | 20.0 | 3.25 |")
    assert second.startswith("| **1** (default) | 1 | 4 | 1 |")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system keeps no process on some cores")
def test_a_server_is_kept_on_its_cores_and_its_client_off_them():
    ours = os.sched_getaffinity(0)
    look = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]
    try:
        with tuning.pin_to_cores(1):
            assert subprocess.check_output(look) == b"1\n"
        assert os.sched_getaffinity(0) == (set(sorted(ours)[1:]) or ours)
    finally:
        os.sched_setaffinity(0, ours)


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        (
            "benchmarks.serving.tuning",
            ["--cores", "100000"],
            "cores to use, expected at least 100000: run this on a larger machine",
        ),
        ("benchmarks.serving.tuning", ["--model", "nowhere"], "nowhere: found no such folder"),
        (
            "benchmarks.serving.startup",
            ["--runtime", "tensorflow"],
            "found the runtime tensorflow, expected one of torch, onnx",
        ),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_line(module, arguments, said):
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("error: ") and said in line


def test_a_server_that_does_not_come_up_fails_with_what_it_said(tmp_path):
    ready = [sys.executable, "-c", "import time; print('ready after 1 s', flush=True); time.sleep(60)"]
    assert startup.time_until_ready(ready, tmp_path, dict(os.environ), 30.0) < 30
    broken = [sys.executable, "-c", "print('found no Java')"]
    with pytest.raises(SpoterError, match=r"was not ready.*found no Java"):
        startup.time_until_ready(broken, tmp_path, dict(os.environ), 30.0)
    with pytest.raises(SpoterError, match=r"was not ready within 0.2 s"):
        startup.time_until_ready([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, dict(os.environ), 0.2)


def test_what_torchserve_says_of_a_start_is_read():
    said = (
        "2026-11-23T02:44:11,882 [WARN ] W-9000-spoter_1.1-stderr MODEL_LOG - import time:      2464 |      46463 |   "
    )
    assert startup.IMPORT.findall(f"{said}numpy.lib\n{said}torch\nother import time: 1 | 2 | x") == [
        ("2464", "numpy.lib"),
        ("2464", "torch"),
    ]
    metrics = '# HELP\nWorkerLoadTime{WorkerName="W-9000-spoter_1.1",Level="Host",Hostname="h",} 3049.0\n'
    assert startup.LOADED.search(metrics)[1] == "3049.0"


def test_a_bar_that_was_missed_is_marked():
    worker = startup.WorkerStart(ready_s=5.1, rss=149_000_000, pss=1, rss_after_csv=1, frontend_rss=1)
    row = " | ".join(startup.make_row("onnx", [1.0], [worker]))
    assert row.count("**missed**") == 1 and "5.1 (5.1) **missed**" in row
    assert (
        " | ".join(startup.make_row("torch", [1.0], [startup.WorkerStart(1.0, 351_000_000, 1, 1, 1)])).count(
            "**missed**"
        )
        == 1
    )
