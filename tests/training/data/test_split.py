"""Stratified splits, sides that come as files, glosses too rare, splits read back."""

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
    """Return clips of random points, so many of each gloss in each group."""
    rng = np.random.default_rng(0)
    return [
        labelled(group, gloss, number, rng)
        for group, glosses in table.items()
        for gloss, count in glosses.items()
        for number in range(count)
    ]


def shares(clips: list[LabelledClip], split: Split) -> dict[str, np.ndarray]:
    """Return the shares of each gloss's clips on the three sides."""
    counts = [Counter(clip.gloss for clip in split.select(clips, side)) for side in SUBSETS]
    return {
        gloss: np.array([count[gloss] for count in counts]) / sum(count[gloss] for count in counts)
        for gloss in sorted({clip.gloss for clip in clips})
    }


@pytest.mark.parametrize("seed", range(3))
def test_each_gloss_is_shared_out_as_asked_even_where_groups_differ_in_what_they_sign(seed):
    # By size alone, A's groups could all go to training and B's to the others.
    clips = data_of({f"a{i}": {"A": 4, "B": 1} for i in range(10)} | {f"b{i}": {"A": 1, "B": 4} for i in range(10)})
    split = split_groups(clips, SplitOptions(validation=0.2, test=0.2, seed=seed))
    for share in shares(clips, split).values():
        np.testing.assert_allclose(share, [0.6, 0.2, 0.2], atol=0.05)


def test_of_all_ways_to_deal_a_few_groups_the_best_is_found():
    rng = np.random.default_rng(5)
    clips = data_of({f"g{i}": {"A": int(rng.integers(1, 9)), "B": int(rng.integers(1, 9))} for i in range(7)})
    wanted = np.array([0.7, 0.15, 0.15])

    def miss(split: Split) -> float:
        return sum(
            (((share - wanted) ** 2) / wanted).sum() * size[gloss] for gloss, share in shares(clips, split).items()
        )

    size = Counter(clip.gloss for clip in clips)
    ways = [
        Split(*(tuple(f"g{i}" for i in range(7) if sides[i] == side) for side in range(3)))
        for sides in itertools.product(range(3), repeat=7)
        if len(set(sides)) == 3
    ]
    assert miss(split_groups(clips)) == pytest.approx(min(map(miss, ways)))


def test_clips_that_are_their_own_groups_are_split_to_the_clip():
    clips = data_of({f"{gloss}{i}": {gloss: 1} for gloss in "ABCD" for i in range(20)})
    split = split_groups(clips)
    for share in shares(clips, split).values():
        np.testing.assert_allclose(share, [0.7, 0.15, 0.15], atol=1e-9)
    assert split != split_groups(clips, SplitOptions(seed=1))


def test_rare_glosses_reach_each_side_all_the_same():
    clips = data_of({f"{gloss}{i}": {gloss: 1} for gloss in "ABCDEFGH" for i in range(3)})
    split = split_groups(clips)
    assert [len(split.select(clips, side)) for side in SUBSETS] == [8, 8, 8]


def test_a_side_with_named_groups_is_kept_and_the_other_one_drawn_in_its_share():
    clips = data_of({f"g{i:02}": {"A": 2, "B": 3} for i in range(20)})
    split = split_groups(clips, SplitOptions(test=0.2, validation_groups=["g03"]))
    assert split.validation == ("g03",)
    assert len(split.test) == 4 and len(split.train) == 15


def test_glosses_in_too_few_groups_are_named_with_a_clip():
    clips = data_of({f"g{i}": {"A": 2} | ({"B": 1} if i == 0 else {}) | ({"C": 3} if i < 2 else {}) for i in range(5)})
    said = r"Too rare: B \(groups: 1, clips: 1, g0/B/0\), C \(groups: 2, clips: 6, g0/C/0\)\. .*--skip-bad"
    with pytest.raises(DataError, match=said):
        split_groups(clips)
    assert find_rare_glosses(clips) == {"B": 1, "C": 2}
    data = DataSet(clips, [], (Path("x"),), True, "mediapipe")
    left = drop_rare_glosses(data)
    assert left.glosses == ("A",) and len(left.clips) == 10 and len(left.skipped) == 7
    assert left.skipped[0].place == "g0/B/0 (B)"
    split_groups(left.clips)
    # With a side named, two groups outside it will do; with both, one.
    assert drop_rare_glosses(data, SplitOptions(validation_groups=["g4"])).glosses == ("A", "C")
    assert drop_rare_glosses(data, SplitOptions(validation_groups=["g4"], test_groups=["g3"])).glosses == (
        "A",
        "B",
        "C",
    )
    assert drop_rare_glosses(data, SplitOptions(validation_groups=["g1"], test_groups=["g0"])).glosses == ("A",)


def test_sides_are_found_where_only_one_way_of_dealing_shows_every_gloss_and_missed_where_none_does():
    def clips(*groups: str) -> list[LabelledClip]:
        return data_of({f"g{i}": dict.fromkeys(glosses, 1) for i, glosses in enumerate(groups)})

    split = split_groups(clips("AB", "AC", "BC", "A", "B", "C"))
    assert sorted(split.train + split.validation + split.test) == [f"g{i}" for i in range(6)]
    assert {frozenset(getattr(split, side)) for side in SUBSETS} == {
        frozenset(pair) for pair in (("g0", "g5"), ("g1", "g4"), ("g2", "g3"))
    }
    # Each gloss is in three groups here too, but beside ABC three groups are left for two sides.
    with pytest.raises(DataError, match="no way to split 4 groups so that every gloss is on each side"):
        split_groups(clips("AB", "AC", "BC", "ABC"))


def test_a_split_is_read_back(tmp_path):
    split = Split(("a", "b"), ("c",), ("d",))
    path = tmp_path / "split.json"
    sides = {side: {"clips": 3, "groups": getattr(split, side)} for side in SUBSETS}
    path.write_text(json.dumps({"seed": 7, **sides}))
    assert read_split(path) == SplitRecord(split, 7)
    for content in (
        "{", "[]", '{"seed": 0}', json.dumps({"seed": "0", **sides}), json.dumps(sides),
        json.dumps({"seed": 0, **sides, "test": {"groups": "camera01"}}),
    ):  # fmt: skip
        path.write_text(content)
        with pytest.raises(DataError, match=r"split\.json: found"):
            read_split(path)
    with pytest.raises(DataError, match=r"absent\.json: No such file"):
        read_split(tmp_path / "absent.json")


def test_folds_that_leak_or_lack_a_gloss_are_errors():
    clips = data_of({f"g{i}": {"A": 2, "B": 2} for i in range(4)})
    twice = [*clips[:-1], dataclasses.replace(clips[-1], clip=clips[0].clip)]
    with pytest.raises(DataError, match=r"g0/A/0 \(fold \d\) and g3/B/1 \(fold \d\) hold the very same points"):
        split_into_folds(twice, 4)
    alone = [*clips, *data_of({"h": {"C": 1}})]
    with pytest.raises(DataError, match=r"fold \d leaves training without C: try other folds"):
        split_into_folds(alone, 2)


# --- sides that come as files ---


def part(tmp_path: Path, name: str, groups: tuple[str, ...]) -> DataSet:
    clips = [clip for clip in generated_clips() if clip[0].split("/")[0] in groups]
    return read_dataset(write_hdf5(tmp_path / f"{name}.hdf5", clips))


def test_a_pair_of_files_becomes_a_split_and_the_test_side_is_drawn_from_training(tmp_path):
    train, validation = part(tmp_path, "s-Train", GROUPS[:5]), part(tmp_path, "s-Val", GROUPS[5:])
    data, validation_groups, test_groups = merge_presplit(train, validation)
    assert (validation_groups, test_groups) == (GROUPS[5:], ())
    assert [clip.name for clip in data.clips] == sorted(name for name, _, _ in generated_clips())
    assert data.sources == (tmp_path / "s-Train.hdf5", tmp_path / "s-Val.hdf5") and data.grouped
    split = split_groups(data.clips, SplitOptions(validation_groups=validation_groups, test_groups=test_groups))
    assert split.validation == GROUPS[5:] and len(split.test) == 1 and len(split.train) == 4


def test_three_files_become_the_three_sides(tmp_path):
    files = (part(tmp_path, "a", GROUPS[:4]), part(tmp_path, "b", GROUPS[4:5]), part(tmp_path, "c", GROUPS[5:]))
    data, validation_groups, test_groups = merge_presplit(*files)
    split = split_groups(data.clips, SplitOptions(validation_groups=validation_groups, test_groups=test_groups))
    assert split == Split(GROUPS[:4], GROUPS[4:5], GROUPS[5:])
    assert merge_presplit(files[0])[1:] == ((), ())


def test_a_group_or_a_clip_in_two_files_is_a_leak(tmp_path):
    train = part(tmp_path, "train", GROUPS[:4])
    with pytest.raises(DataError, match=r"group camera03 is in two files: .*train\.hdf5 and .*val\.hdf5"):
        merge_presplit(train, part(tmp_path, "val", GROUPS[3:5]))
    with pytest.raises(DataError, match=r"group camera05 is in two files: .*b\.hdf5 and .*c\.hdf5"):
        merge_presplit(train, part(tmp_path, "b", GROUPS[4:]), part(tmp_path, "c", GROUPS[5:]))
    name, gloss, points = next(generated_clips())
    again = [("elsewhere/1", gloss, points), *(clip for clip in generated_clips() if clip[0].startswith("camera05"))]
    validation = read_dataset(write_hdf5(tmp_path / "again.hdf5", again))
    data, *sides = merge_presplit(train, validation)
    with pytest.raises(DataError, match=rf"{name} .*elsewhere/1 .*the very same points.*--skip-bad"):
        split_groups(data.clips, SplitOptions(0.15, 0.15, *sides))
    data, *sides = merge_presplit(train, validation, skip_bad=True)
    assert [skip.place for skip in data.skipped] == ["elsewhere/1 (CIRCLE)"] and sides[0] == ("camera05",)
    split_groups(data.clips, SplitOptions(0.15, 0.15, *sides))


def test_a_side_that_is_given_and_skipped_as_a_whole_is_not_drawn_instead(tmp_path):
    train = part(tmp_path, "train", GROUPS[:5])
    again = [(f"elsewhere/{i}", gloss, points) for i, (_, gloss, points) in enumerate(generated_clips()) if i < 9]
    validation = read_dataset(write_hdf5(tmp_path / "again.hdf5", again))
    said = r"again\.hdf5: all 9 clips are skipped, .* or of glosses that .*train\.hdf5 lacks"
    with pytest.raises(DataError, match=said):
        merge_presplit(train, validation, skip_bad=True)
    other = dataclasses.replace(
        validation, clips=[dataclasses.replace(clip, gloss="HELLO") for clip in validation.clips]
    )
    with pytest.raises(DataError, match=said):
        merge_presplit(train, other, skip_bad=True)


def test_glosses_that_training_lacks_are_named_or_skipped(tmp_path):
    train = part(tmp_path, "train", GROUPS[:4])
    other = part(tmp_path, "val", GROUPS[4:])
    renamed = [dataclasses.replace(clip, gloss="HELLO") if clip.gloss == "NOD" else clip for clip in other.clips]
    other = dataclasses.replace(other, clips=renamed)
    with pytest.raises(DataError, match=r"val\.hdf5, clip camera04/nod/0: found gloss HELLO, expected .* 3 in .*train"):
        merge_presplit(train, other)
    data, _, _ = merge_presplit(train, other, skip_bad=True)
    assert data.glosses == GLOSSES and len(data.skipped) == 6


def test_label_maps_and_estimators_that_disagree_are_errors(tmp_path):
    train, other = part(tmp_path, "train", GROUPS[:4]), part(tmp_path, "val", GROUPS[4:])
    maps = [{"1": "CIRCLE", "2": "NOD"}, {"1": "NOD", "2": "CIRCLE"}]
    train, swapped = (dataclasses.replace(side, labels=m) for side, m in zip((train, other), maps, strict=True))
    with pytest.raises(DataError, match=r"label 1 is NOD in .*val\.hdf5 but CIRCLE in .*train\.hdf5"):
        merge_presplit(train, swapped)
    merge_presplit(train, dataclasses.replace(other, labels={"1": "CIRCLE", "3": "WAVE"}))
    with pytest.raises(DataError, match=r"val\.hdf5: found landmarks of openpose, expected mediapipe's"):
        merge_presplit(train, dataclasses.replace(other, estimator="openpose"))


# --- damaged HDF5 files ---


@pytest.fixture
def damaged(tmp_path) -> Path:
    """A file one of whose clips has a byte changed that its checksum covers."""
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


def test_a_corrupt_clip_is_named_or_skipped(damaged):
    with pytest.raises(DataError, match=r"damaged\.hdf5, group 7: found a group that cannot be read"):
        read_dataset(damaged)
    data = read_dataset(damaged, skip_bad=True)
    assert len(data.clips) == 53 and [skip.place for skip in data.skipped] == [f"{damaged}, group 7"]


def test_names_that_repeat_the_gloss_tell_no_group(tmp_path):
    rng = np.random.default_rng(0)
    clips = [(f"{gloss.lower()}/{i}", gloss, generated_points(gloss, 5, rng)) for gloss in GLOSSES for i in range(2)]
    data = read_dataset(write_hdf5(tmp_path / "a.hdf5", clips))
    assert not data.grouped and all(clip.group == clip.name for clip in data.clips)
    assert read_dataset(tmp_path / "a.hdf5", groups="^(.+?)/").grouped


# --- the real data ---


@pytest.mark.slow
def test_the_real_data_sets_have_the_clips_glosses_and_groups_they_should(shared_data):
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
