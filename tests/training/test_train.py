"""`spoter train`, from a generated data set to a model folder."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from spoter.cli.main import app
from spoter.errors import DataError, ModelFolderError
from spoter.model.folder import load_model_folder
from spoter.training.calibration import fit_calibration
from spoter.training.data.split_record import SPLIT, read_split
from spoter.training.evaluation.evaluate import evaluate
from spoter.training.loop import LabelledLogits, warmup_cosine
from spoter.training.prepare import prepare
from spoter.training.settings import OPTIONS, RECIPES, TrainSettings
from spoter.training.train import train
from tests.training import datasets as training_data
from tests.training.datasets import GLOSSES, generated_clips, generated_points, write_hdf5

pytestmark = pytest.mark.slow

SMALL = training_data.SMALL | dict(epochs=24)
OPTIONS_OF_SMALL = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
NAMED = dict(val_groups=("camera01",), test_groups=("camera02",))  # faster than drawing a split


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_hdf5(tmp_path_factory.mktemp("data") / "signs.hdf5")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "signs"
    return out, train(TrainSettings(data=data, out=out, **SMALL))


def test_training_learns_three_signs_with_different_movements(trained):
    _, result = trained
    assert result.test.top(1) >= 0.85  # 1/3 by chance
    assert result.fitted.history[-1]["train_loss"] < result.fitted.history[0]["train_loss"]


def test_weights_are_those_of_the_best_validation_accuracy(trained):
    _, result = trained
    history = result.fitted.history
    best = max(history, key=lambda line: (line["validation_top1"], line["epoch"]))
    assert result.fitted.epoch == best["epoch"]
    assert result.validation.top(1) == pytest.approx(best["validation_top1"])
    uncalibrated = result.validation.at_temperature(1 / result.config.temperature)
    assert uncalibrated.loss() == pytest.approx(best["validation_loss"], abs=1e-4)


def test_model_folder_is_complete_and_documents_its_training(trained, data):
    out, result = trained
    assert sorted(path.name for path in out.iterdir()) == [
        "MODEL_CARD.md", "config.json", "curves.png", "meaning.json", "metrics.jsonl", "model.pth", "prototypes.npz",
        "split.json",
    ]  # fmt: skip
    folder = load_model_folder(out)
    assert folder.glosses == GLOSSES
    assert (folder.config.name, folder.config.layout, folder.config.positions) == ("signs", "54", "per-frame")
    assert folder.config.max_frames == 64 and folder.config.estimator == "mediapipe"
    split = json.loads((out / "split.json").read_text())
    for side in ("train", "validation", "test"):
        assert tuple(split[side]["groups"]) == getattr(result.split, side)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, len(result.fitted.history) + 1))
    assert all(line["learning_rate"] > 0 and line["seconds"] > 0 for line in lines)
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    card = (out / "MODEL_CARD.md").read_text()
    assert "spoter train signs.hdf5 --out signs --heads 4" in card
    assert all(gloss in card for gloss in GLOSSES)
    assert str(data.parent) not in card


def test_evaluation_of_the_folder_repeats_the_figures_of_training(trained, data):
    out, result = trained
    evaluation = evaluate(out, data, split="test", robust=False)
    assert evaluation.predictions.names == result.test.names
    np.testing.assert_allclose(evaluation.predictions.scores, result.test.scores, atol=1e-5)


def test_same_seed_gives_the_same_weights(data, tmp_path):
    short = SMALL | dict(epochs=2) | NAMED
    runs = [
        train(TrainSettings(data=data, out=tmp_path / name, seed=seed, **short))
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    ]  # fmt: skip
    first, again, other = (run.fitted.state for run in runs)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert (tmp_path / "a" / "model.pth").read_bytes() == (tmp_path / "b" / "model.pth").read_bytes()


def test_early_stopping_folds_and_shared_positions(data, tmp_path):
    (tmp_path / "about.md").write_text("# My signs\n\nMade up.\n")
    settings = TrainSettings(
        data=data, out=tmp_path / "m", about=tmp_path / "about.md", positions="shared", folds=2, fold_epochs=1,
        **(SMALL | NAMED | dict(epochs=3, average=0.0, patience=1)),
    )  # fmt: skip
    result = train(settings)
    assert len(result.fitted.history) <= result.fitted.epoch + 1
    assert sum(len(scores.labels) for scores in result.folds.values()) == len(list(generated_clips()))
    card = (tmp_path / "m" / "MODEL_CARD.md").read_text()
    assert card.startswith("# My signs\n") and "| **all** | 54 |" in card
    assert load_model_folder(tmp_path / "m").config.max_frames == 512


def test_original_recipe(data, tmp_path):
    """One clip per step, plain SGD at a constant learning rate, and augmentation."""
    small = {name: SMALL[name] for name in SMALL if name.endswith(("layers", "feedforward")) or name == "heads"}
    chosen = RECIPES["original"] | small | NAMED | dict(epochs=2, learning_rate=0.01)
    result = train(TrainSettings(data=data, out=tmp_path / "m", threads=1, **chosen))
    assert [line["learning_rate"] for line in result.fitted.history] == [0.01, 0.01]
    assert result.fitted.history[1]["train_loss"] < result.fitted.history[0]["train_loss"]
    assert result.config.positions == "shared" and result.config.position_rows == 50


def test_bf16_learns(data, tmp_path):
    result = train(
        TrainSettings(data=data, out=tmp_path / "m", **(SMALL | NAMED | dict(epochs=6, precision="bf16")))
    )  # fmt: skip
    assert result.fitted.history[-1]["train_loss"] < result.fitted.history[0]["train_loss"]
    assert all(tensor.dtype == torch.float32 for tensor in result.fitted.state.values())
    exact = train(TrainSettings(data=data, out=tmp_path / "x", **(SMALL | NAMED | dict(epochs=1, precision="fp32"))))
    assert exact.fitted.history[0]["train_loss"] != result.fitted.history[0]["train_loss"]


def test_infinite_loss_stops_the_run(data, tmp_path):
    wild = SMALL | NAMED | dict(optimizer="sgd", learning_rate=1e30, schedule="constant", gradient_norm=0.0)
    with pytest.raises(DataError, match=r"loss of nan in epoch \d+.*--learning-rate"):
        train(TrainSettings(data=data, out=tmp_path / "m", **wild))
    assert not (tmp_path / "m" / "model.pth").exists()


def test_weights_destroyed_by_the_last_step_are_not_written(data, tmp_path):
    wild = (
        SMALL | NAMED | dict(optimizer="sgd", learning_rate=1e30, schedule="constant", gradient_norm=0.0, average=0.0)
    )
    with pytest.raises(DataError, match=r"validation loss of nan in epoch 1.*--learning-rate"):
        train(TrainSettings(data=data, out=tmp_path / "m", **(wild | dict(epochs=1, batch_size=1000))))
    assert not (tmp_path / "m" / "model.pth").exists()


def test_subsets_in_separate_files(tmp_path):
    clips = list(generated_clips())
    subsets = {"train": clips[:36], "validation": clips[36:45], "test": clips[45:]}
    files = {name: write_hdf5(tmp_path / f"{name}.hdf5", members) for name, members in subsets.items()}
    settings = TrainSettings(
        data=files["train"], validation_data=files["validation"], test_data=files["test"], out=tmp_path / "m",
        **(SMALL | dict(epochs=1)),
    )  # fmt: skip
    result = train(settings)
    assert (result.split.validation, result.split.test) == (("camera04",), ("camera05",))
    assert "--validation-data validation.hdf5 --test-data test.hdf5" in (tmp_path / "m" / "MODEL_CARD.md").read_text()
    with pytest.raises(DataError, match=r"validation\.hdf5: .*camera00"):
        train(dataclasses.replace(settings, val_groups=("camera00",)))


def test_glosses_can_be_left_out(data, tmp_path):
    short = SMALL | NAMED | dict(epochs=1)
    result = train(TrainSettings(data=data, out=tmp_path / "m", leave_out=("NOD",), **short))
    assert load_model_folder(tmp_path / "m").glosses == ("CIRCLE", "WAVE") == result.data.glosses
    with pytest.raises(DataError, match=r"--leave-out: .*FLY"):
        train(TrainSettings(data=data, out=tmp_path / "m", leave_out=("NOD", "FLY"), **short))
    with pytest.raises(DataError, match=r"signs\.hdf5: --leave-out .* 3 "):
        train(TrainSettings(data=data, out=tmp_path / "m", leave_out=GLOSSES, **short))


def test_left_out_gloss_may_be_in_only_one_file(tmp_path):
    clips = list(generated_clips())
    validation = [clip for clip in clips[36:] if clip[1] != "NOD"]
    settings = TrainSettings(
        data=write_hdf5(tmp_path / "a.hdf5", clips[:36]), out=tmp_path / "m", leave_out=("NOD",),
        validation_data=write_hdf5(tmp_path / "b.hdf5", validation), test_groups=("camera02",), **SMALL,
    )  # fmt: skip
    assert prepare(settings).data.glosses == ("CIRCLE", "WAVE")


def test_groups_by_a_regular_expression(tmp_path):
    clips = [(f"x/{name.replace('/', '_')}", gloss, points) for name, gloss, points in generated_clips()]
    data = write_hdf5(tmp_path / "signs.hdf5", clips)
    result = train(
        TrainSettings(data=data, out=tmp_path / "m", group_regex="x/(camera..)_", **(SMALL | dict(epochs=1)))
    )
    assert result.split.train[0].startswith("camera0")


def test_bad_clips_are_an_error_or_are_skipped_and_listed(tmp_path):
    rng = np.random.default_rng(0)
    bodiless = generated_points("WAVE", 20, rng)
    bodiless[:, 11:13] = 0
    bad = [
        ("camera00/empty", "WAVE", np.zeros((5, 543, 2))),
        ("camera00/bodiless", "WAVE", bodiless),
        ("camera00/long", "WAVE", generated_points("WAVE", 65, rng)),
        ("camera00/rare", "SHRUG", generated_points("NOD", 20, rng)),
    ]
    data = write_hdf5(tmp_path / "signs.hdf5", [*generated_clips(), *bad])
    arguments = ["train", str(data), "--out", str(tmp_path / "m"), *OPTIONS_OF_SMALL, "--epochs", "1"]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, DataError) and not (tmp_path / "m").exists()
    run = CliRunner().invoke(app, [*arguments, "--skip-bad"])
    assert run.exit_code == 0, run.output
    listed = [line for line in run.stderr.splitlines() if line.startswith("skipped: ")]
    assert len(listed) == 4 and "skipped 4 " in run.stderr
    for place in ("camera00/bodiless: ", "camera00/long: ", "camera00/empty", "camera00/rare (SHRUG): "):
        assert any(place in line for line in listed)
    assert load_model_folder(tmp_path / "m").glosses == GLOSSES
    # As in the README: without an option, evaluation skips the clips that training skipped.
    evaluation = CliRunner().invoke(app, ["evaluate", str(tmp_path / "m"), str(data), "--split", "test", "--json"])
    assert evaluation.exit_code == 0 and "camera00/rare (SHRUG): " in evaluation.stderr
    assert CliRunner().invoke(app, ["export", str(tmp_path / "m"), "--int8", "--data", str(data)]).exception is None


def test_interrupted_write_leaves_no_model_folder(data, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space"):
        train(TrainSettings(data=data, out=tmp_path / "m", **(SMALL | NAMED | dict(epochs=1))))
    assert not [path.name for path in (tmp_path / "m").rglob("*") if path.name not in (".training", "run.json")]
    with pytest.raises(ModelFolderError):
        load_model_folder(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (dict(heads=5), r"settings: .*\b5\b"),
        (dict(layout="55"), "'55'"),
        (dict(layout="29", heads=2, normalize="bohacek"), "bohacek"),
        (dict(position_rows=10), r"camera0\d/\w+/\d: .* 10\b"),
        (dict(device="quantum"), "'quantum'"),
        (dict(device="meta"), "'meta'"),
        (dict(device="cuda:99"), "'cuda:99'"),
        (dict(about=Path("absent.md")), "absent.md"),
        (dict(test_groups=("camera77",)), "camera77"),
        (dict(estimator="openpose"), "mediapipe.*openpose"),
        (dict(folds=99), "99 folds"),
        (dict(data=Path("absent.hdf5")), "absent.hdf5"),
    ],
)
def test_invalid_settings_are_refused_before_training(data, tmp_path, change, named):
    with pytest.raises((DataError, ModelFolderError), match=named):
        train(TrainSettings(**(dict(data=data, out=tmp_path / "m") | SMALL | NAMED | change)))
    assert not (tmp_path / "m").exists()


def test_unwritable_folder_is_refused_before_training(data, tmp_path, monkeypatch):
    monkeypatch.setattr("spoter.training.train.fit", lambda *_: pytest.fail("training started"))
    (tmp_path / "m").write_text("a file in the way")
    with pytest.raises(DataError, match="m: "):
        train(TrainSettings(data=data, out=tmp_path / "m", **SMALL, **NAMED))


def test_clips_whose_only_usable_frame_is_removed_by_a_change(tmp_path):
    """Cropping, dropping and resampling can remove the only frame with shoulders of a training or test clip."""

    def with_one_usable_frame(name, gloss, points):
        points = points.copy()
        points[:, 11:13] = 0
        points[len(points) // 2, 11:13] = (0.62, 0.45), (0.38, 0.45)
        return name, gloss, points

    clips = [with_one_usable_frame(*clip) if clip[0].endswith("/0") else clip for clip in generated_clips()]
    data = write_hdf5(tmp_path / "sparse.hdf5", clips)
    result = train(TrainSettings(data=data, out=tmp_path / "m", **(SMALL | NAMED | dict(epochs=6))))
    assert len(result.fitted.history) == 6
    assert load_model_folder(tmp_path / "m").glosses == GLOSSES


@pytest.mark.parametrize(("layout", "heads"), [("29", 2), ("54", 9), ("71", 2)])
def test_default_number_of_heads_depends_on_the_layout(data, tmp_path, layout, heads):
    settings = SMALL | NAMED | dict(epochs=1, heads=0, layout=layout)
    assert train(TrainSettings(data=data, out=tmp_path / "m", **settings)).config.heads == heads


def test_model_folder_has_the_layout_file_from_the_start_of_training(data, tmp_path, monkeypatch):
    layout = tmp_path / "mine.csv"
    layout.write_text(((resources.files("spoter.landmarks") / "tables") / "points_29.csv").read_text())
    before = layout.read_bytes()

    def edit(*arguments):
        layout.write_bytes(before[: before.rindex(b"\n", 0, -1) + 1])
        return fit_calibration(*arguments)

    monkeypatch.setattr("spoter.training.train.fit_calibration", edit)
    settings = SMALL | NAMED | dict(epochs=1, heads=2, layout=str(layout))
    train(TrainSettings(data=data, out=tmp_path / "m", **settings))
    assert (tmp_path / "m" / "mine.csv").read_bytes() == before != layout.read_bytes()
    assert len(load_model_folder(tmp_path / "m").layout) == 29


def test_command_writes_a_model_folder(data, tmp_path):
    out = tmp_path / "cli"
    arguments = ["train", str(data), "--out", str(out), *OPTIONS_OF_SMALL, "--epochs", "1", "--test-groups", "camera03"]
    run = CliRunner().invoke(app, arguments)
    assert run.exit_code == 0, run.output
    assert "test: top-1" in run.stdout and str(out) in run.stdout and "epoch 1 of 1" in run.stdout
    assert read_split(out / SPLIT).split.groups("test") == ("camera03",)


def test_tensorboard_gets_the_metrics_of_each_epoch(data, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = tmp_path / "board"
    train(TrainSettings(data=data, out=tmp_path / "m", tensorboard=board, **(SMALL | NAMED | dict(epochs=2))))
    events = EventAccumulator(str(board)).Reload()
    assert [event.step for event in events.Scalars("validation/top1")] == [1, 2]
    assert "train/loss" in events.Tags()["scalars"] and "learning/rate" in events.Tags()["scalars"]


@pytest.mark.parametrize(
    ("module", "options"),
    [("torch", []), ("matplotlib", []), ("sklearn", []), ("tensorboard", ["--tensorboard", "b"])],
)
def test_missing_package_is_an_error_with_the_fix(data, tmp_path, monkeypatch, module, options):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(tmp_path)
    arguments = ["train", str(data), "--out", "m", *OPTIONS_OF_SMALL, "--val-groups", "camera01", *options]
    run = CliRunner().invoke(app, arguments)
    assert isinstance(run.exception, DataError), run.exception
    assert module in str(run.exception) and "'spoter[train]'" in str(run.exception)


def test_each_setting_is_an_option_with_the_same_default():
    from spoter.cli import train as command

    options = inspect.signature(command.train).parameters
    fields = {field.name: field.default for field in dataclasses.fields(TrainSettings)}
    assert set(options) - {"ctx", "recipe", "config", "resume", "fresh"} == set(fields)
    assert set(OPTIONS) == set(fields) - {"data", "out"} and all(option.help for option in OPTIONS.values())
    for name in OPTIONS:
        assert options[name].default == (fields[name] or ("" if fields[name] == () else fields[name])), name


def test_accuracy_of_logits_and_learning_rate():
    scores = LabelledLogits(torch.tensor([[3.0, 2, 1], [3.0, 2, 1], [0.0, 1, 5]]), torch.tensor([0, 1, 0]))
    assert scores.top(1) == pytest.approx(1 / 3) and scores.top(2) == pytest.approx(2 / 3) and scores.top(5) == 1.0
    assert warmup_cosine(0.1) == pytest.approx(1.0) and warmup_cosine(1.0) == pytest.approx(0.0, abs=1e-9)
    assert warmup_cosine(0.0) > 0 and warmup_cosine(0.05) < warmup_cosine(0.09)
