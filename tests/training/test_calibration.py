"""Calibration: temperature, prototypes and threshold of a trained model and of a model from elsewhere."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from spoter.cli.main import app
from spoter.errors import DataError, ModelFolderError, SpoterError
from spoter.files import atomic_write_bytes, exclusive_lock
from spoter.model.folder import CONFIG, PROTOTYPES, WEIGHTS, load_model_folder
from spoter.serving.enroll import enroll
from spoter.serving.recognizer import Recognizer
from spoter.training import calibration as module
from spoter.training.augment.augmentation import NoAugmentation
from spoter.training.batches import ClipEncoder, ClipSet
from spoter.training.calibration import (
    KNOWN_SHARE,
    calibrate_folder,
    fit_calibration,
    fit_prototypes,
    fit_temperature,
)
from spoter.training.data import read_dataset
from spoter.training.data.split_record import SPLIT
from spoter.training.settings import TrainSettings
from spoter.training.train import train
from tests.training.datasets import GLOSSES, GROUPS, SMALL, generated_clips, write_hdf5

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def draw_logits(count: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and labels, which are drawn from the softmax of logits / `temperature`."""
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(count, 5))
    probabilities = np.exp(logits / temperature)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return logits, np.array([rng.choice(5, p=row) for row in probabilities])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_of_drawn_labels_is_recovered(temperature):
    assert fit_temperature(*draw_logits(4000, temperature)) == pytest.approx(temperature, rel=0.08)


def test_scores_stay_below_1_without_wrong_predictions():
    logits = 20 * np.eye(4).repeat(25, axis=0)
    labels = np.arange(4).repeat(25)
    scaled = logits / fit_temperature(logits, labels)
    score = np.exp(scaled[0, 0]) / np.exp(scaled[0]).sum()
    assert score == pytest.approx(101 / 102, abs=1e-3)


def test_prototypes_ignore_variation_within_a_gloss():
    rng = np.random.default_rng(0)
    labels = np.arange(3).repeat(40)
    embeddings = np.zeros((120, 60))
    embeddings[:, :3] = np.eye(3)[labels]
    embeddings += rng.normal(size=embeddings.shape) * ([0.1] * 59 + [4])  # the last dimension is strong noise
    prototypes = fit_prototypes(embeddings, labels, 3)
    cosines = prototypes.directions(embeddings.astype(np.float32)) @ prototypes.trained.T
    assert (cosines.argmax(axis=1) == labels).mean() > 0.95
    raw = embeddings - embeddings.mean(axis=0)
    means = np.stack([raw[labels == label].mean(axis=0) for label in range(3)])
    nearest = (raw @ means.T / np.linalg.norm(means, axis=1)).argmax(axis=1)
    assert (nearest == labels).mean() < 0.8  # without whitening


def test_prototypes_from_one_clip_per_gloss_are_finite():
    assert np.isfinite(fit_prototypes(np.eye(3), np.arange(3), 3).whitening).all()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    """Two files of generated clips with different groups, and one file with all of them."""
    folder = tmp_path_factory.mktemp("data")
    clips = list(generated_clips())
    late = GROUPS[-2:]
    return {
        "early": write_hdf5(folder / "early.hdf5", [clip for clip in clips if not clip[0].startswith(late)]),
        "late": write_hdf5(folder / "late.hdf5", [clip for clip in clips if clip[0].startswith(late)]),
        "all": write_hdf5(folder / "all.hdf5", clips),
    }


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("models") / "signs"
    train(TrainSettings(data=data["all"], out=out, epochs=12, **SMALL))
    return out


@pytest.fixture
def bare(trained, tmp_path) -> Path:
    """A model folder as from `spoter convert`: without prototypes, threshold and temperature."""
    folder = shutil.copytree(trained, tmp_path / "bare")
    config = msgspec.json.decode((folder / CONFIG).read_bytes()) | {"temperature": 1.0}
    del config["known_threshold"]
    (folder / CONFIG).write_bytes(msgspec.json.encode(config))
    (folder / PROTOTYPES).unlink()
    return folder


def test_training_calibrates_the_model(trained):
    folder = load_model_folder(trained)
    assert folder.prototypes.trained.shape == (3, 5 * 108) and folder.config.temperature != 1
    assert -1 < folder.config.known_threshold < 1


def test_calibration_is_fitted_to_the_validation_clips(bare, data, monkeypatch):
    monkeypatch.setattr(
        "spoter.training.calibration._COPIES", 0
    )  # only the original clips, so that the test can repeat the computation
    late = read_dataset(data["late"])
    config, _ = calibrate_folder(bare, read_dataset(data["early"]), late, CPU)
    recognizer, prototypes = Recognizer.load(bare), load_model_folder(bare).prototypes
    clips = [clip.clip for clip in late.clips]
    labels = np.array([recognizer.glosses.index(clip.gloss) for clip in late.clips])
    cosines = prototypes.directions(recognizer.embed(clips)) @ prototypes.trained.T
    assert prototypes.typical == pytest.approx(np.median(cosines[np.arange(len(labels)), labels]), abs=1e-3)
    assert fit_temperature(prototypes.scale * cosines, labels) == pytest.approx(1, abs=0.01)
    results = recognizer.recognize(clips)
    assert sum(result.known for result in results) == pytest.approx(KNOWN_SHARE * len(clips), abs=1)
    assert {result.known for result in results} == {result.similarity >= config.known_threshold for result in results}


def test_prototypes_and_threshold_use_augmented_clips_too(bare, data):
    loaded = load_model_folder(bare)
    clip_sets = [
        ClipSet(read_dataset(data[name]).clips, loaded.glosses, ClipEncoder(loaded.layout, "box", 64))
        for name in ("early", "late")
    ]

    class Noisy:
        calls = 0

        def apply(self, points, layout, max_frames, rng):
            self.calls += 1
            return points + rng.normal(0, 0.02, points.shape).astype(np.float32)

    augmenter = Noisy()
    config, prototypes = fit_calibration(loaded.model, *clip_sets, loaded.config, CPU, augmenter)
    assert augmenter.calls == 3 * (len(clip_sets[0]) + len(clip_sets[1]))
    plain_config, plain = fit_calibration(loaded.model, *clip_sets, loaded.config, CPU, NoAugmentation())
    assert config.known_threshold < plain_config.known_threshold  # noise makes clips less similar
    assert np.abs(prototypes.whitening - plain.whitening).max() > 1e-3
    # Four copies of each clip have the same optimum as one.
    assert plain_config.temperature == config.temperature


def test_model_from_elsewhere_is_calibrated(bare, data):
    config, skipped = calibrate_folder(bare, read_dataset(data["early"]), read_dataset(data["late"]), CPU)
    folder = load_model_folder(bare)
    assert not skipped
    assert folder.config == config and folder.prototypes is not None
    assert config.temperature != 1 and config.known_threshold is not None


def command(*words: object):
    return CliRunner().invoke(app, ["calibrate", *map(str, words), "--threads", "1"])


def test_command_with_a_file_of_validation_clips(bare, data):
    done = command(bare, data["early"], "--validation-data", data["late"])
    assert done.exit_code == 0, done.output
    config = load_model_folder(bare).config
    assert f"{config.temperature:g}" in done.stdout and f"{config.known_threshold:g}" in done.stdout


def test_command_with_validation_groups_in_one_file(bare, data):
    """The same clips in one file or in two files give the same model."""
    assert command(bare, data["all"], "--val-groups", f"{GROUPS[-2]},{GROUPS[-1][:-1]}[5-9]").exit_code == 0
    from_one_file = load_model_folder(bare)
    (bare / PROTOTYPES).unlink()
    (bare / CONFIG).write_bytes(
        msgspec.structs.replace(from_one_file.config, known_threshold=None, temperature=1.0).to_json()
    )
    assert command(bare, data["early"], "--validation-data", data["late"]).exit_code == 0
    from_two_files = load_model_folder(bare)
    assert from_one_file.config == from_two_files.config
    assert np.array_equal(from_one_file.prototypes.trained, from_two_files.prototypes.trained)


def test_command_draws_validation_clips_if_the_model_has_no_split(bare, data):
    refused = command(bare, data["all"])
    assert isinstance(refused.exception, DataError) and "--val-groups" in str(refused.exception)
    (bare / SPLIT).unlink()
    done = command(bare, data["all"])
    assert done.exit_code == 0 and "camera0" in done.stderr
    assert command(bare, data["all"], "--validation-by-clip", "--seed", "3").exit_code == 0
    assert command(bare, data["early"], "--validation-data", data["late"], "--validation-by-clip").exit_code == 2


def test_folder_is_locked_during_the_calibration(bare, data, monkeypatch):
    early, late = read_dataset(data["early"]), read_dataset(data["late"])
    load = load_model_folder

    def assert_locked(folder):
        with pytest.raises(SpoterError, match=str(bare)), exclusive_lock(folder):
            pass
        return load(folder)

    monkeypatch.setattr(module, "load_model_folder", assert_locked)
    calibrate_folder(bare, early, late, CPU)
    with exclusive_lock(bare), pytest.raises(SpoterError, match=str(bare)):
        calibrate_folder(bare, early, late, CPU)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_model_edited_meanwhile_is_not_overwritten(bare, data, monkeypatch, name):
    early, late = read_dataset(data["early"]), read_dataset(data["late"])
    fit = module.fit_calibration

    def edit(*arguments):
        (bare / name).write_bytes((bare / name).read_bytes() + b"\n")
        return fit(*arguments)

    monkeypatch.setattr(module, "fit_calibration", edit)
    before = {file.name: file.read_bytes() for file in bare.iterdir()}
    with pytest.raises(ModelFolderError, match=name):
        calibrate_folder(bare, early, late, CPU)
    assert {file.name: file.read_bytes() for file in bare.iterdir()} == before | {name: before[name] + b"\n"}


def test_group_in_both_data_sets_is_refused(bare, data):
    before = (bare / CONFIG).read_bytes()
    with pytest.raises(DataError, match=r"camera00 .*early\.hdf5 .*all\.hdf5"):
        calibrate_folder(bare, read_dataset(data["early"]), read_dataset(data["all"]), CPU)
    assert (bare / CONFIG).read_bytes() == before and not (bare / PROTOTYPES).exists()


def test_other_glosses_and_estimators_are_refused(bare, data):
    early, late = read_dataset(data["early"]), read_dataset(data["late"])
    fewer = replace(early, clips=[clip for clip in early.clips if clip.gloss != GLOSSES[0]])
    with pytest.raises(DataError, match=rf"early\.hdf5: .*{GLOSSES[0]}"):
        calibrate_folder(bare, fewer, late, CPU)
    other = replace(early, clips=[*early.clips, replace(early.clips[0], gloss="OTHER")])
    with pytest.raises(DataError, match=r"early\.hdf5: .*OTHER"):
        calibrate_folder(bare, other, late, CPU)
    first, *clips = early.clips
    foreign = replace(early, clips=[*clips, replace(first, clip=replace(first.clip, estimator="openpose"))])
    with pytest.raises(DataError, match=rf"early\.hdf5, clip {first.name}: .*openpose.*mediapipe"):
        calibrate_folder(bare, foreign, late, CPU)


def test_duplicates_of_prototype_clips_are_refused_or_skipped(bare, data):
    early, late = read_dataset(data["early"]), read_dataset(data["late"])
    twin = replace(early.clips[0], name="elsewhere/0", group="elsewhere")
    with pytest.raises(DataError, match=rf"clip elsewhere/0: .*{early.clips[0].name}.*--skip-bad"):
        calibrate_folder(bare, early, replace(late, clips=[*late.clips, twin]), CPU)
    _, skipped = calibrate_folder(bare, early, replace(late, clips=[*late.clips, twin]), CPU, skip_bad=True)
    assert [skip.place for skip in skipped] == [f"elsewhere/0 ({twin.gloss})"]
    with pytest.raises(DataError, match=r"late\.hdf5: .* 1 "):
        calibrate_folder(bare, early, replace(late, clips=[twin]), CPU, skip_bad=True)


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_interruption_never_combines_a_threshold_with_other_prototypes(bare, data, monkeypatch, writes):
    early, late = read_dataset(data["early"]), read_dataset(data["late"])
    calibrate_folder(bare, early, late, CPU)
    before = load_model_folder(bare)

    remaining = list(range(writes))

    def interrupted(path: Path, content: bytes) -> None:
        if not remaining:
            raise KeyboardInterrupt
        remaining.pop()
        atomic_write_bytes(path, content)

    monkeypatch.setattr(module, "atomic_write_bytes", interrupted)
    fewer = [clip for clip in early.clips if clip.group != early.clips[0].group]
    with pytest.raises(KeyboardInterrupt):
        calibrate_folder(bare, replace(early, clips=fewer), late, CPU)
    after = load_model_folder(bare)
    unchanged = np.array_equal(after.prototypes.trained, before.prototypes.trained)
    assert unchanged == (writes < 2)
    assert after.config.known_threshold == (None if writes else before.config.known_threshold)


def test_folder_with_enrolled_glosses_is_refused(bare, data):
    early, late = read_dataset(data["early"]), read_dataset(data["late"])
    calibrate_folder(bare, early, late, CPU)
    enroll(bare, "NEW", [late.clips[0].clip])
    with pytest.raises(ModelFolderError, match=r"enrolled\.json"):
        calibrate_folder(bare, early, late, CPU)
