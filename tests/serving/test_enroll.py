"""`spoter enroll`: a gloss is learned from a few clips, recognized, listed and removed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from spoter.cli.main import app
from spoter.errors import InputError, ModelFolderError, SpoterError
from spoter.fewshot.enrolled import ENROLLED
from spoter.files import exclusive_lock
from spoter.landmarks.clip import Clip, make_clip
from spoter.landmarks.layouts import load_layout
from spoter.model.folder import PROTOTYPES, load_model_folder, refuse_enrolled
from spoter.serving.enroll import enroll, unenroll
from spoter.serving.recognizer import Recognizer
from spoter.sources.clip_files import read_clips
from tests.generate import figure_clip

RUNNER = CliRunner()


@pytest.fixture
def model(dgs11, tmp_path) -> Path:
    return shutil.copytree(dgs11, tmp_path / "model")


@pytest.fixture
def low_hallo(samples) -> Callable[[int], Clip]:
    """Clips of a sign that the bundled model does not know: HALLO with a much lower hand and small differences."""
    (hallo,) = read_clips([samples / "hallo.json"], load_layout("54"))
    moved = [i for i, name in enumerate(hallo.names) if name.startswith(("right", "pose_right_wrist"))]

    def make(seed: int) -> Clip:
        rng = np.random.default_rng(seed)
        points = hallo.points[rng.integers(0, 4) :].copy()
        points[:, moved] += np.float32([0, 0.3])
        noise = 0.02 * rng.normal(size=2) + 0.001 * rng.normal(size=points.shape)
        return make_clip(points + noise.astype(np.float32), hallo.names, hallo.estimator)

    return make


def test_enrolled_gloss_is_recognized_and_known(model, low_hallo):
    before = Recognizer.load(model).recognize([low_hallo(9)])[0]
    done = enroll(model, " LOW HALLO ", [low_hallo(seed) for seed in range(3)])
    assert done.learned.clips == 3 and 0 < done.agreement <= 1 and done.similarity < done.agreement
    recognizer = Recognizer.load(model)
    assert recognizer.glosses[-1] == "LOW HALLO" and len(recognizer.glosses) == recognizer.config.classes + 1
    after = recognizer.recognize([low_hallo(9)], top_k=99)[0]
    assert before.glosses[0].gloss != "LOW HALLO"
    assert (after.glosses[0].gloss, after.glosses[0].index) == ("LOW HALLO", 11)
    assert after.known and len(after.glosses) == 12
    assert sum(ranked.score for ranked in after.glosses) == pytest.approx(1, abs=1e-5)


def test_similarity_to_an_enrolled_gloss_is_raised_by_its_attenuation(model):
    clip = figure_clip(frames=30)
    enroll(model, "ONE", [clip])
    enroll(model, "FIVE", [clip] * 5)
    prototypes = load_model_folder(model).prototypes
    scores = {ranked.gloss: ranked.score for ranked in Recognizer.load(model).recognize([clip], top_k=99)[0].glosses}
    # This clip has the cosine 1 with both prototypes.
    similarities = [1 / prototypes.attenuation(count) for count in (1, 5)]
    assert np.log(scores["ONE"] / scores["FIVE"]) == pytest.approx(
        prototypes.scale * (similarities[0] - similarities[1]), rel=1e-3
    )
    (answer,) = Recognizer.load(model).recognize([clip])
    assert answer.glosses[0].gloss == "ONE" and answer.similarity == pytest.approx(similarities[0], rel=1e-4)


def test_other_glosses_are_recognized_as_before(model, samples, low_hallo):
    files = sorted(
        file for file in samples.glob("[a-z]*.*") if file.suffix in (".json", ".csv", ".npy") and file.stem != "hallo"
    )
    answers = [RUNNER.invoke(app, ["predict", str(model), *map(str, files)]).stdout]
    enroll(model, "LOW HALLO", [low_hallo(seed) for seed in range(3)])
    answers.append(RUNNER.invoke(app, ["predict", str(model), *map(str, files)]).stdout)
    before, after = ([msgspec.json.decode(line) for line in text.splitlines()] for text in answers)
    assert len(before) == len(files) >= 3
    for old, new in zip(before, after, strict=True):
        assert old["instances"][0]["gloss"] == new["instances"][0]["gloss"]
        assert old["known"] == new["known"]


def test_several_glosses_keep_their_order_and_can_be_removed(model):
    for number, gloss in enumerate(("ONE", "TWO", "THREE")):
        enroll(model, gloss, [figure_clip(frames=30, seed=number)])
    unenroll(model, "TWO")
    assert Recognizer.load(model).glosses[11:] == ("ONE", "THREE")
    enroll(model, "ONE", [figure_clip(frames=30, seed=7), figure_clip(frames=30, seed=8)], replace=True)
    assert [(gloss.gloss, gloss.clips) for gloss in load_model_folder(model).enrolled] == [("ONE", 2), ("THREE", 1)]
    unenroll(model, " ONE ")
    unenroll(model, "THREE")
    assert not (model / ENROLLED).exists()


@pytest.mark.parametrize(
    ("gloss", "clips", "pattern"),
    [
        ("HALLO", 1, "HALLO .*trained"),
        ("TWICE", 1, "TWICE .*--replace"),
        ("  ", 1, "empty gloss"),
        ("TAB\tBED", 1, r"'TAB\\tBED'"),
        ("TWO\nLINES", 1, r"'TWO\\nLINES'"),
        ("\udcff", 1, r"udcff"),  # a byte that is not UTF-8, in the shell's form
        ("NEW", 0, "no clip of NEW"),
    ],
)
def test_unusable_gloss_is_refused_and_nothing_changes(model, gloss, clips, pattern):
    enroll(model, "TWICE", [figure_clip()])
    before = (model / ENROLLED).read_bytes()
    with pytest.raises((ModelFolderError, InputError), match=pattern):
        enroll(model, gloss, [figure_clip()] * clips)
    assert (model / ENROLLED).read_bytes() == before


def test_second_command_that_enrolls_at_the_same_time_is_refused(model):
    with exclusive_lock(model), pytest.raises(SpoterError, match="another command"):
        enroll(model, "NEW", [figure_clip()])
    enroll(model, "NEW", [figure_clip()])
    with exclusive_lock(model), pytest.raises(SpoterError, match="another command"):
        unenroll(model, "NEW")
    with pytest.raises(SpoterError, match="No such file"):
        enroll(model / "nowhere", "NEW", [figure_clip()])


def test_bad_clip_is_an_error_with_its_place_and_nothing_is_written(model):
    empty = make_clip(np.full((4, 543, 2), np.nan), figure_clip().names, "mediapipe")
    with pytest.raises(InputError, match=r"^clip 1: "):
        enroll(model, "NEW", [figure_clip(), empty])
    with pytest.raises(InputError, match=r"^second\.json: "):
        enroll(model, "NEW", [figure_clip(), empty], places=["first.json", "second.json"])
    assert not (model / ENROLLED).exists()


def test_clip_that_is_too_long_is_an_error_with_its_file(model, samples, tmp_path):
    long = msgspec.json.decode((samples / "zeigen-compact.json").read_bytes())
    long["points"] = (long["points"] * 10)[:513]
    (tmp_path / "long.json").write_bytes(msgspec.json.encode(long))
    files = [str(samples / "hallo.json"), str(tmp_path / "long.json")]
    failed = RUNNER.invoke(app, ["enroll", str(model), "NEW", *files])
    assert isinstance(failed.exception, InputError)
    assert failed.exception.code == "too_many_frames" and failed.exception.where == str(tmp_path / "long.json")


def test_clips_of_different_signs_have_a_low_agreement(model, samples, low_hallo):
    layout = load_layout("54")
    clips = read_clips([samples / "hallo.json", samples / "deutschland.csv"], layout)
    assert enroll(model, "MIXED", clips).agreement < 0.3 < enroll(model, "LOW", [low_hallo(0), low_hallo(1)]).agreement
    assert enroll(model, "ONE", clips[:1]).agreement == pytest.approx(1)


def test_model_without_prototypes_cannot_enroll(model):
    config = msgspec.json.decode((model / "config.json").read_bytes())
    del config["known_threshold"]
    (model / "config.json").write_bytes(msgspec.json.encode(config))
    (model / PROTOTYPES).unlink()
    with pytest.raises(ModelFolderError, match="spoter calibrate"):
        enroll(model, "NEW", [figure_clip()])


def change(path: Path, **fields) -> None:
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | fields))


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"space": "0" * 64}, "another model"),
        ({"glosses": [{"gloss": "HALLO", "clips": 1, "prototype": [0.0] * 540}]}, "HALLO"),
        ({"glosses": [{"gloss": "NEW", "clips": 1, "prototype": [0.0] * 3}]}, "NEW.* 540"),
        ({"glosses": [{"gloss": "NEW"}]}, "enrolled.json"),
        ({"more": 1}, "enrolled.json"),
    ],
)
def test_enrolled_json_that_does_not_fit_the_model_is_refused(model, fields, pattern):
    enroll(model, "NEW", [figure_clip()])
    change(model / ENROLLED, **fields)
    with pytest.raises(ModelFolderError, match=pattern):
        load_model_folder(model)


def test_same_prototypes_in_another_file_order_keep_enrolled_glosses(model):
    """Another version of NumPy may write the arrays in another order."""
    enroll(model, "NEW", [figure_clip()])
    with np.load(model / PROTOTYPES) as file:
        arrays = dict(file)
    np.savez_compressed(model / PROTOTYPES, **dict(reversed(arrays.items())))
    assert [gloss.gloss for gloss in load_model_folder(model).enrolled] == ["NEW"]


def test_new_weights_do_not_replace_a_folder_with_enrolled_glosses(model):
    refuse_enrolled(model)
    enroll(model, "NEW", [figure_clip()])
    with pytest.raises(ModelFolderError, match=r"enrolled\.json"):
        refuse_enrolled(model)


def test_commands_enroll_list_and_unenroll(model, samples, tmp_path):
    files = [str(samples / "hallo.json"), str(samples / "deutschland.csv")]
    done = RUNNER.invoke(app, ["enroll", str(model), "GREETING", *files])
    assert done.exit_code == 0, done.output
    assert "GREETING from 2 clips" in done.stdout and re.search(r"two clips: 0\.\d\d", done.stdout)
    assert re.search(r"gloss: \S+, 0\.\d\d", done.stdout)
    assert RUNNER.invoke(app, ["enrolled", str(model)]).stdout == "11\tGREETING\t2\n"
    assert RUNNER.invoke(app, ["unenroll", str(model), "GREETING"]).exit_code == 0
    assert RUNNER.invoke(app, ["enrolled", str(model)]).stdout == ""
    (tmp_path / "bad.json").write_text('{"points": []}')
    failed = RUNNER.invoke(app, ["enroll", str(model), "NEW", str(tmp_path / "bad.json")])
    assert isinstance(failed.exception, InputError) and "bad.json" in str(failed.exception)
