"""Progress of long work, in a terminal and in a log."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spoter import progress
from spoter.cli.main import app
from spoter.progress import progress_bar
from tests.training.datasets import SMALL, write_hdf5

pytestmark = pytest.mark.slow

OPTIONS = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def data(tmp_path) -> Path:
    return write_hdf5(tmp_path / "signs.hdf5")


def test_log_gets_lines_at_intervals_and_none_for_short_work(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    assert list(progress_bar(range(1000), shown=True, desc="reading", unit="clip")) == list(range(1000))
    assert log.getvalue() == ""
    monkeypatch.setattr(progress, "_LINE_INTERVAL_S", 0.0)
    list(progress_bar(range(3), shown=True, desc="reading", unit="clip"))
    lines = log.getvalue().splitlines()
    assert lines[-1].startswith("reading: 3/3 clips, ") and "\r" not in log.getvalue() and "" not in lines
    log.truncate(0)
    list(progress_bar(range(3), shown=False))
    assert log.getvalue().strip("\0") == ""


def test_terminal_gets_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    list(progress_bar(range(3), shown=True, desc="reading", unit="clip"))
    assert "\rreading: 100%|" in terminal.getvalue()


def test_training_prints_one_line_per_epoch_without_a_terminal(data, tmp_path):
    done = CliRunner().invoke(app, ["train", str(data), "--out", str(tmp_path / "m"), *OPTIONS, "--epochs", "3"])
    assert done.exit_code == 0, done.exception
    lines = [line for line in done.stderr.splitlines() if line.startswith("model: ")]
    assert [f"epoch={number}," in line for number, line in enumerate(lines, start=1)] == [True] * 3
    assert all("validation_top1=" in line for line in lines)


def test_evaluating_and_exporting_print_lines_without_a_terminal(data, tmp_path, monkeypatch):
    model = str(tmp_path / "m")
    assert CliRunner().invoke(app, ["train", str(data), "--out", model, *OPTIONS, "--epochs", "1"]).exit_code == 0
    monkeypatch.setattr(progress, "_LINE_INTERVAL_S", 0.0)
    done = CliRunner().invoke(app, ["evaluate", model, str(data), "--split", "test", "--json"])
    assert "reading: 54/" in done.stderr and "evaluating: 9/9 clips" in done.stderr and done.stdout.count("\n") == 1
    done = CliRunner().invoke(app, ["export", model, "--int8", "--data", str(data)])
    assert done.exit_code == 0 and "int8: " in done.stderr
