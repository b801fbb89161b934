"""`spoter train` and `spoter evaluate`, from a generated data set to a model folder that names signs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training_data import GLOSSES, generated_clips, generated_points, write_hdf5
from typer.testing import CliRunner

from spoter.cli import app
from spoter.errors import DataError, ModelFolderError
from spoter.model_folder import load_model_folder
from spoter.training.card import wilson_interval
from spoter.training.evaluate import evaluate, groups_of_side
from spoter.training.fit import Scores, warm_cosine
from spoter.training.settings import TrainSettings
from spoter.training.train import train

SMALL = dict(
    heads=4, encoder_layers=1, decoder_layers=1, encoder_feedforward=32, decoder_feedforward=32, position_rows=64,
    epochs=24, batch_size=8, learning_rate=3e-3, average=0.8, threads=1,
)  # fmt: skip
OPTIONS = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture(scope="module", autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_hdf5(tmp_path_factory.mktemp("data") / "signs.hdf5")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "signs"
    return out, train(TrainSettings(data=data, out=out, **SMALL))


def test_training_learns_three_signs_that_move_differently(trained):
    _, result = trained
    assert result.figures.test.top(1) >= 0.85  # 1/3 by chance
    assert result.fitted.history[-1]["train_loss"] < result.fitted.history[0]["train_loss"]


def test_the_kept_weights_are_those_of_the_best_validation(trained):
    _, result = trained
    history = result.fitted.history
    best = max(history, key=lambda line: (line["validation_top1"], -line["validation_loss"]))
    assert result.fitted.epoch == best["epoch"]
    assert result.figures.validation.top(1) == pytest.approx(best["validation_top1"])
    assert result.figures.validation.loss() == pytest.approx(best["validation_loss"], abs=1e-5)


def test_the_model_folder_is_whole_and_says_how_it_came_about(trained, data):
    out, result = trained
    assert sorted(path.name for path in out.iterdir()) == [
        "MODEL_CARD.md", "config.json", "meaning.json", "metrics.jsonl", "model.pth", "split.json",
    ]  # fmt: skip
    folder = load_model_folder(out)
    assert folder.glosses == GLOSSES
    assert (folder.config.name, folder.config.layout, folder.config.positions) == ("signs", "54", "per-frame")
    assert folder.config.max_frames == 64
    split = json.loads((out / "split.json").read_text())
    for side in ("train", "validation", "test"):
        assert tuple(split[side]["groups"]) == getattr(result.split, side)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, len(result.fitted.history) + 1))
    card = (out / "MODEL_CARD.md").read_text()
    assert "spoter train signs.hdf5 --out signs --heads 4" in card
    assert f"| test groups | {split['test']['clips']} | {result.figures.test.top(1):.4f} |" in card
    assert all(gloss in card for gloss in GLOSSES)
    assert str(data.parent) not in card


def test_evaluation_by_the_serving_path_gives_the_training_run_s_figures(trained, data):
    out, result = trained
    for side in ("validation", "test"):
        judged = evaluate(out, data, groups_of_side(out, side))
        scores = getattr(result.figures, side)
        assert (judged.top1, judged.clips) == (pytest.approx(scores.top(1)), len(scores.labels))
        assert judged.confusion.sum() == judged.clips
        assert judged.top5 == 1.0 and not judged.refused  # three glosses are always among five
        assert sum(right for _, right in judged.per_gloss().values()) == round(judged.top1 * judged.clips)


def test_the_same_seed_gives_the_same_weights(data, tmp_path):
    short = SMALL | dict(epochs=2, val_groups=("camera01",), test_groups=("camera02",))
    runs = [
        train(TrainSettings(data=data, out=tmp_path / name, seed=seed, **short))
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    ]  # fmt: skip
    first, again, other = (run.fitted.state for run in runs)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_early_stopping_folds_and_shared_positions(data, tmp_path):
    (tmp_path / "about.md").write_text("# My signs\n\nMade up.\n")
    settings = TrainSettings(
        data=data, out=tmp_path / "m", about=tmp_path / "about.md", positions="shared", folds=2, fold_epochs=1,
        **(SMALL | dict(epochs=3, average=0.0, patience=1)),
    )  # fmt: skip
    result = train(settings)
    assert len(result.fitted.history) <= result.fitted.epoch + 1
    assert sum(len(scores.labels) for scores in result.figures.folds.values()) == len(list(generated_clips()))
    card = (tmp_path / "m" / "MODEL_CARD.md").read_text()
    assert card.startswith("# My signs\n") and "| **all** | 54 |" in card
    assert load_model_folder(tmp_path / "m").config.max_frames == 512


def test_an_interrupted_write_leaves_no_model_folder(data, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space"):
        train(TrainSettings(data=data, out=tmp_path / "m", **(SMALL | dict(epochs=1))))
    assert not [path.name for path in (tmp_path / "m").iterdir() if path.name not in ("split.json", "metrics.jsonl")]
    with pytest.raises(ModelFolderError):
        load_model_folder(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(heads=5), "not divisible by 5"),
        (dict(layout="55"), "found layout '55'"),
        (dict(layout="29", heads=2, normalize="bohacek"), "needs"),
        (dict(position_rows=10), "10 at most"),
        (dict(device="quantum"), "found device 'quantum'"),
        (dict(device="meta"), "found device 'meta'"),
        (dict(device="cuda:99"), "found device 'cuda:99', but torch sees"),
        (dict(about=Path("absent.md")), "absent.md"),
        (dict(test_groups=("camera77",)), "camera77"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_training(data, tmp_path, change, said):
    with pytest.raises((DataError, ModelFolderError), match=said):
        train(TrainSettings(data=data, out=tmp_path / "m", **(SMALL | change)))
    assert not (tmp_path / "m").exists()


def test_a_folder_that_cannot_be_written_is_found_before_training(data, tmp_path, monkeypatch):
    monkeypatch.setattr("spoter.training.train.fit", lambda *_: pytest.fail("it trained"))
    (tmp_path / "m").write_text("a file in the way")
    with pytest.raises(DataError, match="m: cannot be written in"):
        train(TrainSettings(data=data, out=tmp_path / "m", **SMALL))


def test_clips_whose_only_usable_frame_a_change_takes_away(tmp_path):
    """Cropping, dropping and resampling can cut out the one frame with shoulders: of a clip trained on, or tested."""

    def thin(name, gloss, points):
        points = points.copy()
        points[:, 11:13] = 0
        points[len(points) // 2, 11:13] = (0.62, 0.45), (0.38, 0.45)
        return name, gloss, points

    clips = [thin(*clip) if clip[0].endswith("/0") else clip for clip in generated_clips()]
    data = write_hdf5(tmp_path / "thin.hdf5", clips)
    result = train(TrainSettings(data=data, out=tmp_path / "m", **(SMALL | dict(epochs=6))))
    assert len(result.fitted.history) == 6
    assert load_model_folder(tmp_path / "m").glosses == GLOSSES


@pytest.mark.parametrize(("layout", "heads"), [("29", 2), ("54", 9), ("71", 2)])
def test_the_number_of_heads_follows_the_layout(data, tmp_path, layout, heads):
    settings = SMALL | dict(epochs=1, heads=0, layout=layout)
    assert train(TrainSettings(data=data, out=tmp_path / "m", **settings)).config.heads == heads


def test_evaluating_on_a_device_that_is_not_there(trained, data):
    for name in ("xx", "cuda:99"):
        with pytest.raises(DataError, match=f"found device '{name}'"):
            evaluate(trained[0], data, device=name)


def test_glosses_the_model_does_not_know_are_named(trained, tmp_path):
    rng = np.random.default_rng(0)
    clips = [
        ("camera00/a", "WAVE", generated_points("WAVE", 8, rng)),
        ("camera00/b", "SHRUG", generated_points("NOD", 8, rng)),
    ]
    with pytest.raises(DataError, match="1 glosses that the model does not know: SHRUG"):
        evaluate(trained[0], write_hdf5(tmp_path / "other.hdf5", clips))
    with pytest.raises(DataError, match="no group camera09"):
        evaluate(trained[0], tmp_path / "other.hdf5", ["camera09"])


def test_a_clip_that_a_server_would_refuse_counts_as_wrong(trained, tmp_path):
    rng = np.random.default_rng(0)
    clips = [
        ("camera00/good", "WAVE", generated_points("WAVE", 20, rng)),
        ("camera00/blank", "WAVE", np.zeros((5, 543, 2))),
    ]
    clips.append(("camera00/long", "WAVE", generated_points("WAVE", 65, rng)))
    judged = evaluate(trained[0], write_hdf5(tmp_path / "some.hdf5", clips))
    assert judged.refused == {"camera00/blank": "no_usable_frames", "camera00/long": "too_many_frames"}
    assert judged.clips == 3 and judged.top5 == pytest.approx(1 / 3)
    row = judged.confusion[GLOSSES.index("WAVE")]
    assert row[-1] == 2 and row.sum() == 3  # the last column: refused
    assert judged.top1 == pytest.approx(row[GLOSSES.index("WAVE")] / 3)


def test_both_commands(data, tmp_path):
    out = tmp_path / "cli"
    run = CliRunner().invoke(
        app, ["train", str(data), "--out", str(out), *OPTIONS, "--epochs", "1", "--test-groups", "camera03"]
    )
    assert run.exit_code == 0, run.output
    assert "test: top-1" in run.stdout and f"wrote {out}" in run.stdout
    assert groups_of_side(out, "test") == ("camera03",)
    for chosen in (["--split", "test"], ["--groups", "camera03"]):
        judged = CliRunner().invoke(app, ["evaluate", str(out), str(data), *chosen, "--json"])
        assert judged.exit_code == 0, judged.output
        line = json.loads(judged.stdout.splitlines()[-1])
        assert list(line) == ["top1", "top5", "clips"] and line["clips"] == 9
    both = CliRunner().invoke(app, ["evaluate", str(out), str(data), "--split", "test", "--groups", "camera03"])
    assert both.exit_code == 2
    wrong = CliRunner().invoke(app, ["evaluate", str(out), str(data), "--split", "exam"])
    assert isinstance(wrong.exception, DataError)


def test_defaults_of_the_command_and_of_the_library_are_the_same():
    import inspect

    from spoter.training.commands import train as command

    options = inspect.signature(command.train).parameters
    fields = {field.name: field.default for field in dataclasses.fields(TrainSettings)}
    assert list(options) == list(fields)
    for name, field in fields.items():
        if name not in ("data", "out"):
            given = options[name].default
            assert (() if given == "" and isinstance(field, tuple) else given) == field, name


def test_the_interval_of_a_share_is_wilson_s():
    low, high = wilson_interval(8 / 10, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson_interval(1.0, 50)[1] == pytest.approx(1.0)


def test_scores_and_learning_rate():
    scores = Scores(torch.tensor([[3.0, 2, 1], [3.0, 2, 1], [0.0, 1, 5]]), torch.tensor([0, 1, 0]))
    assert scores.top(1) == pytest.approx(1 / 3) and scores.top(2) == pytest.approx(2 / 3) and scores.top(5) == 1.0
    assert warm_cosine(0.1) == pytest.approx(1.0) and warm_cosine(1.0) == pytest.approx(0.0, abs=1e-9)
    assert warm_cosine(0.0) > 0 and warm_cosine(0.05) < warm_cosine(0.09)
