"""An unfinished run: killed at any moment, it goes on to what it would have become."""

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
from spoter.errors import DataError, ModelFolderError
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
    """Start `spoter train` as a process of its own; no shell in between that a signal would hit instead."""
    command = [sys.executable, "-m", "spoter", "train", str(data), "--out", str(out), *OPTIONS, *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


def wait_until(process: subprocess.Popen, condition) -> None:
    for _ in range(6000):
        if condition() or process.poll() is not None:
            return
        time.sleep(0.01)
    pytest.fail("the run did not come so far in a minute")


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


def test_a_run_killed_and_interrupted_ends_as_one_that_never_was(data, uninterrupted, tmp_path):
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
    said = process.communicate()[1].decode()
    assert process.returncode == 130, said
    assert said.strip().splitlines()[-1] == f"interrupted: the same command with --resume goes on from {out}"
    assert load_model_folder(out)  # the model itself was there before its folds began

    train(TrainSettings(data=data, out=out, folds=2, fold_epochs=4, **SETTINGS), resume=True)
    assert_same_model(out, uninterrupted)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in uninterrupted.iterdir())
    after = [line["seconds"] for line in lines(out / "metrics.jsonl")]
    assert after[: len(seconds)] == seconds and after == sorted(after)


def test_killed_at_random_moments_it_still_ends_the_same(data, uninterrupted, tmp_path, monkeypatch):
    """Killed within a write, too: in this process, so that many kills are cheap."""
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
            raise Killed  # written, and not yet in its place

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
    """A model folder with a finished model in it and the first two epochs of another."""
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
    """A copy of it."""
    return Path(shutil.copytree(stopped, tmp_path / "m"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_model_stays_while_another_is_trained_in_its_place(interrupted, data):
    assert load_model_folder(interrupted).glosses
    weights = (interrupted / "model.pth").read_bytes()
    train(TrainSettings(data=data, out=interrupted, **SETTINGS), resume=True)
    assert (interrupted / "model.pth").read_bytes() != weights and not is_unfinished(interrupted)


def test_an_unfinished_run_is_not_trained_over(interrupted, data):
    before = contents(interrupted)
    with pytest.raises(DataError, match=r"\.training: found an unfinished run"):
        train(TrainSettings(data=data, out=interrupted, **SETTINGS))
    assert contents(interrupted) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(epochs=9), "epochs was 8, is 9"),
        (dict(learning_rate=0.1, seed=1), "learning_rate was 0.003, is 0.1, seed was 0, is 1"),
        (dict(layout="29", heads=2), "layout was 54, is 29"),
        (dict(val_groups=("camera03",)), "val_groups was camera01, is camera03"),
    ],
)
def test_other_settings_are_another_run(interrupted, data, change, said):
    before = contents(interrupted)
    with pytest.raises(DataError, match=said):
        train(TrainSettings(data=data, out=interrupted, **(SETTINGS | change)), resume=True)
    assert contents(interrupted) == before


@pytest.mark.parametrize("option", ["", "--resume", "--fresh"])
def test_two_runs_at_once_do_not_share_a_folder(interrupted, data, monkeypatch, option):
    said = []

    def train_too(*_):
        said.append(start(data, interrupted, *option.split()).communicate()[1].decode())

    monkeypatch.setattr("spoter.training.train.fit", lambda *_: train_too() or pytest.fail("enough"))
    with pytest.raises(pytest.fail.Exception, match="enough"):
        train(TrainSettings(data=data, out=interrupted, **SETTINGS), resume=True)
    assert said == [f"error: {interrupted}: another command is writing into this folder, wait for it or stop it\n"]
    monkeypatch.undo()
    train(TrainSettings(data=data, out=interrupted, **SETTINGS), resume=True)


def test_other_data_are_another_run(interrupted, tmp_path):
    other = write_hdf5(tmp_path / "signs.hdf5", generated_clips(seed=1))
    with pytest.raises(DataError, match=r"data was clips [0-9a-f]+, is clips [0-9a-f]+"):
        train(TrainSettings(data=other, out=interrupted, **SETTINGS), resume=True)


def test_the_same_data_elsewhere_and_another_name_are_the_same_run(interrupted, data, tmp_path):
    moved = tmp_path / "moved.hdf5"
    moved.write_bytes(data.read_bytes())
    result = train(TrainSettings(data=moved, out=interrupted, name="other", **SETTINGS), resume=True)
    assert len(result.fitted.history) == SETTINGS["epochs"] and result.config.name == "other"


def test_fresh_starts_again(interrupted, data):
    result = train(TrainSettings(data=data, out=interrupted, **(SETTINGS | dict(epochs=1, seed=9))), fresh=True)
    assert len(result.fitted.history) == 1 and not is_unfinished(interrupted)


def test_resume_with_nothing_to_resume_starts(data, tmp_path):
    arguments = ["train", str(data), "--out", str(tmp_path / "m"), *OPTIONS, "--epochs", "1", "--resume"]
    run = CliRunner().invoke(app, arguments)
    assert run.exit_code == 0, run.output
    assert "nothing to resume, starting" in run.stderr
    assert load_model_folder(tmp_path / "m")
    both = CliRunner().invoke(app, [*arguments, "--fresh"])
    assert both.exit_code == 2


def test_a_state_that_is_none_is_said_and_left_alone(interrupted, data):
    (interrupted / FOLDER / "model.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match=r"model\.pt: cannot be read .*--fresh"):
        train(TrainSettings(data=data, out=interrupted, **SETTINGS), resume=True)


def test_a_state_that_would_run_code_is_refused(tmp_path):
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    run = UnfinishedRun(tmp_path, {"a": "1"})
    run.open()
    torch.save({"model": Harm()}, run.folder / "model.pt")
    with pytest.raises(DataError, match="cannot be read"):
        run.load_state("model")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("written", ["metrics.jsonl", "model.pth"])
def test_killed_while_it_writes_an_earlier_model_is_never_left_beside_another_split(
    interrupted, data, monkeypatch, written
):
    """Its test groups would be those that the earlier model was trained on."""
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


def test_tensorboard_has_each_epoch_once_after_a_resume(data, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = TrainSettings(
        data=data, out=tmp_path / "m", tensorboard=tmp_path / "board", **(SETTINGS | dict(epochs=3))
    )

    class Killed(BaseException):
        pass

    for epochs in (1, 3):  # killed between an epoch's state and showing it, the last one's too

        def die(watcher, history, epochs=epochs, show=MetricsWriter.__call__):
            if len(history) == epochs:
                raise Killed
            show(watcher, history)

        with monkeypatch.context() as patch:
            patch.setattr(MetricsWriter, "__call__", die)
            with pytest.raises(Killed):
                train(settings, resume=True)
    train(settings, resume=True)
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert [event.step for event in events.Scalars("validation/top1")] == [1, 2, 3]


def test_a_run_stopped_early_stays_stopped(data, tmp_path, monkeypatch):
    """Killed after its last epoch, before the model folder was written."""
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
