"""Resuming a training run: after an interruption at any time, it yields the model of an uninterrupted run."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from spoter.cli.main import app
from spoter.errors import DataError, ModelFolderError, SpoterError
from spoter.model.folder import load_model_folder
from spoter.training.curves import MetricsWriter
from spoter.training.resume import FOLDER, UnfinishedRun, is_unfinished
from spoter.training.settings import TrainSettings
from spoter.training.train import train
from tests import ROOT
from tests.training.datasets import SMALL, generated_clips, write_hdf5

pytestmark = pytest.mark.slow

SETTINGS = SMALL | dict(epochs=8, val_groups=("camera01",), test_groups=("camera02",))
OPTIONS = [
    word
    for name, value in SETTINGS.items()
    for word in (f"--{name.replace('_', '-')}", ",".join(value) if isinstance(value, tuple) else str(value))
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_hdf5(tmp_path_factory.mktemp("data") / "signs.hdf5")


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("models") / "m"
    train(TrainSettings(data=data, out=out, folds=2, fold_epochs=4, **SETTINGS))
    return out


def start(data: Path, out: Path, *options: str) -> subprocess.Popen:
    """Start `spoter train` as a process, without a shell that would receive the signals."""
    command = [sys.executable, "-m", "spoter", "train", str(data), "--out", str(out), *OPTIONS, *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


def wait_until(process: subprocess.Popen, condition) -> None:
    for _ in range(6000):
        if condition() or process.poll() is not None:
            return
        time.sleep(0.01)
    pytest.fail("condition not met within a minute")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def without_seconds(path: Path) -> list[dict]:
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines(path)]


def assert_same_model(out: Path, other: Path) -> None:
    for name in ("model.pth", "config.json", "meaning.json", "prototypes.npz", "split.json"):
        assert (out / name).read_bytes() == (other / name).read_bytes(), name
    assert without_seconds(out / "metrics.jsonl") == without_seconds(other / "metrics.jsonl")
    cards = [(folder / "MODEL_CARD.md").read_text().partition("## Figures")[2] for folder in (out, other)]
    assert cards[0] and cards[0] == cards[1]


def test_killed_and_interrupted_run_ends_like_an_uninterrupted_one(data, uninterrupted, tmp_path):
    out = tmp_path / "m"
    process = start(data, out, "--folds", "2", "--fold-epochs", "4")
    wait_until(process, lambda: len(lines(out / FOLDER / "metrics.jsonl")) >= 2)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert is_unfinished(out) and not (out / "config.json").exists()
    seconds = [line["seconds"] for line in lines(out / FOLDER / "metrics.jsonl")]

    process = start(data, out, "--folds", "2", "--fold-epochs", "4", "--resume")
    wait_until(process, lambda: (out / FOLDER / "fold-1.pt").exists())
    process.send_signal(signal.SIGINT)
    stderr = process.communicate()[1].decode()
    assert process.returncode == 130, stderr
    assert "--resume" in stderr.splitlines()[-1] and str(out) in stderr.splitlines()[-1]
    assert load_model_folder(out)  # written before the folds

    train(TrainSettings(data=data, out=out, folds=2, fold_epochs=4, **SETTINGS), resume=True)
    assert_same_model(out, uninterrupted)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in uninterrupted.iterdir())
    after = [line["seconds"] for line in lines(out / "metrics.jsonl")]
    assert after[: len(seconds)] == seconds and after == sorted(after)


def test_run_killed_at_random_times_ends_like_an_uninterrupted_one(data, uninterrupted, tmp_path, monkeypatch):
    """Includes kills during a write. Simulated in this process, so that many kills are cheap."""
    out = tmp_path / "m"
    rng = random.Random(4)
    settings = TrainSettings(data=data, out=out, folds=2, fold_epochs=4, **SETTINGS)

    class Killed(BaseException):
        pass

    save, kills = torch.save, 0

    def save_or_die(state, stream, *rest):
        if rng.random() < 0.3:
            stream.write(b"half a file")
            raise Killed
        save(state, stream, *rest)
        if rng.random() < 0.2:
            raise Killed  # written, but not yet renamed

    monkeypatch.setattr(torch, "save", save_or_die)
    while True:
        try:
            train(settings, resume=True)
            break
        except Killed:
            kills += 1
    assert kills >= 5
    assert_same_model(out, uninterrupted)


@pytest.fixture(scope="module")
def stopped(data, tmp_path_factory) -> Path:
    """A model folder with a finished model and an unfinished run with two epochs."""
    out = tmp_path_factory.mktemp("models") / "m"
    train(TrainSettings(data=data, out=out, **(SETTINGS | dict(epochs=1, seed=3))))

    class Stop(Exception):
        pass

    def stop(_, history):
        if len(history) == 2:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spoter.training.curves.MetricsWriter.__call__", stop)
        with pytest.raises(Stop):
            train(TrainSettings(data=data, out=out, **SETTINGS))
    return out


@pytest.fixture
def interrupted(stopped, tmp_path) -> Path:
    """A copy of `stopped`."""
    return Path(shutil.copytree(stopped, tmp_path / "m"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_finished_model_stays_until_the_next_run_in_its_folder_is_finished(interrupted, data):
    assert load_model_folder(interrupted).glosses
    weights = (interrupted / "model.pth").read_bytes()
    train(TrainSettings(data=data, out=interrupted, **SETTINGS), resume=True)
    assert (interrupted / "model.pth").read_bytes() != weights and not is_unfinished(interrupted)


def test_unfinished_run_is_not_overwritten(interrupted, data):
    before = contents(interrupted)
    with pytest.raises(DataError, match=r"\.training: .*--resume.*--fresh"):
        train(TrainSettings(data=data, out=interrupted, **SETTINGS))
    assert contents(interrupted) == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (dict(epochs=9), r"epochs\b.* 8\b.* 9\b"),
        (dict(learning_rate=0.1, seed=1), r"learning_rate\b.* 0\.003\b.* 0\.1\b.*seed\b.* 0\b.* 1\b"),
        (dict(layout="29", heads=2), r"layout\b.* 54\b.* 29\b"),
        (dict(val_groups=("camera03",)), "val_groups.*camera01.*camera03"),
    ],
)
def test_run_does_not_resume_with_other_settings(interrupted, data, change, named):
    before = contents(interrupted)
    with pytest.raises(DataError, match=named):
        train(TrainSettings(data=data, out=interrupted, **(SETTINGS | change)), resume=True)
    assert contents(interrupted) == before


@pytest.mark.parametrize("option", ["", "--resume", "--fresh"])
def test_concurrent_runs_cannot_share_a_folder(interrupted, data, monkeypatch, option):
    seconds = []

    def start_second_run(*_):
        arguments = ["train", str(data), "--out", str(interrupted), *OPTIONS, *option.split()]
        seconds.append(CliRunner().invoke(app, arguments).exception)

    with monkeypatch.context() as patch:
        patch.setattr("spoter.training.train.fit", lambda *_: start_second_run() or pytest.fail("stop"))
        with pytest.raises(pytest.fail.Exception, match="stop"):
            train(TrainSettings(data=data, out=interrupted, **SETTINGS), resume=True)
    (error,) = seconds
    assert isinstance(error, SpoterError) and str(error).startswith(f"{interrupted}: ")
    if option == "--resume":
        train(TrainSettings(data=data, out=interrupted, **SETTINGS), resume=True)


def test_run_does_not_resume_with_other_data(interrupted, tmp_path):
    other = write_hdf5(tmp_path / "signs.hdf5", generated_clips(seed=1))
    with pytest.raises(DataError, match=r"data\b.* [0-9a-f]{12}\b.* [0-9a-f]{12}\b"):
        train(TrainSettings(data=other, out=interrupted, **SETTINGS), resume=True)


def test_run_resumes_with_moved_data_and_another_name(interrupted, data, tmp_path):
    moved = tmp_path / "moved.hdf5"
    moved.write_bytes(data.read_bytes())
    result = train(TrainSettings(data=moved, out=interrupted, name="other", **SETTINGS), resume=True)
    assert len(result.fitted.history) == SETTINGS["epochs"] and result.config.name == "other"


def test_fresh_deletes_the_unfinished_run(interrupted, data):
    result = train(TrainSettings(data=data, out=interrupted, **(SETTINGS | dict(epochs=1, seed=9))), fresh=True)
    assert len(result.fitted.history) == 1 and not is_unfinished(interrupted)


def test_resume_without_an_unfinished_run_starts_one(data, tmp_path):
    arguments = ["train", str(data), "--out", str(tmp_path / "m"), *OPTIONS, "--epochs", "1", "--resume"]
    run = CliRunner().invoke(app, arguments)
    assert run.exit_code == 0, run.output
    assert f"{tmp_path / 'm'}: " in run.stderr
    assert load_model_folder(tmp_path / "m")
    both = CliRunner().invoke(app, [*arguments, "--fresh"])
    assert both.exit_code == 2


def test_damaged_state_is_refused(interrupted, data):
    (interrupted / FOLDER / "model.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match=r"model\.pt: .*--fresh"):
        train(TrainSettings(data=data, out=interrupted, **SETTINGS), resume=True)


def test_state_that_would_run_code_is_refused(tmp_path):
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    run = UnfinishedRun(tmp_path, {"a": "1"})
    run.open()
    torch.save({"model": Harm()}, run.folder / "model.pt")
    with pytest.raises(DataError, match=r"model\.pt: "):
        run.load_state("model")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("written", ["metrics.jsonl", "model.pth"])
def test_killed_write_never_leaves_an_earlier_model_with_a_new_split(interrupted, data, monkeypatch, written):
    """The test groups of the new split could be training groups of the earlier model."""
    from spoter import files

    earlier = (interrupted / "split.json").read_bytes()

    class Killed(BaseException):
        pass

    replace = os.replace

    def replace_or_die(source, target):
        if target == interrupted / written:
            raise Killed
        replace(source, target)

    other = SETTINGS | dict(test_groups=("camera03",))
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", replace_or_die)
        with pytest.raises(Killed):
            train(TrainSettings(data=data, out=interrupted, **other), fresh=True)
    assert (interrupted / "split.json").read_bytes() != earlier
    with pytest.raises(ModelFolderError, match=r"config\.json"):
        load_model_folder(interrupted)
    train(TrainSettings(data=data, out=interrupted, **other), resume=True)
    assert load_model_folder(interrupted)


def test_tensorboard_has_each_epoch_once_after_resuming(data, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = TrainSettings(
        data=data, out=tmp_path / "m", tensorboard=tmp_path / "board", **(SETTINGS | dict(epochs=3))
    )

    class Killed(BaseException):
        pass

    for epochs in (1, 3):  # killed after saving the state of an epoch and before writing its events

        def die(writer, history, epochs=epochs, write=MetricsWriter.__call__):
            if len(history) == epochs:
                raise Killed
            write(writer, history)

        with monkeypatch.context() as patch:
            patch.setattr(MetricsWriter, "__call__", die)
            with pytest.raises(Killed):
                train(settings, resume=True)
    train(settings, resume=True)
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert [event.step for event in events.Scalars("validation/top1")] == [1, 2, 3]


def test_early_stop_remains_after_resuming(data, tmp_path, monkeypatch):
    """The run is killed after its last epoch, before the model folder is written."""
    settings = TrainSettings(data=data, out=tmp_path / "m", **(SETTINGS | dict(epochs=30, patience=2, average=0.0)))

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("spoter.training.train.write_model_folder", fail)
        with pytest.raises(OSError, match="No space"):
            train(settings)
    done = lines(tmp_path / "m" / FOLDER / "metrics.jsonl")
    result = train(settings, resume=True)
    assert len(result.fitted.history) == len(done) < 30
    assert len(done) - result.fitted.epoch == 2
