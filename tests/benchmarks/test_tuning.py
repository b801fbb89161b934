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
def test_settings_depend_on_the_cores_and_include_the_default(cores, runtime, pairs):
    chosen = tuning.list_settings(cores, runtime)
    assert {(setting.workers, setting.threads) for setting in chosen} == pairs
    assert len(chosen) == len(set(chosen)) and tuning.default_setting(cores) in chosen
    assert all(setting.delay >= 1 for setting in chosen)  # TorchServe replaces 0 by its default, 100


def test_table_is_ranked_and_marks_the_default():
    def figures(rate: float) -> dict[int, Figures]:
        return {clients: Figures(rate * clients, 10.0, 15.0, 20.0, 3.25) for clients in CLIENTS}

    slow, fast = Setting(1, 1, 4, 1), Setting(2, 1, 8, 1)
    *_, first, second = tuning.results_table({slow: figures(1.0), fast: figures(2.0)}, slow).splitlines()
    assert first.startswith("| 2 | 1 | 8 | 1 | 2 |") and first.endswith("| 64 | 10.0 | 20.0 | 3.25 |")
    assert second.startswith("| **1** (default) | 1 | 4 | 1 |")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin processes to cores")
def test_server_and_client_are_pinned_to_different_cores():
    available = os.sched_getaffinity(0)
    count_cores = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]
    try:
        with tuning.pin_to_cores(1):
            assert subprocess.check_output(count_cores) == b"1\n"
        assert os.sched_getaffinity(0) == (set(sorted(available)[1:]) or available)
    finally:
        os.sched_setaffinity(0, available)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("benchmarks.serving.tuning", ["--cores", "100000"]),
        ("benchmarks.serving.tuning", ["--model", "nowhere"]),
        ("benchmarks.serving.startup", ["--runtime", "tensorflow"]),
    ],
)
def test_invalid_options_are_errors_of_one_line(module, arguments):
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("error: ") and arguments[1] in line


def test_server_that_does_not_start_is_an_error_with_its_output(tmp_path):
    ready = [sys.executable, "-c", "import time; print('ready after 1 s', flush=True); time.sleep(60)"]
    assert startup.time_until_ready(ready, tmp_path, dict(os.environ), 30.0) < 30
    broken = [sys.executable, "-c", "print('found no Java')"]
    with pytest.raises(SpoterError, match="found no Java"):
        startup.time_until_ready(broken, tmp_path, dict(os.environ), 30.0)
    with pytest.raises(SpoterError, match=r"0\.2 s"):
        startup.time_until_ready([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, dict(os.environ), 0.2)


def test_import_times_and_worker_load_times_are_parsed():
    line = (
        "2026-11-23T02:44:11,882 [WARN ] W-9000-spoter_1.1-stderr MODEL_LOG - import time:      2464 |      46463 |   "
    )
    assert startup.IMPORT.findall(f"{line}numpy.lib\n{line}torch\nother import time: 1 | 2 | x") == [
        ("2464", "numpy.lib"),
        ("2464", "torch"),
    ]
    metrics = '# HELP\nWorkerLoadTime{WorkerName="W-9000-spoter_1.1",Level="Host",Hostname="h",} 3049.0\n'
    assert startup.LOADED.search(metrics)[1] == "3049.0"


def test_missed_targets_are_marked():
    worker = startup.WorkerStart(ready_s=5.1, rss=149_000_000, pss=1, rss_after_csv=1, frontend_rss=1)
    row = " | ".join(startup.make_row("onnx", [1.0], [worker]))
    assert row.count("**missed**") == 1 and "5.1 (5.1) **missed**" in row
    assert (
        " | ".join(startup.make_row("torch", [1.0], [startup.WorkerStart(1.0, 351_000_000, 1, 1, 1)])).count(
            "**missed**"
        )
        == 1
    )
