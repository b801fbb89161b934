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

GIVEN = dict(data=Path("signs.hdf5"), out=Path("m"))
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


def test_the_original_s_config_is_its_recipe_with_its_values(write):
    settings, unused = build_settings(GIVEN, config=write("config.json", ORIGINAL))
    assert (settings.layout, settings.estimator, settings.seed, settings.epochs) == ("54", "mediapipe", 1, 5000)
    assert (settings.heads, settings.encoder_layers, settings.decoder_layers) == (2, 2, 3)
    assert (settings.encoder_feedforward, settings.decoder_feedforward, settings.learning_rate) == (256, 256, 0.0005)
    assert (settings.optimizer, settings.schedule, settings.batch_size, settings.positions) == (
        "sgd", "constant", 1, "shared",
    )  # fmt: skip
    assert unused == ["device", "num_classes", "save_checkpoints", "scheduler_factor", "validation_set_size"]


@pytest.mark.parametrize(("number", "layout"), [(29, "29"), (58, "29"), (54, "54"), (71, "71"), (142, "71")])
def test_keypoints_number_counts_points_or_coordinates(write, number, layout):
    assert read_settings(write("c.json", {"hparams": {"keypoints_number": number}}))[0]["layout"] == layout


@pytest.mark.parametrize(
    ("hparams", "said"),
    [
        ({"keypoints_number": 55}, "found keypoints_number 55, expected 29 or 58, 54 or 108, 71 or 142"),
        ({"lr": "fast"}, "found lr 'fast', expected float"),
        ({"epochs": 2.5}, "found epochs 2.5, expected int"),
        ([], "hparams"),
    ],
)
def test_an_original_config_that_says_nonsense(write, hparams, said):
    with pytest.raises(SpoterError, match=said):
        build_settings(GIVEN, config=write("c.json", {"hparams": hparams}))


def test_the_command_line_wins_over_the_file_and_the_file_over_the_preset(write):
    toml = write("c.toml", 'recipe = "original"\nepochs = 7\nbatch-size = 4\nval_groups = ["a", "b"]\nabout = "a.md"\n')
    settings, unused = build_settings(GIVEN | dict(batch_size=5), config=toml)
    assert (settings.batch_size, settings.epochs, settings.optimizer) == (5, 7, "sgd")
    assert (settings.val_groups, settings.about, unused) == (("a", "b"), Path("a.md"), [])
    assert build_settings(GIVEN, "ours", toml)[0].optimizer == "adamw"
    assert build_settings(GIVEN, "original")[0].learning_rate == 0.001
    assert build_settings(GIVEN)[0] == TrainSettings(**GIVEN)
    assert build_settings(GIVEN, "ours", write("original.json", ORIGINAL))[0].optimizer == "adamw"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("c.toml", "epoch = 7", "c.toml: found the unknown key 'epoch', expected some of"),
        ("c.toml", "out = 'm'", "found out, which is given on the command line alone"),
        ("c.toml", "epochs = 'many'", "epochs: Expected `int`, got `str`"),
        ("c.toml", "about = 5", "about: "),
        ("c.toml", "val_groups = 'a'", "val_groups: Expected `array`, got `str`"),
        ("c.toml", "batch_size = 3\nbatch-size = 4", "found batch_size twice"),
        ("c.toml", "epochs = ", "c.toml: Invalid value"),
        ("c.toml", "epochs = 0", "found epochs 0, expected at least 1"),
        ("c.toml", "learning_rate = nan", "found learning_rate nan, expected above 0"),
        ("c.toml", "dropout = 1", "found dropout 1.0, expected at least 0, below 1"),
        ("c.toml", "optimizer = 'adam'", "found optimizer 'adam', expected one of adamw, sgd"),
        ("c.toml", "precision = 'fp16'", "found precision 'fp16', expected one of fp32, bf16"),
        ("c.toml", "recipe = 'theirs'", "found recipe 'theirs', expected one of ours, original"),
        ("c.json", "[1]", "c.json: found a list, expected settings by name"),
        ("c.json", "{", "c.json: Expecting property name"),
        ("c.json", '{"epochs": true}', "epochs: Expected `int`, got `bool`"),
    ],
)
def test_a_file_that_cannot_be_used_is_said(write, name, content, said):
    with pytest.raises(DataError, match=said):
        build_settings(GIVEN, config=write(name, content))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"absent.toml: No such file"):
        read_settings(tmp_path / "absent.toml")


def test_the_command_tells_given_options_from_defaults(write, monkeypatch):
    seen = []

    def stop(settings, *_):
        seen.append(settings)
        raise DataError("enough")

    monkeypatch.setattr("spoter.training.train.train", stop)
    config = write("config.json", ORIGINAL)
    # 60 is the default: given, it counts all the same
    arguments = ["train", "signs.hdf5", "--out", "m", "--config", str(config), "--epochs", "60", "--test-groups", "x,y"]
    run = CliRunner().invoke(app, [*arguments, "--skip-bad"])
    (settings,) = seen
    assert (settings.epochs, settings.learning_rate, settings.skip_bad) == (60, 0.0005, True)
    assert (settings.test_groups, settings.val_groups) == (("x", "y"), ())
    assert f"not used of {config}: device, num_classes, " in run.stderr


def test_the_command_line_that_a_card_repeats_makes_the_same_settings(monkeypatch):
    seen = []
    monkeypatch.setattr("spoter.training.train.train", lambda settings, *_: seen.append(settings))
    told = TrainSettings(
        **GIVEN, **(RECIPES["original"] | dict(skip_bad=True, test_groups=("a", "b"), group_regex="(.*)/"))
    )
    CliRunner().invoke(app, shlex.split(told.command())[1:])
    assert seen == [told]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(seed=2**63), "found seed 9223372036854775808, expected at least 0, below 9"),
        (dict(threads=2**31), "found threads 2147483648"),
        (dict(batch_size=2**31), "found batch_size"),
        (dict(weight_decay=float("inf")), "found weight_decay inf"),
        (dict(gradient_norm=float("nan")), "found gradient_norm nan"),
        (dict(learning_rate=0.0), "found learning_rate 0.0"),
        (dict(dropout=1.0), "found dropout 1.0"),
    ],
)
def test_numbers_out_of_bounds(change, said):
    with pytest.raises(DataError, match=said):
        TrainSettings(**GIVEN, **change)


def test_the_command_line_in_a_card_tells_no_folder_of_the_machine():
    elsewhere = dict(data=Path("/home/ana/signs.hdf5"), about=Path("../about.md"), layout="/home/ana/mine.csv")
    told = TrainSettings(**(GIVEN | elsewhere)).command()
    assert told == "spoter train signs.hdf5 --out m --about about.md --layout mine.csv"


def test_changes_by_name():
    kinds = {"ours": Augmentation, "original": OriginalAugmentation, "none": NoAugmentation}
    for name, kind in kinds.items():
        assert type(TrainSettings(**GIVEN, augmentation=name).augmenter) is kind
    assert TrainSettings(**GIVEN, batch_size=3).batch_size == 3
