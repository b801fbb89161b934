"""Temperature, prototypes and threshold, for a model just trained and for one from elsewhere."""

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


def drawn(count: int, sureness: float) -> tuple[np.ndarray, np.ndarray]:
    """Return logits whose true temperature is `sureness`: labels are drawn from the softmax of logits / sureness."""
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(count, 5))
    chances = np.exp(logits / sureness)
    chances /= chances.sum(axis=1, keepdims=True)
    return logits, np.array([rng.choice(5, p=row) for row in chances])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_logits_were_drawn_with_is_found(temperature):
    assert fit_temperature(*drawn(4000, temperature)) == pytest.approx(temperature, rel=0.08)


def test_without_a_wrong_answer_the_model_is_not_called_certain():
    logits = 20 * np.eye(4).repeat(25, axis=0)
    labels = np.arange(4).repeat(25)
    scaled = logits / fit_temperature(logits, labels)
    sure = np.exp(scaled[0, 0]) / np.exp(scaled[0]).sum()
    assert sure == pytest.approx(101 / 102, abs=1e-3)


def test_prototypes_point_to_their_own_clips_whatever_varies_within_a_gloss():
    rng = np.random.default_rng(0)
    labels = np.arange(3).repeat(40)
    embeddings = np.zeros((120, 60))
    embeddings[:, :3] = np.eye(3)[labels]
    embeddings += rng.normal(size=embeddings.shape) * ([0.1] * 59 + [4])  # the last says nothing, loudly
    prototypes = fit_prototypes(embeddings, labels, 3)
    cosines = prototypes.directions(embeddings.astype(np.float32)) @ prototypes.trained.T
    assert (cosines.argmax(axis=1) == labels).mean() > 0.95
    raw = embeddings - embeddings.mean(axis=0)
    means = np.stack([raw[labels == label].mean(axis=0) for label in range(3)])
    near = (raw @ means.T / np.linalg.norm(means, axis=1)).argmax(axis=1)
    assert (near == labels).mean() < 0.8  # without whitening


def test_one_clip_a_gloss_makes_prototypes_too():
    assert np.isfinite(fit_prototypes(np.eye(3), np.arange(3), 3).whitening).all()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    """Two files of generated clips that share no group, and one of both."""
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
    """A model folder as `spoter convert` writes it: without prototypes, threshold and temperature."""
    folder = shutil.copytree(trained, tmp_path / "bare")
    config = msgspec.json.decode((folder / CONFIG).read_bytes()) | {"temperature": 1.0}
    del config["known_threshold"]
    (folder / CONFIG).write_bytes(msgspec.json.encode(config))
    (folder / PROTOTYPES).unlink()
    return folder


def test_training_finishes_a_model(trained):
    folder = load_model_folder(trained)
    assert folder.prototypes.trained.shape == (3, 5 * 108) and folder.config.temperature != 1
    assert -1 < folder.config.known_threshold < 1


def test_the_figures_that_are_fitted_are_those_of_the_validation_clips(bare, data, monkeypatch):
    monkeypatch.setattr("spoter.training.calibration._COPIES", 0)  # so that the clips can be asked about again
    late = read_dataset(data["late"])
    config, _ = calibrate_folder(bare, read_dataset(data["early"]), late, CPU)
    recognizer, prototypes = Recognizer.load(bare), load_model_folder(bare).prototypes
    clips = [clip.clip for clip in late.clips]
    labels = np.array([recognizer.glosses.index(clip.gloss) for clip in late.clips])
    cosines = prototypes.directions(recognizer.embed(clips)) @ prototypes.trained.T
    assert prototypes.typical == pytest.approx(np.median(cosines[np.arange(len(labels)), labels]), abs=1e-3)
    assert fit_temperature(prototypes.scale * cosines, labels) == pytest.approx(1, abs=0.01)
    answers = recognizer.recognize(clips)
    assert sum(answer.known for answer in answers) == pytest.approx(KNOWN_SHARE * len(clips), abs=1)
    assert {answer.known for answer in answers} == {answer.similarity >= config.known_threshold for answer in answers}


def test_prototypes_and_threshold_see_the_clips_augmented_too(bare, data):
    loaded = load_model_folder(bare)
    sides = [
        ClipSet(read_dataset(data[name]).clips, loaded.glosses, ClipEncoder(loaded.layout, "box", 64))
        for name in ("early", "late")
    ]

    class Noisy:
        seen = 0

        def apply(self, points, layout, max_frames, rng):
            self.seen += 1
            return points + rng.normal(0, 0.02, points.shape).astype(np.float32)

    augmenter = Noisy()
    config, prototypes = fit_calibration(loaded.model, *sides, loaded.config, CPU, augmenter)
    assert augmenter.seen == 3 * (len(sides[0]) + len(sides[1]))
    plain_config, plain = fit_calibration(loaded.model, *sides, loaded.config, CPU, NoAugmentation())
    assert config.known_threshold < plain_config.known_threshold  # noise makes clips unlike
    assert np.abs(prototypes.whitening - plain.whitening).max() > 1e-3
    # the same clips four times over are no more than once
    assert plain_config.temperature == config.temperature


def test_a_model_from_elsewhere_is_finished(bare, data):
    config, left_out = calibrate_folder(bare, read_dataset(data["early"]), read_dataset(data["late"]), CPU)
    folder = load_model_folder(bare)
    assert not left_out
    assert folder.config == config and folder.prototypes is not None
    assert config.temperature != 1 and config.known_threshold is not None


def command(*words: object):
    return CliRunner().invoke(app, ["calibrate", *map(str, words), "--threads", "1"])


def test_the_command_with_a_file_of_validation_clips(bare, data):
    done = command(bare, data["early"], "--validation-data", data["late"])
    assert done.exit_code == 0, done.output
    assert f"temperature {load_model_folder(bare).config.temperature:g}, known from" in done.stdout


def test_the_command_with_validation_groups_of_one_file(bare, data):
    """The same clips in one file or in two give the same model."""
    assert command(bare, data["all"], "--val-groups", f"{GROUPS[-2]},{GROUPS[-1][:-1]}[5-9]").exit_code == 0
    one = load_model_folder(bare)
    (bare / PROTOTYPES).unlink()
    (bare / CONFIG).write_bytes(msgspec.structs.replace(one.config, known_threshold=None, temperature=1.0).to_json())
    assert command(bare, data["early"], "--validation-data", data["late"]).exit_code == 0
    two = load_model_folder(bare)
    assert one.config == two.config and np.array_equal(one.prototypes.trained, two.prototypes.trained)


def test_the_command_draws_validation_where_the_model_has_no_split(bare, data):
    refused = command(bare, data["all"])
    assert isinstance(refused.exception, DataError) and "--val-groups" in str(refused.exception)
    (bare / SPLIT).unlink()
    done = command(bare, data["all"])
    assert done.exit_code == 0 and "validation groups: camera0" in done.stderr
    assert command(bare, data["all"], "--validation-by-clip", "--seed", "3").exit_code == 0
    assert command(bare, data["early"], "--validation-data", data["late"], "--validation-by-clip").exit_code == 2


def test_the_folder_is_locked_from_reading_to_writing(bare, data, monkeypatch):
    early, late = read_dataset(data["early"]), read_dataset(data["late"])
    load = load_model_folder

    def locked(folder):
        with pytest.raises(SpoterError, match="another command is writing"), exclusive_lock(folder):
            pass
        return load(folder)

    monkeypatch.setattr(module, "load_model_folder", locked)
    calibrate_folder(bare, early, late, CPU)
    with exclusive_lock(bare), pytest.raises(SpoterError, match="another command is writing"):
        calibrate_folder(bare, early, late, CPU)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_model_that_is_edited_meanwhile_is_not_overwritten(bare, data, monkeypatch, name):
    early, late = read_dataset(data["early"]), read_dataset(data["late"])
    fit = module.fit_calibration

    def edit(*arguments):
        (bare / name).write_bytes((bare / name).read_bytes() + b"\n")
        return fit(*arguments)

    monkeypatch.setattr(module, "fit_calibration", edit)
    before = {file.name: file.read_bytes() for file in bare.iterdir()}
    with pytest.raises(ModelFolderError, match=f"{name} changed"):
        calibrate_folder(bare, early, late, CPU)
    assert {file.name: file.read_bytes() for file in bare.iterdir()} == before | {name: before[name] + b"\n"}


def test_clips_of_both_sides_are_refused(bare, data):
    before = (bare / CONFIG).read_bytes()
    with pytest.raises(DataError, match="camera00 is in two files"):
        calibrate_folder(bare, read_dataset(data["early"]), read_dataset(data["all"]), CPU)
    assert (bare / CONFIG).read_bytes() == before and not (bare / PROTOTYPES).exists()


def test_data_of_other_glosses_or_another_estimator_are_refused(bare, data):
    early, late = read_dataset(data["early"]), read_dataset(data["late"])
    fewer = replace(early, clips=[clip for clip in early.clips if clip.gloss != GLOSSES[0]])
    with pytest.raises(DataError, match=f"found no clip of {GLOSSES[0]}"):
        calibrate_folder(bare, fewer, late, CPU)
    other = replace(early, clips=[*early.clips, replace(early.clips[0], gloss="OTHER")])
    with pytest.raises(DataError, match="does not know: OTHER"):
        calibrate_folder(bare, other, late, CPU)
    first, *clips = early.clips
    foreign = replace(early, clips=[*clips, replace(first, clip=replace(first.clip, estimator="openpose"))])
    with pytest.raises(DataError, match=f"early.hdf5, clip {first.name}: found landmarks of openpose, expected mediap"):
        calibrate_folder(bare, foreign, late, CPU)


def test_validation_clips_that_the_prototypes_are_made_of(bare, data):
    early, late = read_dataset(data["early"]), read_dataset(data["late"])
    twin = replace(early.clips[0], name="elsewhere/0", group="elsewhere")
    with pytest.raises(DataError, match=f"clip elsewhere/0: found the very same points as in {early.clips[0].name}"):
        calibrate_folder(bare, early, replace(late, clips=[*late.clips, twin]), CPU)
    _, left_out = calibrate_folder(bare, early, replace(late, clips=[*late.clips, twin]), CPU, skip_bad=True)
    assert [skipped.place for skipped in left_out] == [f"elsewhere/0 ({twin.gloss})"]
    with pytest.raises(DataError, match="all 1 clips are skipped"):
        calibrate_folder(bare, early, replace(late, clips=[twin]), CPU, skip_bad=True)


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_threshold_never_stands_beside_the_prototypes_of_another(bare, data, monkeypatch, writes):
    early, late = read_dataset(data["early"]), read_dataset(data["late"])
    calibrate_folder(bare, early, late, CPU)
    before = load_model_folder(bare)

    left = list(range(writes))

    def interrupted(path: Path, content: bytes) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        atomic_write_bytes(path, content)

    monkeypatch.setattr(module, "atomic_write_bytes", interrupted)
    fewer = [clip for clip in early.clips if clip.group != early.clips[0].group]
    with pytest.raises(KeyboardInterrupt):
        calibrate_folder(bare, replace(early, clips=fewer), late, CPU)
    after = load_model_folder(bare)
    same = np.array_equal(after.prototypes.trained, before.prototypes.trained)
    assert same == (writes < 2)
    assert after.config.known_threshold == (None if writes else before.config.known_threshold)


def test_enrolled_glosses_are_not_made_worthless(bare, data):
    early, late = read_dataset(data["early"]), read_dataset(data["late"])
    calibrate_folder(bare, early, late, CPU)
    enroll(bare, "NEW", [late.clips[0].clip])
    with pytest.raises(ModelFolderError, match=r"enrolled\.json"):
        calibrate_folder(bare, early, late, CPU)
