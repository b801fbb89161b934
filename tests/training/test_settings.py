"""Settings of a training run from files, presets and the command line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spoter.cli.main import app
from spoter.errors import DataError, SpoterError
from spoter.training.augment.augmentation import Augmentation, NoAugmentation, OriginalAugmentation
from spoter.training.settings import RECIPES, TrainSettings
from spoter.training.settings_file import build_settings, read_settings

PATHS = dict(data=Path("signs.hdf5"), out=Path("m"))
# As in Diccionario-LSP/Spoter-LSP-IA-Model.
ORIGINAL = {
    "hparams": {
        "epochs": 5000, "keypoints_model": "mediapipe", "lr": 0.0005, "keypoints_number": 108, "num_classes": 50,
        "nhead": 2, "num_encoder_layers": 2, "num_decoder_layers": 3, "dim_feedforward": 256, "scheduler_factor": 0.1,
        "validation_set_size": None, "save_checkpoints": True,
    },
    "seed": 1,
    "device": [0],
}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: object) -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_original_config_selects_the_original_recipe_with_its_values(write):
    settings, unused = build_settings(PATHS, config=write("config.json", ORIGINAL))
    assert (settings.layout, settings.estimator, settings.seed, settings.epochs) == ("54", "mediapipe", 1, 5000)
    assert (settings.heads, settings.encoder_layers, settings.decoder_layers) == (2, 2, 3)
    assert (settings.encoder_feedforward, settings.decoder_feedforward, settings.learning_rate) == (256, 256, 0.0005)
    assert (settings.optimizer, settings.schedule, settings.batch_size, settings.positions) == (
        "sgd", "constant", 1, "shared",
    )  # fmt: skip
    assert unused == ["device", "num_classes", "save_checkpoints", "scheduler_factor", "validation_set_size"]


@pytest.mark.parametrize(("number", "layout"), [(29, "29"), (58, "29"), (54, "54"), (71, "71"), (142, "71")])
def test_keypoints_number_is_a_number_of_points_or_coordinates(write, number, layout):
    assert read_settings(write("c.json", {"hparams": {"keypoints_number": number}}))[0]["layout"] == layout


@pytest.mark.parametrize(
    ("hparams", "named"),
    [
        ({"keypoints_number": 55}, "keypoints_number 55.*29 or 58, 54 or 108, 71 or 142"),
        ({"lr": "fast"}, "lr 'fast'"),
        ({"epochs": 2.5}, r"epochs 2\.5"),
        ([], "hparams"),
    ],
)
def test_invalid_original_config_is_refused(write, hparams, named):
    with pytest.raises(SpoterError, match=named):
        build_settings(PATHS, config=write("c.json", {"hparams": hparams}))


def test_command_line_overrides_file_and_file_overrides_preset(write):
    toml = write("c.toml", 'recipe = "original"\nepochs = 7\nbatch-size = 4\nval_groups = ["a", "b"]\nabout = "a.md"\n')
    settings, unused = build_settings(PATHS | dict(batch_size=5), config=toml)
    assert (settings.batch_size, settings.epochs, settings.optimizer) == (5, 7, "sgd")
    assert (settings.val_groups, settings.about, unused) == (("a", "b"), Path("a.md"), [])
    assert build_settings(PATHS, "ours", toml)[0].optimizer == "adamw"
    assert build_settings(PATHS, "original")[0].learning_rate == 0.001
    assert build_settings(PATHS)[0] == TrainSettings(**PATHS)
    assert build_settings(PATHS, "ours", write("original.json", ORIGINAL))[0].optimizer == "adamw"


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("c.toml", "epoch = 7", r"c\.toml: .*'epoch'"),
        ("c.toml", "out = 'm'", r"c\.toml: .*'out'"),
        ("c.toml", "epochs = 'many'", r"c\.toml: epochs: "),
        ("c.toml", "about = 5", r"c\.toml: about: "),
        ("c.toml", "val_groups = 'a'", r"c\.toml: val_groups: "),
        ("c.toml", "batch_size = 3\nbatch-size = 4", r"c\.toml: .*batch_size"),
        ("c.toml", "epochs = ", r"c\.toml: "),
        ("c.toml", "epochs = 0", "epochs 0.* 1 "),
        ("c.toml", "learning_rate = nan", "learning_rate nan.* 0 "),
        ("c.toml", "dropout = 1", r"dropout 1\.0.* 0 .* 1$"),
        ("c.toml", "optimizer = 'adam'", "optimizer 'adam'.*adamw, sgd"),
        ("c.toml", "precision = 'fp16'", "precision 'fp16'.*fp32, bf16"),
        ("c.toml", "recipe = 'theirs'", "recipe 'theirs'.*ours, original"),
        ("c.json", "[1]", r"c\.json: .*list"),
        ("c.json", "{", r"c\.json: "),
        ("c.json", '{"epochs": true}', r"c\.json: epochs: "),
    ],
)
def test_invalid_file_is_refused(write, name, content, named):
    with pytest.raises(DataError, match=named):
        build_settings(PATHS, config=write(name, content))


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"absent\.toml: "):
        read_settings(tmp_path / "absent.toml")


def test_command_distinguishes_given_options_from_defaults(write, monkeypatch):
    calls = []

    def stop(settings, *_):
        calls.append(settings)
        raise DataError("stop")

    monkeypatch.setattr("spoter.training.train.train", stop)
    config = write("config.json", ORIGINAL)
    # 60 is the default; given on the command line, it still overrides the file.
    arguments = ["train", "signs.hdf5", "--out", "m", "--config", str(config), "--epochs", "60", "--test-groups", "x,y"]
    run = CliRunner().invoke(app, [*arguments, "--skip-bad"])
    (settings,) = calls
    assert (settings.epochs, settings.learning_rate, settings.skip_bad) == (60, 0.0005, True)
    assert (settings.test_groups, settings.val_groups) == (("x", "y"), ())
    assert str(config) in run.stderr and "device, num_classes, " in run.stderr


def test_command_in_the_card_repeats_the_settings(monkeypatch):
    calls = []
    monkeypatch.setattr("spoter.training.train.train", lambda settings, *_: calls.append(settings))
    settings = TrainSettings(
        **PATHS, **(RECIPES["original"] | dict(skip_bad=True, test_groups=("a", "b"), group_regex="(.*)/"))
    )
    CliRunner().invoke(app, shlex.split(settings.command())[1:])
    assert calls == [settings]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (dict(seed=2**63), "seed 9223372036854775808.* 0 .* 9"),
        (dict(threads=2**31), "threads 2147483648"),
        (dict(batch_size=2**31), "batch_size 2147483648"),
        (dict(weight_decay=float("inf")), "weight_decay inf"),
        (dict(gradient_norm=float("nan")), "gradient_norm nan"),
        (dict(learning_rate=0.0), r"learning_rate 0\.0"),
        (dict(dropout=1.0), r"dropout 1\.0"),
    ],
)
def test_numbers_out_of_bounds_are_refused(change, named):
    with pytest.raises(DataError, match=named):
        TrainSettings(**PATHS, **change)


def test_command_in_the_card_contains_no_folder_of_the_machine():
    elsewhere = dict(data=Path("/home/ana/signs.hdf5"), about=Path("../about.md"), layout="/home/ana/mine.csv")
    command = TrainSettings(**(PATHS | elsewhere)).command()
    assert command == "spoter train signs.hdf5 --out m --about about.md --layout mine.csv"


def test_augmentations_by_name():
    kinds = {"ours": Augmentation, "original": OriginalAugmentation, "none": NoAugmentation}
    for name, kind in kinds.items():
        assert type(TrainSettings(**PATHS, augmentation=name).augmenter) is kind
    assert TrainSettings(**PATHS, batch_size=3).batch_size == 3
