"""From a checkpoint to a model folder, and what a model folder must be."""

from __future__ import annotations

import json
import resource
import shutil

import numpy as np
import pytest
import torch

from spoter.errors import ModelFolderError, SpoterError
from spoter.files import exclusive_lock
from spoter.model.config import ModelConfig, parse_config
from spoter.model.convert import ConvertOptions, convert_checkpoint
from spoter.model.folder import load_model_folder, write_model_folder
from spoter.serving.recognizer import Recognizer
from tests import upstream
from tests.generate import figure_clip

CLASSES = 5
HPARAMS = {"nhead": 9, "num_encoder_layers": 2, "num_decoder_layers": 1, "dim_feedforward": 32, "num_classes": CLASSES}


@pytest.fixture
def made(tmp_path):
    """A checkpoint, a meaning.json and a way to write the original's config.json."""
    model = upstream.make(classes=CLASSES)
    torch.save({"epoch": 7, "model_state_dict": model.state_dict(), "loss": 0.25}, tmp_path / "w.pth")
    (tmp_path / "meaning.json").write_text(json.dumps({str(i): f"SEÑA {i}" for i in range(CLASSES)}))

    def run(hparams: dict | None = None, choices: ConvertOptions = ConvertOptions()):  # noqa: B008  it is frozen
        config = None
        if hparams is not None:
            config = tmp_path / "original.json"
            config.write_text(json.dumps({"hparams": hparams, "seed": 1}))
        return convert_checkpoint(tmp_path / "w.pth", tmp_path / "out", tmp_path / "meaning.json", config, choices)

    run.path = tmp_path
    run.model = model
    return run


def test_a_right_config_is_believed_about_the_heads(made):
    config, wrong = made(HPARAMS | {"keypoints_number": 54, "keypoints_model": "openpose", "lr": 0.1})
    assert wrong == []
    assert (config.heads, config.layout, config.estimator, config.normalize) == (9, "54", "openpose", "box")
    assert (config.encoder_feedforward, config.decoder_feedforward) == (64, 32)
    folder = load_model_folder(made.path / "out")
    assert folder.config == config and folder.glosses[3] == "SEÑA 3"
    assert "epoch in the checkpoint: 7" in (made.path / "out" / "MODEL_CARD.md").read_text()


def test_the_converted_model_computes_the_same(made):
    made(HPARAMS)
    recognizer = Recognizer.load(made.path / "out")
    clip = figure_clip()
    with torch.inference_mode():
        expected = made.model(torch.from_numpy(recognizer.compute_features(clip))).softmax(0)
    (answer,) = recognizer.recognize([clip])
    scores = {ranked.index: ranked.score for ranked in answer.glosses}
    np.testing.assert_allclose([scores[i] for i in range(CLASSES)], expected.numpy(), atol=1e-5)
    assert [ranked.score for ranked in answer.glosses] == sorted(scores.values(), reverse=True)


def test_a_folder_that_another_command_writes_into_is_left_alone(made):
    made(HPARAMS)
    out = made.path / "out"
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with exclusive_lock(out), pytest.raises(SpoterError, match="another command is writing"):
        made(HPARAMS)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_a_missing_meaning_json_names_the_option_and_the_form(made):
    (made.path / "meaning.json").unlink()
    with pytest.raises(ModelFolderError, match=r'meaning\.json: .*\{"0": "GLOSS", .*5 classes.*--meaning'):
        made(HPARAMS)
    assert not (made.path / "out").exists()


@pytest.mark.parametrize("keypoints", [54, 108])
def test_keypoints_number_counts_points_or_coordinates(made, keypoints):
    assert made(HPARAMS | {"keypoints_number": keypoints})[1] == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"num_encoder_layers": 6}, "num_encoder_layers: 6 in the config, 2 in the weights"),
        ({"num_decoder_layers": 3}, "num_decoder_layers: 3 in the config, 1 in the weights"),
        ({"dim_feedforward": 256}, "dim_feedforward: 256 in the config, 64 or 32 in the weights"),
        ({"num_classes": 50}, "num_classes: 50 in the config, 5 in the weights"),
        ({"keypoints_number": 71}, "keypoints_number: 71 in the config, 54 or 108 in the weights"),
    ],
)
def test_a_config_that_is_wrong_elsewhere_is_not_believed_about_the_heads(made, change, complaint):
    with pytest.raises(ModelFolderError, match=f"{complaint}.*its nhead 9 is not believed either: pass --nhead"):
        made(HPARAMS | change)
    assert not (made.path / "out").exists()
    config, disbelieved = made(HPARAMS | change, ConvertOptions(heads=12))
    assert config.heads == 12
    assert complaint in disbelieved


def test_without_a_config_the_heads_are_asked_for(made):
    with pytest.raises(ModelFolderError, match="heads cannot be told from weights: pass --nhead"):
        made()
    assert made(None, ConvertOptions(heads=9))[0].heads == 9


def test_heads_that_do_not_divide_the_width(made):
    with pytest.raises(ModelFolderError, match="width 108 is not divisible by 7 heads"):
        made(None, ConvertOptions(heads=7))


def test_a_pickled_module_needs_no_config(made):
    with upstream.as_upstream_module():
        torch.save(made.model, made.path / "w.pth")
    choices = ConvertOptions(layout="spoter54", normalize="bohacek")
    config, _ = made(None, choices)
    assert (config.heads, config.layout, config.normalize) == (9, "spoter54", "bohacek")
    assert made(HPARAMS | {"nhead": 2}, choices)[1] == ["nhead: 2 in the config, 9 in the weights"]


def test_a_layout_of_ones_own_travels_with_the_model(made):
    table = made.path / "mine.csv"
    shutil.copy(load_path("points_54.csv"), table)
    config, _ = made(HPARAMS, ConvertOptions(layout=str(table)))
    table.unlink()
    assert config.layout == "mine.csv"
    assert Recognizer.load(made.path / "out").recognize([figure_clip()])[0].frames == 20


def load_path(name: str):
    from importlib import resources

    return (resources.files("spoter.landmarks") / "tables") / name


@pytest.mark.parametrize(
    ("choices", "complaint"),
    [
        (ConvertOptions(heads=9, layout="71"), "found layout 71 of 71 landmarks, but .* expected 54 landmarks"),
        (ConvertOptions(heads=9, layout="55"), "found layout '55'"),
        (
            ConvertOptions(heads=9, estimator="kinect"),
            "found estimator 'kinect', expected one of mediapipe, openpose, wholepose",
        ),
        (ConvertOptions(heads=9, positions="none"), "found positions 'none', expected one of shared, per-frame"),
        (ConvertOptions(heads=9, normalize="cube"), "found normalize 'cube'"),
    ],
)
def test_choices_that_do_not_fit(made, choices, complaint):
    with pytest.raises(ModelFolderError, match=complaint):
        made(None, choices)
    assert not (made.path / "out").exists()


@pytest.mark.parametrize(
    ("meaning", "complaint"),
    [
        ({"0": "A", "1": "B", "2": "C", "4": "E"}, "found 4 entries, .* 5 classes: lacks 3"),
        ({str(i): "ABCDEF"[i] for i in range(6)}, "does not know 5"),
        ({"0": "A", "1": "", "2": "C", "3": "D", "4": "E"}, "found no gloss for 1"),
        ({"0": "A", "1": "A", "2": "C", "3": "D", "4": "E"}, "found a gloss twice: A"),
        ('{"0": "A", "1": "B", "2": "C", "3": "D", "4": "E", "0": "F"}', "found the key '0' twice"),
        ("{", "meaning.json: Expecting property name"),
        ({"0": 5}, "Expected `str`, got `int`"),
        ([], "Expected `object`, got `array`"),
    ],
)
def test_meaning_must_name_every_class(made, meaning, complaint):
    (made.path / "meaning.json").write_text(meaning if isinstance(meaning, str) else json.dumps(meaning))
    with pytest.raises(ModelFolderError, match=complaint):
        made(HPARAMS)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"hparams": 3}', '{"hparams": {"nhead": "nine"}}', '{"nhead": 9}'])
def test_an_original_config_that_is_none(made, text):
    (made.path / "c.json").write_text(text)
    with pytest.raises(ModelFolderError, match=r"c.json"):
        convert_checkpoint(
            made.path / "w.pth", made.path / "out", made.path / "meaning.json", made.path / "c.json", ConvertOptions()
        )


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("heads", 12, None),
        ("heads", 0, "found heads 0, expected a number above 0"),
        ("heads", "9", "Expected `int`, got `str`"),
        ("layout", "../54.csv", "found layout '../54.csv'"),
        ("layout", "absent.csv", "absent.csv: No such file"),
        ("layout", "29", "found weights of width 108 but layout 29 of 29 landmarks, expected a width of 58"),
        ("encoder_layers", 3, "found encoder_layers 3 in config.json but 2 in model.pth"),
        ("temperature", -1.0, "found temperature -1.0"),
        ("temperature", 1e-300, "found temperature 1e-300, expected 0.01 to 100"),
        ("layout", "a\u0000.csv", "found layout"),
        ("name", "", "found name empty"),
        ("colour", "red", "contains unknown field `colour`"),
        ("positions", "per-frame", "found max_frames 512, but only 50 position_rows"),
        ("normalize", "cube", "found normalize 'cube'"),
    ],
)
def test_a_config_is_checked_against_itself_and_the_weights(made, field, value, complaint):
    made(HPARAMS)
    path = made.path / "out" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    if complaint is None:
        load_model_folder(made.path / "out")
        return
    with pytest.raises(ModelFolderError, match=complaint):
        load_model_folder(made.path / "out")


@pytest.mark.parametrize("name", ["model.pth", "config.json", "meaning.json"])
def test_a_model_folder_lacking_a_file_says_which(made, name):
    made(HPARAMS)
    (made.path / "out" / name).unlink()
    with pytest.raises(ModelFolderError, match=name):
        load_model_folder(made.path / "out")
    with pytest.raises(ModelFolderError, match="found no such folder"):
        load_model_folder(made.path / "nowhere")


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path):
    from spoter.files import atomic_write, atomic_write_bytes

    atomic_write_bytes(tmp_path / "f", b"old")

    def write_half() -> None:
        with atomic_write(tmp_path / "f") as temporary:
            temporary.write_bytes(b"half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert (tmp_path / "f").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_full_disk_is_told_with_the_file_that_does_not_fit(tmp_path):
    """A limit on files' sizes stands for the disk: the kernel refuses to write beyond it in the same place."""
    from spoter.files import atomic_write_bytes

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        with pytest.raises(OSError, match="File too large") as error:
            atomic_write_bytes(tmp_path / "f", bytes(20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.filename == str(tmp_path / "f") and not list(tmp_path.iterdir())


def test_config_round_trip(made):
    config, _ = made(HPARAMS)
    assert parse_config(config.to_json(), "here") == config
    assert isinstance(config, ModelConfig)


def test_a_key_of_a_config_that_comes_twice_is_refused(made):
    config, _ = made(HPARAMS)
    text = config.to_json().replace(b"{", b'{"temperature": 2.0,', 1)
    with pytest.raises(ModelFolderError, match=r"here: .*'temperature' twice"):
        parse_config(text, "here")


def test_texts_of_other_encodings(made):
    """A byte order mark, as Windows' editors write it, is skipped; Latin-1 is named."""
    made(HPARAMS)
    meaning = made.path / "out" / "meaning.json"
    glosses = load_model_folder(made.path / "out").glosses
    text = meaning.read_text()
    meaning.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_model_folder(made.path / "out").glosses == glosses
    meaning.write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelFolderError, match=r"meaning.json: found byte .* that is not UTF-8"):
        load_model_folder(made.path / "out")


def test_an_interrupted_overwrite_leaves_no_mixture_of_two_models(made, monkeypatch):
    made(HPARAMS)
    folder = load_model_folder(made.path / "out")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("spoter.model.folder.atomic_write_bytes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_model_folder(made.path / "out", folder.model.state_dict(), folder.config, folder.glosses[::-1], "card")
    with pytest.raises(ModelFolderError, match=r"config.json: No such file"):
        load_model_folder(made.path / "out")


def test_weights_that_answer_nothing_finite_are_refused(made):
    made(HPARAMS)
    state = torch.load(made.path / "out" / "model.pth", weights_only=True)
    state["linear_class.weight"] = torch.full_like(state["linear_class.weight"], 3e38)
    torch.save(state, made.path / "out" / "model.pth")
    with pytest.raises(ModelFolderError, match="found weights whose answer is not finite"):
        Recognizer.load(made.path / "out")


def test_the_temperature_flattens_scores(made):
    made(HPARAMS)
    path = made.path / "out" / "config.json"
    (sharp,) = Recognizer.load(made.path / "out").recognize([figure_clip()])
    path.write_text(json.dumps(json.loads(path.read_text()) | {"temperature": 4.0}))
    (flat,) = Recognizer.load(made.path / "out").recognize([figure_clip()])
    assert [ranked.gloss for ranked in flat.glosses] == [ranked.gloss for ranked in sharp.glosses]
    logits = np.log([ranked.score for ranked in sharp.glosses])
    expected = np.exp(logits / 4) / np.exp(logits / 4).sum()
    np.testing.assert_allclose([ranked.score for ranked in flat.glosses], expected, atol=1e-5)
