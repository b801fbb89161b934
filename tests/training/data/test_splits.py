"""Splits by signer, their record in split.json, and warnings about clips of a signer in several subsets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from spoter.cli.main import app
from spoter.errors import DataError
from spoter.training.data import DataSet, read_dataset
from spoter.training.data.labelled import fingerprint
from spoter.training.data.split import SUBSETS, SplitOptions, match_groups, split_groups
from spoter.training.data.split_record import find_leaks, find_split, read_split, split_dataset
from spoter.training.evaluation.evaluate import evaluate
from spoter.training.settings import TrainSettings
from spoter.training.train import train
from tests.training.datasets import GLOSSES, SMALL, generated_points, write_hdf5

pytestmark = pytest.mark.slow

SITTINGS = r"^(\w+/s\d)/"
SHORT = SMALL | dict(epochs=1)
OPTIONS = [word for name, value in SHORT.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def run(*words: object):
    return CliRunner().invoke(app, [*map(str, words)])


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Clips of two signers in four sittings each, and an empty clip."""
    rng = np.random.default_rng(0)
    clips = [
        (f"{signer}/s{sitting}/{gloss.lower()}{number}", gloss, generated_points(gloss, 18, rng))
        for signer in ("anna", "ben")
        for sitting in range(4)
        for gloss in GLOSSES
        for number in range(2)
    ]
    clips.append(("anna/s0/empty", "NOD", np.zeros((5, 543, 2))))
    return write_hdf5(tmp_path_factory.mktemp("data") / "signs.hdf5", clips)


@pytest.fixture(scope="module")
def signers(data) -> DataSet:
    return read_dataset(data, skip_bad=True)


@pytest.fixture(scope="module")
def sittings(data) -> DataSet:
    return read_dataset(data, skip_bad=True, groups=SITTINGS)


@pytest.fixture(scope="module")
def by_sittings(data, tmp_path_factory) -> Path:
    """The model folder of a run with --group-regex and --skip-bad."""
    out = tmp_path_factory.mktemp("models") / "m"
    train(TrainSettings(data=data, out=out, group_regex=SITTINGS, skip_bad=True, **SHORT))
    return out


# --- patterns ---


def test_patterns_match_groups_and_names_come_before_patterns():
    groups = ["anna/s1", "anna/s2", "ben/s1", "ben*", "a[1]"]
    assert match_groups(["anna/*"], groups, "--test-groups") == ("anna/s1", "anna/s2")
    assert match_groups(["*/s1", "anna/s?"], groups, "--test-groups") == ("anna/s1", "anna/s2", "ben/s1")
    assert match_groups(["ben*", "a[1]"], groups, "--test-groups") == ("a[1]", "ben*")
    with pytest.raises(DataError, match=r"^--test-groups: .*'carl\*'.*anna/s1, .*ben/s1$"):
        match_groups(["anna/*", "carl*"], groups, "--test-groups")


def test_pattern_selects_a_signer_for_testing(sittings):
    split = split_groups(sittings.clips, SplitOptions(test_groups=["ben/*"]))
    assert split.test == ("ben/s0", "ben/s1", "ben/s2", "ben/s3")
    assert {group.partition("/")[0] for group in split.train + split.validation} == {"anna"}
    with pytest.raises(DataError, match=r"ben/s1 .*validation and test"):
        split_groups(sittings.clips, SplitOptions(validation_groups=["*/s1"], test_groups=["ben/*"]))


# --- validation within the training groups ---


def test_validation_by_clip_draws_clips_of_the_training_signer(signers):
    split = split_groups(signers.clips, SplitOptions(0.25, test_groups=["ben"], by_clip=True))
    assert (split.train, split.validation, split.test) == (("anna",), ("anna",), ("ben",))
    subsets = [split.select(signers.clips, subset) for subset in SUBSETS]
    assert [len(subset) for subset in subsets] == [18, 6, 24]
    assert len({clip.name for subset in subsets for clip in subset}) == len(signers.clips)
    assert {clip.gloss for clip in subsets[1]} == set(GLOSSES)
    assert split == split_groups(signers.clips, SplitOptions(0.25, test_groups=["ben"], by_clip=True))
    assert split != split_groups(signers.clips, SplitOptions(0.25, test_groups=["ben"], by_clip=True, seed=1))


def test_validation_by_clip_with_drawn_test_groups(sittings):
    split = split_groups(sittings.clips, SplitOptions(by_clip=True))
    assert split.test and set(split.test).isdisjoint(split.train) and set(split.validation) <= set(split.train)


def test_impossible_validation_by_clip_is_an_error(data, signers, tmp_path):
    with pytest.raises(DataError, match=r"--val-groups .*--validation-by-clip"):
        split_groups(signers.clips, SplitOptions(validation_groups=["anna"], test_groups=["ben"], by_clip=True))
    with pytest.raises(DataError, match="test groups"):
        split_groups(signers.clips, SplitOptions(test_groups=["*"], by_clip=True))
    few = [clip for clip in signers.clips if clip.gloss != "NOD" or clip.group == "ben" or clip.name == "anna/s0/nod0"]
    with pytest.raises(DataError, match=r"--validation-by-clip: .*NOD.*--skip-bad"):
        split_groups(few, SplitOptions(test_groups=["ben"], by_clip=True))
    with pytest.raises(DataError, match=r"--validation-data .*--validation-by-clip"):
        train(TrainSettings(data=data, out=tmp_path / "m", validation_data=data, validation_by_clip=True, **SHORT))


def test_training_on_one_signer_and_testing_on_another(data, tmp_path):
    out = tmp_path / "m"
    words = ["--test-groups", "ben", "--validation-by-clip", "--skip-bad"]
    done = run("train", data, "--out", out, *OPTIONS, *words)
    assert done.exit_code == 0, done.output
    record = find_split(out)
    assert record.split.test == ("ben",) and record.split.validation_clips and record.skip_bad
    for subset, count in (("train", 21), ("validation", 3), ("test", 24)):
        assert json.loads((out / "split.json").read_text())[subset]["clips"] == count
        assert evaluate(out, data, split=subset, robust=False).figures.clips == count
    card = (out / "MODEL_CARD.md").read_text()
    assert "--validation-by-clip" in card and card.count("**Warning:**") == 1  # not about groups in several subsets


# --- warnings about leaks ---


def test_split_by_sittings_warns_about_signers_in_several_subsets(by_sittings, sittings, data, tmp_path):
    card = " ".join((by_sittings / "MODEL_CARD.md").read_text().split())
    assert re.search(r"\*\*Warning:\*\* .*: anna \(.*train.*\); ben \(.*train.*\)", card)
    words = ["--group-regex", SITTINGS, "--test-groups", "ben/*", "--skip-bad"]
    done = run("train", data, "--out", tmp_path / "m", *OPTIONS, *words)
    assert re.search(r"^warning: .*: anna \(train, validation\)\.", done.stderr, re.MULTILINE)
    assert "ben (" not in done.stderr


def test_split_by_signers_has_no_warning(signers):
    clips = sorted(signers.clips, key=lambda clip: clip.group)
    split = split_groups(clips, SplitOptions(0.15, None, validation_groups=["ben"]))
    assert find_leaks(signers, split) == []


def test_data_without_groups_have_a_warning(tmp_path):
    rng = np.random.default_rng(0)
    clips = [(f"{gloss.lower()}/{i}", gloss, generated_points(gloss, 16, rng)) for gloss in GLOSSES for i in range(6)]
    result = train(TrainSettings(data=write_hdf5(tmp_path / "a.hdf5", clips), out=tmp_path / "m", **SHORT))
    (sentence,) = find_leaks(result.data, result.split)
    card = " ".join((tmp_path / "m" / "MODEL_CARD.md").read_text().split())
    assert f"**Warning:** {sentence}" in card and "Split by clips" in card


# --- options for reading the data in split.json ---


def test_evaluate_and_export_read_the_data_like_training(by_sittings, data):
    record = find_split(by_sittings)
    assert (record.group_regex, record.skip_bad) == (SITTINGS, True)
    done = run("evaluate", by_sittings, data, "--split", "test", "--json")
    assert done.exit_code == 0 and "skipped: " in done.stderr
    assert json.loads(done.stdout)["clips"] == json.loads((by_sittings / "split.json").read_text())["test"]["clips"]
    done = run("export", by_sittings, "--int8", "--data", data)
    assert done.exit_code == 0, done.exception
    group = record.split.test[0]
    assert evaluate(by_sittings, data, [group], robust=False).predictions.groups == (group,) * 6
    assert evaluate(by_sittings, data, robust=False).trained_on > 0


def test_options_override_split_json(by_sittings, data):
    assert evaluate(by_sittings, data, ["ben"], group_regex="", robust=False).figures.clips == 24
    with pytest.raises(DataError, match=r"signs\.hdf5: .*(anna|ben)/s\d.*--group-regex"):
        evaluate(by_sittings, data, split="test", group_regex="")
    with pytest.raises(DataError, match="--group-regex"):
        evaluate(by_sittings, data, group_regex="nowhere(.)")


def test_glosses_left_out_of_training_are_skipped_or_counted(data, tmp_path):
    out = tmp_path / "m"
    settings = dict(test_groups=("ben",), validation_by_clip=True, skip_bad=True, leave_out=("NOD",))
    train(TrainSettings(data=data, out=out, **settings, **SHORT))
    assert find_split(out).left_out == ("NOD",)
    notes: list[str] = []
    evaluation = evaluate(out, data, split="test", robust=False, note=notes.append)
    assert evaluation.figures.clips == 16 and evaluation.unknown is None
    assert sum("(NOD)" in note for note in notes) == 16 and len(evaluation.skipped) == len(notes) == 17
    assert evaluate(out, data, split="test", robust=False, count_unknown=True).unknown.clips == 8
    assert run("export", out, "--int8", "--data", data).exception is None


def test_split_json_of_earlier_versions_is_read(by_sittings, data, tmp_path):
    content = json.loads((by_sittings / "split.json").read_text())
    for name in ("group_regex", "skip_bad", "left_out"):
        del content[name]
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content))
    record = read_split(path)
    assert record.split == find_split(by_sittings).split and record.seed == 0
    assert (record.group_regex, record.skip_bad, record.left_out) == (None, False, ())
    for invalid in ({"group_regex": 1}, {"skip_bad": "no"}, {"left_out": "NOD"}, {"validation_clips": [1]}):
        path.write_text(json.dumps(content | invalid))
        with pytest.raises(DataError, match=rf"split\.json: .*{next(iter(invalid))}"):
            read_split(path)


def test_subset_of_a_model_without_split_json_is_an_error(by_sittings, data, tmp_path):
    (tmp_path / "m").symlink_to(by_sittings)
    (tmp_path / "bare").mkdir()
    for file in by_sittings.iterdir():
        if file.name != "split.json":
            (tmp_path / "bare" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(DataError, match=r"split\.json: .*--groups"):
        evaluate(tmp_path / "bare", data, split="test")


# --- skipped clips are always printed ---


def test_skipped_clips_are_printed_if_training_cannot_start(data, tmp_path):
    done = run(
        "train", data, "--out", tmp_path / "m", *OPTIONS, "--skip-bad"
    )  # two signers are not enough for three subsets
    assert isinstance(done.exception, DataError) and "skipped: " in done.stderr
    assert re.search(
        r" 2 groups \(anna, ben\) .*--group-regex .*--test-groups .*--validation-by-clip", str(done.exception)
    )


def test_skipped_clips_are_printed_if_all_glosses_are_too_rare(sittings):
    clips = [clip for clip in sittings.clips if clip.group == f"anna/s{GLOSSES.index(clip.gloss)}"]
    notes: list[str] = []
    rare = DataSet(clips, [], sittings.sources, True, "mediapipe")
    with pytest.raises(DataError, match=r" 3 glosses.*--group-regex"):
        split_dataset(rare, SplitOptions(), skip_bad=True, note=notes.append)
    assert len(notes) == len(clips) and all(note.startswith("skipped: anna/s") for note in notes)


def test_error_for_a_data_set_of_bad_clips_lists_them(tmp_path):
    clips = [(f"anna/{i}", "NOD", np.zeros((5, 543, 2))) for i in range(12)]
    with pytest.raises(DataError) as caught:
        read_dataset(write_hdf5(tmp_path / "a.hdf5", clips), skip_bad=True)
    assert str(caught.value).count("skipped: ") == 10 and "and 2 more" in str(caught.value)


# --- spoter data split ---


def test_data_split_writes_files_that_other_commands_read(data, sittings, tmp_path):
    words = ["--skip-bad", "--group-regex", SITTINGS, "--test-groups", "ben/*"]
    done = run("data", "split", data, "--out", tmp_path / "parts", *words)
    assert done.exit_code == 0, done.exception
    assert "skipped: " in done.stderr and ": anna (train, validation)." in done.stderr
    split = split_groups(sittings.clips, SplitOptions(test_groups=["ben/*"]))
    for subset in SUBSETS:
        written = read_dataset(tmp_path / "parts" / f"{subset}.hdf5", groups=SITTINGS)
        expected = split.select(sittings.clips, subset)
        assert [(c.name, c.gloss, c.group) for c in written.clips] == [(c.name, c.gloss, c.group) for c in expected]
        assert [fingerprint(clip) for clip in written.clips] == [fingerprint(clip) for clip in expected]
    files = [
        "--validation-data",
        tmp_path / "parts" / "validation.hdf5",
        "--test-data",
        tmp_path / "parts" / "test.hdf5",
    ]
    train_file = tmp_path / "parts" / "train.hdf5"
    trained = run("train", train_file, *files, "--out", tmp_path / "m", "--group-regex", SITTINGS, *OPTIONS)
    assert trained.exit_code == 0, trained.exception
    again = run("data", "split", data, "--out", tmp_path / "parts", *words)
    assert isinstance(again.exception, DataError) and "train.hdf5" in str(again.exception)


def test_data_split_writes_groups_into_the_names_of_clips(tmp_path):
    """The groups of clips in a folder are in groups.csv; without it, each clip is its own group."""
    rng = np.random.default_rng(0)
    lines = ["clip,group"]
    for gloss in GLOSSES:
        (tmp_path / "signs" / gloss).mkdir(parents=True)
        for i in range(6):
            np.save(tmp_path / "signs" / gloss / f"{i}.npy", generated_points(gloss, 16, rng))
            lines.append(f"{gloss}/{i},signer{i % 3}")
    for name, groups in (("grouped", "\n".join(lines)), ("ungrouped", None)):
        if groups:
            (tmp_path / "signs" / "groups.csv").write_text(groups)
        else:
            (tmp_path / "signs" / "groups.csv").unlink()
        assert run("data", "split", tmp_path / "signs", "--out", tmp_path / name).exit_code == 0
        files = [read_dataset(tmp_path / name / f"{subset}.hdf5") for subset in SUBSETS]
        assert sum(len(file.clips) for file in files) == 18
        groups_of_files = [{clip.group for clip in file.clips} for file in files]
        assert sum(map(len, groups_of_files)) == len(set().union(*groups_of_files)) == (3 if groups else 18)
        assert all(file.grouped == bool(groups) for file in files)
