"""Stratified splits, subsets in files, rare glosses, split.json, and damaged HDF5 files."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from spoter.errors import DataError
from spoter.landmarks.clip import make_clip
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.training.data import DataSet, LabelledClip, merge_presplit, read_dataset
from spoter.training.data.folds import split_into_folds
from spoter.training.data.split import (
    SUBSETS,
    Split,
    SplitOptions,
    check_split,
    drop_rare_glosses,
    find_rare_glosses,
    split_groups,
)
from spoter.training.data.split_record import SplitRecord, read_split
from tests.training.datasets import GLOSSES, GROUPS, generated_clips, generated_points, write_hdf5


def labelled(group: str, gloss: str, number: int, rng: np.random.Generator) -> LabelledClip:
    points = rng.uniform(0.2, 0.8, size=(2, len(MEDIAPIPE.names), 2))
    return LabelledClip(make_clip(points, MEDIAPIPE.names, "mediapipe"), gloss, group, f"{group}/{gloss}/{number}")


def data_of(table: dict[str, dict[str, int]]) -> list[LabelledClip]:
    """Return clips of random points, with the given number of clips per group and gloss."""
    rng = np.random.default_rng(0)
    return [
        labelled(group, gloss, number, rng)
        for group, glosses in table.items()
        for gloss, count in glosses.items()
        for number in range(count)
    ]


def shares(clips: list[LabelledClip], split: Split) -> dict[str, np.ndarray]:
    """Return the shares of the clips of each gloss in the three subsets."""
    counts = [Counter(clip.gloss for clip in split.select(clips, subset)) for subset in SUBSETS]
    return {
        gloss: np.array([count[gloss] for count in counts]) / sum(count[gloss] for count in counts)
        for gloss in sorted({clip.gloss for clip in clips})
    }


@pytest.mark.parametrize("seed", range(3))
def test_each_gloss_has_the_requested_shares_although_groups_have_different_glosses(seed):
    # By size only, all groups with many A could go to training and all groups with many B to the other subsets.
    clips = data_of({f"a{i}": {"A": 4, "B": 1} for i in range(10)} | {f"b{i}": {"A": 1, "B": 4} for i in range(10)})
    split = split_groups(clips, SplitOptions(validation=0.2, test=0.2, seed=seed))
    for share in shares(clips, split).values():
        np.testing.assert_allclose(share, [0.6, 0.2, 0.2], atol=0.05)


def test_best_split_of_few_groups_is_found():
    rng = np.random.default_rng(5)
    clips = data_of({f"g{i}": {"A": int(rng.integers(1, 9)), "B": int(rng.integers(1, 9))} for i in range(7)})
    wanted = np.array([0.7, 0.15, 0.15])

    def deviation(split: Split) -> float:
        return sum(
            (((share - wanted) ** 2) / wanted).sum() * size[gloss] for gloss, share in shares(clips, split).items()
        )

    size = Counter(clip.gloss for clip in clips)
    all_splits = [
        Split(*(tuple(f"g{i}" for i in range(7) if subsets[i] == subset) for subset in range(3)))
        for subsets in itertools.product(range(3), repeat=7)
        if len(set(subsets)) == 3
    ]
    assert deviation(split_groups(clips)) == pytest.approx(min(map(deviation, all_splits)))


def test_clips_without_groups_are_split_exactly():
    clips = data_of({f"{gloss}{i}": {gloss: 1} for gloss in "ABCD" for i in range(20)})
    split = split_groups(clips)
    for share in shares(clips, split).values():
        np.testing.assert_allclose(share, [0.7, 0.15, 0.15], atol=1e-9)
    assert split != split_groups(clips, SplitOptions(seed=1))


def test_glosses_with_three_clips_are_in_each_subset():
    clips = data_of({f"{gloss}{i}": {gloss: 1} for gloss in "ABCDEFGH" for i in range(3)})
    split = split_groups(clips)
    assert [len(split.select(clips, subset)) for subset in SUBSETS] == [8, 8, 8]


def test_subset_with_named_groups_is_fixed_and_the_other_is_drawn():
    clips = data_of({f"g{i:02}": {"A": 2, "B": 3} for i in range(20)})
    split = split_groups(clips, SplitOptions(test=0.2, validation_groups=["g03"]))
    assert split.validation == ("g03",)
    assert len(split.test) == 4 and len(split.train) == 15


def test_rare_glosses_are_errors_with_their_groups_and_clips_or_are_dropped():
    clips = data_of({f"g{i}": {"A": 2} | ({"B": 1} if i == 0 else {}) | ({"C": 3} if i < 2 else {}) for i in range(5)})
    rare = r"B \(groups: 1, clips: 1, g0/B/0\), C \(groups: 2, clips: 6, g0/C/0\)\. .*--skip-bad"
    with pytest.raises(DataError, match=rare):
        split_groups(clips)
    assert find_rare_glosses(clips) == {"B": 1, "C": 2}
    data = DataSet(clips, [], (Path("x"),), True, "mediapipe")
    frequent = drop_rare_glosses(data)
    assert frequent.glosses == ("A",) and len(frequent.clips) == 10 and len(frequent.skipped) == 7
    assert frequent.skipped[0].place == "g0/B/0 (B)"
    split_groups(frequent.clips)
    # With one named subset, a gloss needs two other groups; with two named subsets, one.
    assert drop_rare_glosses(data, SplitOptions(validation_groups=["g4"])).glosses == ("A", "C")
    assert drop_rare_glosses(data, SplitOptions(validation_groups=["g4"], test_groups=["g3"])).glosses == (
        "A",
        "B",
        "C",
    )
    assert drop_rare_glosses(data, SplitOptions(validation_groups=["g1"], test_groups=["g0"])).glosses == ("A",)


def test_only_possible_split_is_found_and_an_impossible_one_is_an_error():
    def clips(*groups: str) -> list[LabelledClip]:
        return data_of({f"g{i}": dict.fromkeys(glosses, 1) for i, glosses in enumerate(groups)})

    split = split_groups(clips("AB", "AC", "BC", "A", "B", "C"))
    assert sorted(split.train + split.validation + split.test) == [f"g{i}" for i in range(6)]
    assert {frozenset(getattr(split, subset)) for subset in SUBSETS} == {
        frozenset(pair) for pair in (("g0", "g5"), ("g1", "g4"), ("g2", "g3"))
    }
    # Each gloss is in three groups here too, but next to ABC, three groups remain for two subsets.
    with pytest.raises(DataError, match=" 4 groups"):
        split_groups(clips("AB", "AC", "BC", "ABC"))


def test_split_json_is_read_and_invalid_content_is_refused(tmp_path):
    split = Split(("a", "b"), ("c",), ("d",))
    path = tmp_path / "split.json"
    subsets = {subset: {"clips": 3, "groups": getattr(split, subset)} for subset in SUBSETS}
    path.write_text(json.dumps({"seed": 7, **subsets}))
    assert read_split(path) == SplitRecord(split, 7)
    for content in (
        "{", "[]", '{"seed": 0}', json.dumps({"seed": "0", **subsets}), json.dumps(subsets),
        json.dumps({"seed": 0, **subsets, "test": {"groups": "camera01"}}),
    ):  # fmt: skip
        path.write_text(content)
        with pytest.raises(DataError, match=r"split\.json: .*train, validation, test"):
            read_split(path)
    with pytest.raises(DataError, match=r"absent\.json: "):
        read_split(tmp_path / "absent.json")


def test_folds_with_duplicates_or_all_clips_of_a_gloss_are_errors():
    clips = data_of({f"g{i}": {"A": 2, "B": 2} for i in range(4)})
    with_duplicate = [*clips[:-1], dataclasses.replace(clips[-1], clip=clips[0].clip)]
    with pytest.raises(DataError, match=r"g0/A/0 \(fold \d\) and g3/B/1 \(fold \d\) .*--skip-bad"):
        split_into_folds(with_duplicate, 4)
    with_rare_gloss = [*clips, *data_of({"h": {"C": 1}})]
    with pytest.raises(DataError, match=r"fold \d .*\bC\b"):
        split_into_folds(with_rare_gloss, 2)


# --- subsets in files ---


def part(tmp_path: Path, name: str, groups: tuple[str, ...]) -> DataSet:
    clips = [clip for clip in generated_clips() if clip[0].split("/")[0] in groups]
    return read_dataset(write_hdf5(tmp_path / f"{name}.hdf5", clips))


def test_two_files_become_train_and_validation_and_test_is_drawn_from_training(tmp_path):
    train, validation = part(tmp_path, "s-Train", GROUPS[:5]), part(tmp_path, "s-Val", GROUPS[5:])
    data, validation_groups, test_groups = merge_presplit(train, validation)
    assert (validation_groups, test_groups) == (GROUPS[5:], ())
    assert [clip.name for clip in data.clips] == sorted(name for name, _, _ in generated_clips())
    assert data.sources == (tmp_path / "s-Train.hdf5", tmp_path / "s-Val.hdf5") and data.grouped
    split = split_groups(data.clips, SplitOptions(validation_groups=validation_groups, test_groups=test_groups))
    assert split.validation == GROUPS[5:] and len(split.test) == 1 and len(split.train) == 4


def test_three_files_become_the_three_subsets(tmp_path):
    files = (part(tmp_path, "a", GROUPS[:4]), part(tmp_path, "b", GROUPS[4:5]), part(tmp_path, "c", GROUPS[5:]))
    data, validation_groups, test_groups = merge_presplit(*files)
    split = split_groups(data.clips, SplitOptions(validation_groups=validation_groups, test_groups=test_groups))
    assert split == Split(GROUPS[:4], GROUPS[4:5], GROUPS[5:])
    assert merge_presplit(files[0])[1:] == ((), ())


def test_group_or_clip_in_two_files_is_an_error(tmp_path):
    train = part(tmp_path, "train", GROUPS[:4])
    with pytest.raises(DataError, match=r"camera03 .*train\.hdf5 and .*val\.hdf5"):
        merge_presplit(train, part(tmp_path, "val", GROUPS[3:5]))
    with pytest.raises(DataError, match=r"camera05 .*b\.hdf5 and .*c\.hdf5"):
        merge_presplit(train, part(tmp_path, "b", GROUPS[4:]), part(tmp_path, "c", GROUPS[5:]))
    name, gloss, points = next(generated_clips())
    repeated = [("elsewhere/1", gloss, points), *(clip for clip in generated_clips() if clip[0].startswith("camera05"))]
    validation = read_dataset(write_hdf5(tmp_path / "repeated.hdf5", repeated))
    data, *groups = merge_presplit(train, validation)
    with pytest.raises(DataError, match=rf"{name} .*elsewhere/1 .*--skip-bad"):
        split_groups(data.clips, SplitOptions(0.15, 0.15, *groups))
    data, *groups = merge_presplit(train, validation, skip_bad=True)
    assert [skip.place for skip in data.skipped] == ["elsewhere/1 (CIRCLE)"] and groups[0] == ("camera05",)
    split_groups(data.clips, SplitOptions(0.15, 0.15, *groups))


def test_subset_whose_clips_are_all_skipped_is_an_error(tmp_path):
    train = part(tmp_path, "train", GROUPS[:5])
    repeated = [(f"elsewhere/{i}", gloss, points) for i, (_, gloss, points) in enumerate(generated_clips()) if i < 9]
    validation = read_dataset(write_hdf5(tmp_path / "repeated.hdf5", repeated))
    named = r"repeated\.hdf5: .* 9 .*train\.hdf5"
    with pytest.raises(DataError, match=named):
        merge_presplit(train, validation, skip_bad=True)
    other = dataclasses.replace(
        validation, clips=[dataclasses.replace(clip, gloss="HELLO") for clip in validation.clips]
    )
    with pytest.raises(DataError, match=named):
        merge_presplit(train, other, skip_bad=True)


def test_glosses_that_training_lacks_are_an_error_or_skipped(tmp_path):
    train = part(tmp_path, "train", GROUPS[:4])
    other = part(tmp_path, "val", GROUPS[4:])
    renamed = [dataclasses.replace(clip, gloss="HELLO") if clip.gloss == "NOD" else clip for clip in other.clips]
    other = dataclasses.replace(other, clips=renamed)
    with pytest.raises(DataError, match=r"val\.hdf5, clip camera04/nod/0: .*HELLO.* 3 .*train"):
        merge_presplit(train, other)
    data, _, _ = merge_presplit(train, other, skip_bad=True)
    assert data.glosses == GLOSSES and len(data.skipped) == 6


def test_different_label_maps_and_estimators_are_errors(tmp_path):
    train, other = part(tmp_path, "train", GROUPS[:4]), part(tmp_path, "val", GROUPS[4:])
    maps = [{"1": "CIRCLE", "2": "NOD"}, {"1": "NOD", "2": "CIRCLE"}]
    train, swapped = (dataclasses.replace(data, labels=m) for data, m in zip((train, other), maps, strict=True))
    with pytest.raises(DataError, match=r"label 1 is NOD in .*val\.hdf5 but CIRCLE in .*train\.hdf5"):
        merge_presplit(train, swapped)
    merge_presplit(train, dataclasses.replace(other, labels={"1": "CIRCLE", "3": "WAVE"}))
    with pytest.raises(DataError, match=r"val\.hdf5: .*openpose.*mediapipe"):
        merge_presplit(train, dataclasses.replace(other, estimator="openpose"))


# --- damaged HDF5 files ---


@pytest.fixture
def damaged(tmp_path) -> Path:
    """A file in which one clip has a changed byte, which its checksum detects."""
    import h5py

    path = write_hdf5(tmp_path / "damaged.hdf5")
    with h5py.File(path, "a") as file:
        data = file["7"]["data"][()]
        del file["7"]["data"]
        stored = file["7"].create_dataset("data", data=data, chunks=data.shape, fletcher32=True)
        file.flush()
        offset = stored.id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 1000] ^= 0xFF
    path.write_bytes(content)
    return path


def test_damaged_clip_is_an_error_or_skipped(damaged):
    with pytest.raises(DataError, match=r"damaged\.hdf5, group 7: "):
        read_dataset(damaged)
    data = read_dataset(damaged, skip_bad=True)
    assert len(data.clips) == 53 and [skip.place for skip in data.skipped] == [f"{damaged}, group 7"]


def test_gloss_at_the_start_of_the_name_is_not_a_group(tmp_path):
    rng = np.random.default_rng(0)
    clips = [(f"{gloss.lower()}/{i}", gloss, generated_points(gloss, 5, rng)) for gloss in GLOSSES for i in range(2)]
    data = read_dataset(write_hdf5(tmp_path / "a.hdf5", clips))
    assert not data.grouped and all(clip.group == clip.name for clip in data.clips)
    assert read_dataset(tmp_path / "a.hdf5", groups="^(.+?)/").grouped


# --- the real data ---


@pytest.mark.slow
def test_real_data_sets_have_the_expected_clips_glosses_and_groups(shared_data):
    dgs = read_dataset(shared_data / "dgs11-train.hdf5")
    assert (len(dgs.clips), len(dgs.glosses), dgs.grouped) == (678, 11, True)
    count = Counter(clip.group for clip in dgs.clips)
    assert (len(count), count["camera05"], count["camera16"]) == (18, 86, 1)
    split = split_groups(dgs.clips)
    for gloss, share in shares(dgs.clips, split).items():
        assert np.abs(share - [0.7, 0.15, 0.15]).max() < 0.08, gloss
    asl = read_dataset(shared_data / "asl6.hdf5")
    assert (len(asl.clips), len(asl.glosses), asl.grouped) == (180, 6, False)
    check_split(asl.clips, split_groups(asl.clips))
