"""ConnectingPoints files, splits by group, and batches."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest

from spoter.errors import DataError, InputError
from spoter.landmarks.clip import Clip
from spoter.landmarks.connecting_points import clip_from_connecting_points
from spoter.landmarks.estimators import MEDIAPIPE, OPENPOSE, WHOLEPOSE
from spoter.landmarks.layouts import load_layout
from spoter.landmarks.normalize import normalize
from spoter.training import batches
from spoter.training.augment.augmentation import Augmentation
from spoter.training.batches import ClipEncoder, ClipSet
from spoter.training.data import LabelledClip, read_dataset
from spoter.training.data.folds import split_into_folds
from spoter.training.data.split import Split, SplitOptions, check_split, split_groups
from spoter.training.prepare import prepare
from spoter.training.settings import TrainSettings
from tests.training.datasets import GLOSSES, GROUPS, generated_clips, generated_points, write_hdf5

LAYOUT = load_layout("54")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[LabelledClip]:
    return read_dataset(write_hdf5(tmp_path_factory.mktemp("data") / "clips.hdf5")).clips


def test_reader_returns_every_clip_with_gloss_and_group(clips):
    written = {name: (gloss, points) for name, gloss, points in generated_clips()}
    assert [clip.name for clip in clips] == sorted(written)
    for clip in clips:
        gloss, points = written[clip.name]
        assert (clip.gloss, clip.group, clip.clip.estimator) == (gloss, clip.name.split("/")[0], "mediapipe")
        present = ~np.isnan(clip.clip.points)
        np.testing.assert_array_equal(clip.clip.points[present], points[present])


def test_clip_without_a_slash_in_its_name_is_its_own_group(tmp_path):
    points = generated_points("NOD", 8, np.random.default_rng(0))
    (clip,) = read_dataset(write_hdf5(tmp_path / "a.hdf5", [("lonely", "NOD", points)])).clips
    assert clip.group == clip.name == "lonely"


def test_only_zeros_and_copies_of_the_wrist_become_missing():
    points = generated_points("WAVE", 6, np.random.default_rng(0))
    points[1, 522:] = points[1, 16]  # right hand: copies of its wrist
    points[2, 522:] = 0
    points[3, 0] = 0
    points[4, 0] = (0.0, 0.3)  # only x is 0: a landmark at the edge of the picture
    points[5, 522:540] = points[5, 16]  # three points differ: a hand
    read = clip_from_connecting_points(points).points
    missing = np.isnan(read).any(axis=2)
    left, right, face = (MEDIAPIPE.part(part) for part in ("left_hand", "right_hand", "face"))
    assert missing[:, left].all() and missing[:, face].all()
    assert missing[:, right].all(axis=1).tolist() == [False, True, True, False, False, False]
    assert not missing[[0, 3, 4, 5], right].any()
    assert missing[:, 0].tolist() == [False, False, False, True, False, False]
    np.testing.assert_array_equal(read[~missing], points[~missing])


@pytest.mark.parametrize("columns", [543, 544])
def test_543_and_544_points_are_read(columns):
    points = np.full((2, columns, 2), 0.5, dtype=np.float32)
    assert clip_from_connecting_points(points).names == MEDIAPIPE.names_for(columns)


@pytest.mark.parametrize("estimator", [OPENPOSE, WHOLEPOSE], ids=lambda estimator: estimator.name)
def test_number_of_points_determines_the_estimator(tmp_path, estimator):
    points = np.random.default_rng(0).uniform(0.2, 0.8, size=(4, len(estimator.names), 2)).astype(np.float32)
    points[1, estimator.part("right_hand")] = points[1, estimator.names.index("pose_right_wrist"), None]
    points[2, 3] = 0
    data = read_dataset(write_hdf5(tmp_path / "a.hdf5", [("ana/1", "HELLO", points)]))
    (clip,) = data.clips
    assert (data.estimator, clip.clip.names) == (estimator.name, estimator.names)
    assert np.argwhere(np.isnan(clip.clip.points).any(axis=2)).tolist() == [
        [2, 3]
    ]  # copies of the wrist are missing hands only for MediaPipe
    np.testing.assert_array_equal(np.nan_to_num(clip.clip.points), points)


@pytest.mark.filterwarnings("error")
def test_numbers_too_large_for_float32_are_out_of_range_without_a_warning():
    with pytest.raises(InputError, match="inf"):
        clip_from_connecting_points(np.full((2, 543, 2), 1e300))


def test_huge_shape_is_refused_without_reading_it(tmp_path):
    with h5py.File(write_hdf5(tmp_path / "a.hdf5"), "a") as file:
        del file["7"]["data"]
        file["7"].create_dataset("data", shape=(10**9, 2, 543), dtype="f4", chunks=(1, 2, 543))
    with pytest.raises(DataError, match=r"group 7: .*1000000000.*100000"):
        read_dataset(tmp_path / "a.hdf5")
    assert len(read_dataset(tmp_path / "a.hdf5", skip_bad=True).skipped) == 1


@pytest.mark.parametrize("shape", [(2, 542, 2), (2, 543, 3), (543, 2)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError) as caught:
        clip_from_connecting_points(np.zeros(shape))
    assert caught.value.code == "wrong_point_count"


def _spoil(path: Path, name: str, value: object) -> Path:
    with h5py.File(write_hdf5(path), "a") as file:
        del file["7"][name]
        if value is not None:
            file["7"][name] = value
    return path


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("label", None, "label"),
        ("label", 3, "label '3'"),
        ("label", " ", "label|gloss"),
        ("data", np.zeros((4, 2, 100), np.float32), r"\(4, 2, 100\).*543 or 544"),
        ("data", np.zeros((4, 543, 2), np.float32), r"\(4, 543, 2\)"),
        ("data", np.zeros((0, 2, 543), np.float32), "0 frames"),
        ("data", np.full((4, 2, 543), 640, np.float32), "640"),
        ("data", np.full((4, 2, 543), np.inf, np.float32), "inf"),
        ("data", "text", "data"),
    ],
)
def test_bad_group_is_an_error_with_its_place(tmp_path, name, value, named):
    with pytest.raises(DataError, match=rf"bad\.hdf5, group 7: .*{named}"):
        read_dataset(_spoil(tmp_path / "bad.hdf5", name, value))


def test_files_without_a_data_set_are_refused(tmp_path):
    (tmp_path / "text.hdf5").write_text("not HDF5")
    h5py.File(tmp_path / "empty.hdf5", "w").close()
    with h5py.File(tmp_path / "flat.hdf5", "w") as file:
        file["0"] = [1.0]
    with h5py.File(tmp_path / "dangling.hdf5", "w") as file:
        file["0"] = h5py.SoftLink("/nowhere")
    complete = write_hdf5(tmp_path / "complete.hdf5").read_bytes()
    (tmp_path / "truncated.hdf5").write_bytes(complete[: len(complete) // 2])
    for name, place in [
        ("text", ": "), ("empty", ": "), ("flat", ", group 0: "), ("dangling", ", group 0: "), ("truncated", ": "),
        ("absent", ": "),
    ]:  # fmt: skip
        with pytest.raises(DataError, match=rf"{name}\.hdf5{place}"):
            read_dataset(tmp_path / f"{name}.hdf5")


@pytest.mark.parametrize("layout", ["29", "54", "71"])
def test_features_equal_those_of_the_original_system(shared_data, layout):
    vectors = np.load(shared_data / "reference" / "preprocess-dgs.npz")
    table = load_layout(layout)
    for i in range(sum(name.startswith("frames_") for name in vectors)):
        clip = clip_from_connecting_points(vectors[f"frames_{i}"])
        features = normalize(table.select(clip), table, "box")
        np.testing.assert_allclose(features, vectors[f"expected_{layout}_{i}"], rtol=0, atol=1e-6)


# --- split ---


@pytest.mark.slow
def test_split_has_whole_groups_and_all_glosses_and_depends_only_on_the_seed(clips):
    split = split_groups(clips, SplitOptions(seed=3))
    assert split == split_groups(list(reversed(clips)), SplitOptions(seed=3))
    assert sorted(split.train + split.validation + split.test) == list(GROUPS)
    for subset in ("train", "validation", "test"):
        assert {clip.gloss for clip in split.select(clips, subset)} == set(GLOSSES)
    assert len({split_groups(clips, SplitOptions(seed=seed)) for seed in range(8)}) > 1


def test_split_uses_the_named_groups(clips):
    split = split_groups(clips, SplitOptions(validation_groups=["camera01"], test_groups=["camera04", "camera05"]))
    assert (split.validation, split.test) == (("camera01",), ("camera04", "camera05"))
    half_named = split_groups(clips, SplitOptions(test_groups=["camera02"]))
    assert half_named.test == ("camera02",) and half_named.validation and "camera02" not in half_named.validation


def test_leaks_are_errors(clips):
    with pytest.raises(DataError, match=r"camera01 .*validation and test"):
        split_groups(clips, SplitOptions(validation_groups=["camera01"], test_groups=["camera01", "camera02"]))
    with pytest.raises(DataError, match=r"camera00 .*train and test"):
        check_split(clips, Split(GROUPS[:4], ("camera04",), ("camera00",)))
    twin = LabelledClip(clips[0].clip, clips[0].gloss, "camera05", "camera05/twin")
    with pytest.raises(DataError, match=r"camera00/circle/0 \(train\) .*camera05/twin \(test\) .*--skip-bad"):
        split_groups([*clips, twin], SplitOptions(validation_groups=["camera04"], test_groups=["camera05"]))


def test_impossible_splits_are_errors(clips):
    with pytest.raises(DataError, match="'camera99'"):
        split_groups(clips, SplitOptions(test_groups=["camera99"]))
    with pytest.raises(DataError, match=r"0\.6 .*0\.5 "):
        split_groups(clips, SplitOptions(validation=0.6, test=0.5))
    with pytest.raises(DataError, match=r"2 groups \(camera00, camera01\) .*--validation-by-clip"):
        split_groups([clip for clip in clips if clip.group in GROUPS[:2]])
    rare = [clip for clip in clips if clip.gloss != "WAVE" or clip.group == "camera05"]
    with pytest.raises(DataError, match=r"WAVE.*--leave-out"):
        split_groups(rare, SplitOptions(validation_groups=["camera04"], test_groups=["camera05"]))


@pytest.mark.parametrize("groups", [3, 4, 5])
def test_few_groups_of_equal_size_can_be_split(clips, groups):
    few = [clip for clip in clips if clip.group in sorted({clip.group for clip in clips})[:groups]]
    split = split_groups(few)
    assert len(split.train) == groups - 2 and len(split.validation) == len(split.test) == 1


def test_variants_of_a_clip_are_duplicates(clips):
    """The same recording with a neck, with another face, and rounded."""
    split = split_groups(clips)
    tested, trained = split.select(clips, "test")[0], split.select(clips, "train")[0]
    points = tested.clip.points
    neck = np.full((len(points), 1, 2), 0.5, dtype=np.float32)
    variants = [np.concatenate([points, neck], axis=1), points.copy()]
    variants[1][:, 40] = 0.3
    for variant in variants:
        copy = clip_from_connecting_points(np.nan_to_num(variant))
        duplicate = dataclasses.replace(trained, clip=copy)
        with pytest.raises(DataError, match=rf"{tested.name} \(test\).*--skip-bad"):
            check_split([*clips, duplicate], split)


def test_folds_contain_every_group_once(clips):
    folds = split_into_folds(clips, 3)
    assert sorted(group for fold in folds for group in fold) == list(GROUPS)
    assert {len(fold) for fold in folds} == {2}
    with pytest.raises(DataError, match=r"7 folds .* 2 to 6 "):
        split_into_folds(clips, 7)


# --- batches ---


def test_batches_contain_every_clip_once_and_only_needed_padding(clips):
    clip_set = ClipSet(clips, GLOSSES, ClipEncoder(LAYOUT, "box", 64))
    for drawn in (clip_set.batches(8), list(clip_set.augmented_batches(8, Augmentation(), 0, 1))):
        labels = np.concatenate([batch.labels for batch in drawn])
        assert np.bincount(labels).tolist() == [18, 18, 18]
        for batch in drawn:
            assert len(batch.lengths) <= 8 and batch.frames.shape[1] == batch.lengths.max()
            for frames, length in zip(batch.frames, batch.lengths, strict=True):
                assert not frames[length:].any() and frames[:length].any(dim=1).all()


def test_batches_of_long_clips_are_smaller():
    rng = np.random.default_rng(0)
    names = MEDIAPIPE.names
    long = [
        LabelledClip(Clip(generated_points("NOD", 400, rng), names, "mediapipe"), "NOD", "camera00", str(i))
        for i in range(4)
    ]
    drawn = ClipSet(long, ("NOD",), ClipEncoder(LAYOUT, "box", 512)).batches(4)
    assert [len(batch.labels) for batch in drawn] == [1, 1, 1, 1]


def test_each_clip_is_normalized_once_before_the_first_epoch(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(batches, "normalize", lambda points, *rest: calls.append(1) or normalize(points, *rest))
    data = write_hdf5(tmp_path / "clips.hdf5")
    task = prepare(TrainSettings(data=data, out=tmp_path / "m", val_groups=("camera04",), test_groups=("camera05",)))
    for clip_set in task.clip_sets.values():
        assert clip_set.batches(8)
    assert task.clip_set(task.data.clips).batches(8)  # as for a fold
    assert len(calls) == len(task.data.clips) == 54


def test_clips_that_do_not_fit_the_model_are_errors_with_their_names(clips):
    with pytest.raises(DataError, match=r"camera0\d/\w+/\d: found \d\d frames, .* 10\b"):
        ClipSet(clips, GLOSSES, ClipEncoder(LAYOUT, "box", 10))
    empty = Clip(np.full((5, 543, 2), np.nan, np.float32), MEDIAPIPE.names, "mediapipe")
    with pytest.raises(DataError, match=r"camera00/empty: "):
        ClipSet([LabelledClip(empty, "NOD", "camera00", "camera00/empty")], GLOSSES, ClipEncoder(LAYOUT, "box", 64))
