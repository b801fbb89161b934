"""Conversion of checkpoints to model folders, and the checks of model folders."""

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
def convert(tmp_path):
    """A function that converts a checkpoint, with an original config.json on request."""
    model = upstream.make(classes=CLASSES)
    torch.save({"epoch": 7, "model_state_dict": model.state_dict(), "loss": 0.25}, tmp_path / "w.pth")
    (tmp_path / "meaning.json").write_text(json.dumps({str(i): f"SEÑA {i}" for i in range(CLASSES)}))

    def run(hparams: dict | None = None, options: ConvertOptions = ConvertOptions()):  # noqa: B008  it is frozen
        config = None
        if hparams is not None:
            config = tmp_path / "original.json"
            config.write_text(json.dumps({"hparams": hparams, "seed": 1}))
        return convert_checkpoint(tmp_path / "w.pth", tmp_path / "out", tmp_path / "meaning.json", config, options)

    run.path = tmp_path
    run.model = model
    return run


def test_the_heads_come_from_a_config_that_matches_the_weights(convert):
    config, contradictions = convert(HPARAMS | {"keypoints_number": 54, "keypoints_model": "openpose", "lr": 0.1})
    assert contradictions == []
    assert (config.heads, config.layout, config.estimator, config.normalize) == (9, "54", "openpose", "box")
    assert (config.encoder_feedforward, config.decoder_feedforward) == (64, 32)
    folder = load_model_folder(convert.path / "out")
    assert folder.config == config and folder.glosses[3] == "SEÑA 3"
    assert "epoch in the checkpoint: 7" in (convert.path / "out" / "MODEL_CARD.md").read_text()


def test_the_converted_model_computes_the_same_probabilities(convert):
    convert(HPARAMS)
    recognizer = Recognizer.load(convert.path / "out")
    clip = figure_clip()
    with torch.inference_mode():
        expected = convert.model(torch.from_numpy(recognizer.compute_features(clip))).softmax(0)
    (answer,) = recognizer.recognize([clip])
    scores = {ranked.index: ranked.score for ranked in answer.glosses}
    np.testing.assert_allclose([scores[i] for i in range(CLASSES)], expected.numpy(), atol=1e-5)
    assert [ranked.score for ranked in answer.glosses] == sorted(scores.values(), reverse=True)


def test_a_folder_that_another_command_is_writing_to_does_not_change(convert):
    convert(HPARAMS)
    out = convert.path / "out"
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with exclusive_lock(out), pytest.raises(SpoterError, match="another command"):
        convert(HPARAMS)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_the_error_for_a_missing_meaning_json_names_the_option_and_the_form(convert):
    (convert.path / "meaning.json").unlink()
    with pytest.raises(ModelFolderError, match=r'meaning\.json: .*\{"0": "GLOSS", .*5 classes.*--meaning'):
        convert(HPARAMS)
    assert not (convert.path / "out").exists()


@pytest.mark.parametrize("keypoints", [54, 108])
def test_keypoints_number_may_count_points_or_coordinates(convert, keypoints):
    assert convert(HPARAMS | {"keypoints_number": keypoints})[1] == []


@pytest.mark.parametrize(
    ("change", "contradiction"),
    [
        ({"num_encoder_layers": 6}, "num_encoder_layers: 6 in the config, 2 in the weights"),
        ({"num_decoder_layers": 3}, "num_decoder_layers: 3 in the config, 1 in the weights"),
        ({"dim_feedforward": 256}, "dim_feedforward: 256 in the config, 64 or 32 in the weights"),
        ({"num_classes": 50}, "num_classes: 50 in the config, 5 in the weights"),
        ({"keypoints_number": 71}, "keypoints_number: 71 in the config, 54 or 108 in the weights"),
    ],
)
def test_the_heads_of_a_config_that_contradicts_the_weights_are_not_used(convert, change, contradiction):
    with pytest.raises(ModelFolderError, match=f"{contradiction}.*--nhead"):
        convert(HPARAMS | change)
    assert not (convert.path / "out").exists()
    config, contradictions = convert(HPARAMS | change, ConvertOptions(heads=12))
    assert config.heads == 12
    assert contradiction in contradictions


def test_without_a_config_the_option_for_heads_is_required(convert):
    with pytest.raises(ModelFolderError, match="--nhead"):
        convert()
    assert convert(None, ConvertOptions(heads=9))[0].heads == 9


def test_heads_must_divide_the_width(convert):
    with pytest.raises(ModelFolderError, match=r"108 .* 7 heads"):
        convert(None, ConvertOptions(heads=7))


def test_a_pickled_module_needs_no_config(convert):
    with upstream.as_upstream_module():
        torch.save(convert.model, convert.path / "w.pth")
    options = ConvertOptions(layout="spoter54", normalize="bohacek")
    config, _ = convert(None, options)
    assert (config.heads, config.layout, config.normalize) == (9, "spoter54", "bohacek")
    assert convert(HPARAMS | {"nhead": 2}, options)[1] == ["nhead: 2 in the config, 9 in the weights"]


def test_a_custom_layout_is_copied_into_the_model_folder(convert):
    table = convert.path / "mine.csv"
    shutil.copy(load_path("points_54.csv"), table)
    config, _ = convert(HPARAMS, ConvertOptions(layout=str(table)))
    table.unlink()
    assert config.layout == "mine.csv"
    assert Recognizer.load(convert.path / "out").recognize([figure_clip()])[0].frames == 20


def load_path(name: str):
    from importlib import resources

    return (resources.files("spoter.landmarks") / "tables") / name


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        (ConvertOptions(heads=9, layout="71"), "layout 71 of 71 .* 54 landmarks"),
        (ConvertOptions(heads=9, layout="55"), "'55'"),
        (ConvertOptions(heads=9, estimator="kinect"), "'kinect'.* mediapipe, openpose, wholepose"),
        (ConvertOptions(heads=9, positions="none"), "positions 'none'.* shared, per-frame"),
        (ConvertOptions(heads=9, normalize="cube"), "normalize 'cube'"),
    ],
)
def test_options_that_do_not_fit_the_weights_are_refused(convert, options, pattern):
    with pytest.raises(ModelFolderError, match=pattern):
        convert(None, options)
    assert not (convert.path / "out").exists()


@pytest.mark.parametrize(
    ("meaning", "pattern"),
    [
        ({"0": "A", "1": "B", "2": "C", "4": "E"}, "4 entries, .* 5 classes.* 3"),
        ({str(i): "ABCDEF"[i] for i in range(6)}, "6 entries, .* 5 classes.* 5"),
        ({"0": "A", "1": "", "2": "C", "3": "D", "4": "E"}, "meaning.json: .* 1"),
        ({"0": "A", "1": "A", "2": "C", "3": "D", "4": "E"}, "meaning.json: .* A"),
        ('{"0": "A", "1": "B", "2": "C", "3": "D", "4": "E", "0": "F"}', "'0'"),
        ("{", "meaning.json"),
        ({"0": 5}, "meaning.json: .*`int`"),
        ([], "meaning.json: .*`array`"),
    ],
)
def test_meaning_must_have_a_unique_gloss_for_every_class(convert, meaning, pattern):
    (convert.path / "meaning.json").write_text(meaning if isinstance(meaning, str) else json.dumps(meaning))
    with pytest.raises(ModelFolderError, match=pattern):
        convert(HPARAMS)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"hparams": 3}', '{"hparams": {"nhead": "nine"}}', '{"nhead": 9}'])
def test_an_invalid_original_config_is_refused(convert, text):
    folder, config = convert.path, convert.path / "c.json"
    config.write_text(text)
    with pytest.raises(ModelFolderError, match=r"c\.json"):
        convert_checkpoint(folder / "w.pth", folder / "out", folder / "meaning.json", config, ConvertOptions())


@pytest.mark.parametrize(
    ("field", "value", "pattern"),
    [
        ("heads", 12, None),
        ("heads", 0, "heads 0"),
        ("heads", "9", "`int`.*`str`"),
        ("layout", "../54.csv", "layout '../54.csv'"),
        ("layout", "absent.csv", "absent.csv"),
        ("layout", "29", "108 .*layout 29 .* 58"),
        ("encoder_layers", 3, "encoder_layers 3 in config.json .*2 in model.pth"),
        ("temperature", -1.0, "temperature -1.0"),
        ("temperature", 1e-300, "temperature 1e-300, .*0.01 to 100"),
        ("layout", "a\u0000.csv", "layout"),
        ("name", "", "config.json: .*name"),
        ("colour", "red", "`colour`"),
        ("positions", "per-frame", "max_frames 512, .*50 position_rows"),
        ("normalize", "cube", "normalize 'cube'"),
    ],
)
def test_a_config_must_be_consistent_and_match_the_weights(convert, field, value, pattern):
    convert(HPARAMS)
    path = convert.path / "out" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    if pattern is None:
        load_model_folder(convert.path / "out")
        return
    with pytest.raises(ModelFolderError, match=pattern):
        load_model_folder(convert.path / "out")


@pytest.mark.parametrize("name", ["model.pth", "config.json", "meaning.json"])
def test_the_error_names_a_missing_file_of_a_model_folder(convert, name):
    convert(HPARAMS)
    (convert.path / "out" / name).unlink()
    with pytest.raises(ModelFolderError, match=name):
        load_model_folder(convert.path / "out")
    with pytest.raises(ModelFolderError, match="nowhere"):
        load_model_folder(convert.path / "nowhere")


def test_an_interrupted_write_leaves_only_the_old_file(tmp_path):
    from spoter.files import atomic_write, atomic_write_bytes

    atomic_write_bytes(tmp_path / "f", b"old")

    def write_half() -> None:
        with atomic_write(tmp_path / "f") as temporary:
            temporary.write_bytes(b"incomplete")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert (tmp_path / "f").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_the_error_of_a_full_disk_names_the_file(tmp_path):
    """A limit on file sizes simulates a full disk: the kernel refuses the same write."""
    from spoter.files import atomic_write_bytes

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        with pytest.raises(OSError, match="File too large") as error:
            atomic_write_bytes(tmp_path / "f", bytes(20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.filename == str(tmp_path / "f") and not list(tmp_path.iterdir())


def test_config_round_trip(convert):
    config, _ = convert(HPARAMS)
    assert parse_config(config.to_json(), "here") == config
    assert isinstance(config, ModelConfig)


def test_a_repeated_key_in_a_config_is_refused(convert):
    config, _ = convert(HPARAMS)
    text = config.to_json().replace(b"{", b'{"temperature": 2.0,', 1)
    with pytest.raises(ModelFolderError, match=r"here: .*'temperature'"):
        parse_config(text, "here")


def test_a_byte_order_mark_is_skipped_and_latin_1_is_refused(convert):
    """Windows editors write a byte order mark."""
    convert(HPARAMS)
    meaning = convert.path / "out" / "meaning.json"
    glosses = load_model_folder(convert.path / "out").glosses
    text = meaning.read_text()
    meaning.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_model_folder(convert.path / "out").glosses == glosses
    meaning.write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelFolderError, match=r"meaning\.json: .*UTF-8"):
        load_model_folder(convert.path / "out")


def test_an_interrupted_overwrite_never_mixes_two_models(convert, monkeypatch):
    convert(HPARAMS)
    folder = load_model_folder(convert.path / "out")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("spoter.model.folder.atomic_write_bytes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_model_folder(convert.path / "out", folder.model.state_dict(), folder.config, folder.glosses[::-1], "card")
    with pytest.raises(ModelFolderError, match=r"config\.json"):
        load_model_folder(convert.path / "out")


def test_weights_with_outputs_that_are_not_finite_are_refused(convert):
    convert(HPARAMS)
    state = torch.load(convert.path / "out" / "model.pth", weights_only=True)
    state["linear_class.weight"] = torch.full_like(state["linear_class.weight"], 3e38)
    torch.save(state, convert.path / "out" / "model.pth")
    with pytest.raises(ModelFolderError, match="not finite"):
        Recognizer.load(convert.path / "out")


def test_the_temperature_flattens_scores(convert):
    convert(HPARAMS)
    path = convert.path / "out" / "config.json"
    (sharp,) = Recognizer.load(convert.path / "out").recognize([figure_clip()])
    path.write_text(json.dumps(json.loads(path.read_text()) | {"temperature": 4.0}))
    (flat,) = Recognizer.load(convert.path / "out").recognize([figure_clip()])
    assert [ranked.gloss for ranked in flat.glosses] == [ranked.gloss for ranked in sharp.glosses]
    logits = np.log([ranked.score for ranked in sharp.glosses])
    expected = np.exp(logits / 4) / np.exp(logits / 4).sum()
    np.testing.assert_allclose([ranked.score for ranked in flat.glosses], expected, atol=1e-5)
