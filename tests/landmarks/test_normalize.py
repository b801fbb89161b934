"""Normalization equals both originals, and follows the documented rules in cases that they leave undefined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spoter.errors import InputError, ModelFolderError
from spoter.landmarks.clip import make_clip
from spoter.landmarks.estimators import ESTIMATORS, MEDIAPIPE
from spoter.landmarks.layouts import load_layout
from spoter.landmarks.normalize import check_scheme, normalize, normalize_clips
from tests import original
from tests.generate import figure, figure_clip

VECTORS = Path(__file__).parent / "vectors" / "normalize.npz"


def hands_missing(seed: int = 0) -> np.ndarray:
    points = figure(MEDIAPIPE, seed=seed)
    points[:7, MEDIAPIPE.part("left_hand")] = np.nan
    points[5:9, MEDIAPIPE.part("right_hand")] = np.nan
    return points


def select(points: np.ndarray, layout: str) -> np.ndarray:
    return load_layout(layout).select(make_clip(points, MEDIAPIPE.names_for(points.shape[1]), "mediapipe"))


@pytest.mark.parametrize("layout", ["29", "54", "71"])
def test_box_equals_the_original_computed_point_by_point(layout):
    for seed in range(5):
        points, names = select(hands_missing(seed), layout), list(load_layout(layout).names)
        expected = original.box(original.fill(points, names), names)
        np.testing.assert_allclose(normalize(points, load_layout(layout), "box"), expected, atol=1e-6)


def test_bohacek_equals_the_original_computed_point_by_point():
    table = load_layout("spoter54")
    for seed in range(5):
        points = select(figure(MEDIAPIPE, seed=seed), "spoter54")
        up = np.stack([points[..., 0], 1 - points[..., 1]], axis=-1)
        np.testing.assert_allclose(
            normalize(points, table, "bohacek"), original.bohacek(up, list(table.names)), atol=1e-5
        )


def test_features_equal_stored_numbers():
    """The point-by-point and the vectorized version could change together; stored numbers cannot."""
    with np.load(VECTORS) as vectors:
        for key in vectors.files:
            if key.startswith("points_"):
                _, layout, scheme, _ = key.split("_")
                expected = vectors[key.replace("points", "expected")]
                np.testing.assert_allclose(normalize(vectors[key], load_layout(layout), scheme), expected, atol=1e-6)


@pytest.mark.parametrize("file", ["preprocess-dgs.npz", "preprocess-asl6.npz"])
@pytest.mark.parametrize("layout", ["29", "54", "71"])
def test_box_equals_the_input_of_the_original_system(shared_data, file, layout):
    from spoter.landmarks.connecting_points import clip_from_connecting_points

    with np.load(shared_data / "reference" / file) as reference:
        clips = [key for key in reference.files if key.startswith("frames_")]
        assert clips
        for key in clips:
            clip = clip_from_connecting_points(reference[key])
            expected = reference[key.replace("frames", f"expected_{layout}")]
            actual = normalize(load_layout(layout).select(clip), load_layout(layout), "box")
            np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize("layout", ["29", "54", "71"])
def test_none_equals_the_shifted_points_of_the_original_extractor(shared_data, layout):
    from spoter.landmarks.connecting_points import clip_from_connecting_points

    table = load_layout(layout)
    columns = [landmark.index["mediapipe"] for landmark in table.landmarks]
    with np.load(shared_data / "reference" / "preprocess-dgs.npz") as reference:
        for key in (key for key in reference.files if key.startswith("frames_")):
            actual = normalize(table.select(clip_from_connecting_points(reference[key])), table, "none")
            expected = reference[key][:, columns].reshape(len(actual), -1) - 0.5
            np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_bohacek_equals_the_output_of_the_authors_code(shared_data):
    table = load_layout("spoter54")
    with np.load(shared_data / "reference" / "preprocess-bohacek.npz") as reference:
        assert [landmark.index["mediapipe"] for landmark in table.landmarks] == reference["mediapipe"].tolist()
        for key in (key for key in reference.files if key.startswith("frames_")):
            raw = reference[key].copy()
            raw[(raw == 0).all(axis=2)] = np.nan
            clip = make_clip(raw, MEDIAPIPE.names_for(544), "mediapipe")
            expected = reference[key.replace("frames", "expected")]
            np.testing.assert_allclose(normalize(table.select(clip), table, "bohacek"), expected, atol=1e-5)


def test_none_only_shifts():
    points = select(figure(MEDIAPIPE), "54")
    actual = normalize(points, load_layout("54"), "none")
    np.testing.assert_allclose(actual, points.reshape(len(points), -1) - 0.5)
    assert actual.dtype == np.float32 and actual.flags.c_contiguous


def test_missing_points_become_minus_a_half():
    points = select(figure(MEDIAPIPE), "54")
    points[2, 5] = np.nan
    for scheme in ("none", "box"):
        assert (normalize(points, load_layout("54"), scheme)[2, 10:12] == -0.5).all()


def at(actual: np.ndarray, layout: str, name: str) -> np.ndarray:
    column = load_layout(layout).column(name)
    return actual.reshape(len(actual), -1, 2)[:, column]


@pytest.mark.parametrize("scheme", ["box", "none"])
def test_a_missing_hand_becomes_copies_of_the_wrist_in_image_units(scheme):
    raw = hands_missing()
    actual = normalize(select(raw, "54"), load_layout("54"), scheme)
    wrist = raw[:7, MEDIAPIPE.names.index("pose_left_wrist")]
    np.testing.assert_allclose(at(actual, "54", "leftHand_pinky_tip")[:7], wrist - 0.5, atol=1e-6)


def test_frames_without_shoulders_use_the_last_box_or_else_the_first_box():
    raw = figure(MEDIAPIPE)
    raw[:, MEDIAPIPE.part("pose")] = raw[5, MEDIAPIPE.part("pose")]  # the signer does not move
    complete = normalize(select(raw, "71"), load_layout("71"), "box")
    for frames in ([0, 1], [7, 8], [19]):
        gaps = raw.copy()
        gaps[frames, MEDIAPIPE.names.index("pose_left_shoulder")] = np.nan
        actual = normalize(select(gaps, "71"), load_layout("71"), "box")
        np.testing.assert_allclose(at(actual, "71", "pose_nose"), at(complete, "71", "pose_nose"), atol=1e-6)
        assert (at(actual, "71", "pose_left_shoulder")[frames] == -0.5).all()


def test_frames_before_the_first_box_of_a_moving_signer_use_the_first_box():
    raw = figure(MEDIAPIPE)
    raw *= np.linspace(0.6, 1.4, len(raw), dtype=np.float32)[:, None, None]  # approaching: each box differs
    raw[:3, MEDIAPIPE.names.index("pose_left_shoulder")] = np.nan
    actual = normalize(select(raw, "54"), load_layout("54"), "box")
    shifted = raw.copy()
    pose = [MEDIAPIPE.names.index(f"pose_{name}") for name in ("left_shoulder", "right_shoulder", "right_eye")]
    shifted[:3, pose] = raw[3, pose]
    expected = normalize(select(shifted, "54"), load_layout("54"), "box")
    np.testing.assert_allclose(
        at(actual, "54", "pose_left_wrist")[:3], at(expected, "54", "pose_left_wrist")[:3], atol=1e-6
    )


def test_shoulders_at_one_point_are_no_box():
    raw = figure(MEDIAPIPE)
    shoulders = [MEDIAPIPE.names.index(f"pose_{side}_shoulder") for side in ("left", "right")]
    raw[4, shoulders] = 0.5
    assert np.isfinite(normalize(select(raw, "54"), load_layout("54"), "box")).all()
    raw[:, shoulders] = 0.5
    with pytest.raises(InputError) as caught:
        normalize(select(raw, "54"), load_layout("54"), "box")
    assert caught.value.code == "no_usable_frames"


@pytest.mark.parametrize("substitute", ["pose_left_eye", "pose_nose"])
def test_a_missing_right_eye_is_replaced(substitute):
    raw = figure(MEDIAPIPE)
    eyes = ["pose_right_eye", "pose_left_eye"][: 1 if substitute == "pose_left_eye" else 2]
    expected = raw.copy()
    expected[:, MEDIAPIPE.names.index("pose_right_eye"), 1] = raw[:, MEDIAPIPE.names.index(substitute), 1]
    for eye in eyes:
        raw[:, MEDIAPIPE.names.index(eye)] = np.nan
    actual, same = (normalize(select(points, "54"), load_layout("54"), "box") for points in (raw, expected))
    np.testing.assert_array_equal(at(actual, "54", "pose_left_wrist"), at(same, "54", "pose_left_wrist"))


def test_a_missing_point_of_a_hand_does_not_stretch_its_box():
    raw = figure(MEDIAPIPE)
    inner = MEDIAPIPE.names.index("leftHand_index_finger_pip")
    hand = MEDIAPIPE.part("left_hand")
    raw[:, inner] = raw[:, hand].mean(axis=1)  # not on the edge of the box
    complete = normalize(select(raw, "54"), load_layout("54"), "box")
    raw[:, inner] = np.nan
    actual = normalize(select(raw, "54"), load_layout("54"), "box")
    np.testing.assert_allclose(at(actual, "54", "leftHand_wrist"), at(complete, "54", "leftHand_wrist"), atol=1e-6)


def test_a_hand_at_one_point_keeps_its_coordinates():
    raw = figure(MEDIAPIPE)
    raw[3, MEDIAPIPE.part("right_hand")] = (0.25, 0.75)
    actual = normalize(select(raw, "54"), load_layout("54"), "box")
    np.testing.assert_allclose(at(actual, "54", "rightHand_wrist")[3], (-0.25, 0.25))


@pytest.mark.parametrize("scheme", ["box", "none"])
def test_a_clip_without_a_person_is_refused(scheme):
    empty = np.full((6, 54, 2), np.nan, dtype=np.float32)
    with pytest.raises(InputError, match=r"layout 54 .* 6 frames") as caught:
        normalize(empty, load_layout("54"), scheme)
    assert caught.value.code == "no_usable_frames"


def test_a_clip_of_hands_only_is_refused_by_a_scheme_that_needs_the_body():
    points = figure(MEDIAPIPE)
    points[:, MEDIAPIPE.part("pose")] = np.nan
    with pytest.raises(InputError, match="20 frames") as caught:
        normalize(select(points, "54"), load_layout("54"), "box")
    assert caught.value.code == "no_usable_frames"


@pytest.mark.parametrize("name", list(ESTIMATORS))
@pytest.mark.parametrize(("layout", "scheme"), [("29", "box"), ("54", "box"), ("71", "box"), ("spoter54", "bohacek")])
def test_every_estimator_works_with_every_layout(name, layout, scheme):
    table = load_layout(layout)
    clip = figure_clip(name)
    actual = normalize(table.select(clip), table, scheme)
    assert actual.shape == (20, 2 * len(table)) and np.isfinite(actual).all()


def test_a_shift_of_the_picture_does_not_change_hands():
    raw = figure(MEDIAPIPE)
    actual, moved = (normalize(select(points, "54"), load_layout("54"), "box") for points in (raw, raw + [0.1, 0.05]))
    np.testing.assert_allclose(at(moved, "54", "leftHand_thumb_tip"), at(actual, "54", "leftHand_thumb_tip"), atol=1e-5)


def test_a_scheme_that_needs_landmarks_the_layout_lacks_is_refused(tmp_path):
    path = tmp_path / "hand.csv"
    path.write_text("name,section,mediapipe,wholepose,openpose,parent\nthumb,leftHand,505,95,99,\n")
    table = load_layout(str(path))
    with pytest.raises(ModelFolderError, match="pose_left_shoulder, pose_right_shoulder, pose_right_eye"):
        check_scheme(table, "box")
    check_scheme(table, "none")
    with pytest.raises(ModelFolderError, match=r"'cube'.*box, none, bohacek"):
        check_scheme(table, "cube")


@pytest.mark.parametrize(("layout", "scheme"), [("54", "box"), ("71", "none"), ("spoter54", "bohacek")])
def test_clips_normalized_together_equal_clips_normalized_one_by_one(layout, scheme):
    """Also if neighbors in the group begin or end without a box, have no box at all, or fill a whole group."""
    table, rng = load_layout(layout), np.random.default_rng(0)
    shoulder, empty = MEDIAPIPE.names.index("pose_left_shoulder"), np.full((3, len(table), 2), np.nan, np.float32)
    clips = []
    for number in range(40):
        raw = np.repeat(figure(MEDIAPIPE, seed=number), 60 if number == 20 else 4, axis=0)
        raw *= rng.uniform(0.6, 1.2)
        raw[rng.random(len(raw)) < rng.choice([0, 0.5, 0.9, 1]), shoulder] = np.nan
        raw[rng.random(len(raw)) < 0.2, MEDIAPIPE.part("left_hand")] = np.nan
        clips.append(select(raw[: rng.integers(1, len(raw))], layout))
    clips[7:7] = [empty, np.empty((0, len(table), 2), np.float32)]
    together, errors = normalize_clips(clips, table, scheme), 0
    for actual, clip in zip(together, clips, strict=True):
        if isinstance(actual, InputError):
            with pytest.raises(InputError) as single:
                normalize(clip, table, scheme)
            assert actual.to_dict() == single.value.to_dict()
            errors += 1
        else:
            np.testing.assert_array_equal(actual, normalize(clip, table, scheme))
    assert 2 <= errors < 30
    assert sum(map(len, clips)) > 1024
