"""Augmentation: the transforms, and the random draws of their parameters."""

from __future__ import annotations

import numpy as np
import pytest

from spoter.landmarks.connecting_points import clip_from_connecting_points
from spoter.landmarks.estimators import ESTIMATORS, MEDIAPIPE, NECK
from spoter.landmarks.layouts import load_layout
from spoter.landmarks.normalize import normalize
from spoter.training.augment import augmentation, transforms
from spoter.training.augment.augmentation import Augmentation, OriginalAugmentation
from tests.training.datasets import generated_points

LAYOUT = load_layout("54")
CORNERS = np.array([[[0, 0], [1, 0], [1, 1], [0, 1]]], dtype=np.float32)
HANDS = {side: LAYOUT.section(f"{side}Hand") for side in ("left", "right")}
NO_CHANGE = dict.fromkeys(vars(Augmentation()), 0.0) | {"slowest": 1.0, "fastest": 1.0}


@pytest.fixture
def points() -> np.ndarray:
    """A clip of 40 frames without a left hand."""
    return LAYOUT.select(clip_from_connecting_points(generated_points("CIRCLE", 40, np.random.default_rng(1))))


@pytest.fixture
def with_gaps(points) -> np.ndarray:
    """The clip without a wrist in some frames, a shoulder in others, and all points in one frame."""
    points[3:6, LAYOUT.column("pose_right_wrist")] = np.nan
    points[10:12, LAYOUT.column("pose_left_shoulder")] = np.nan
    points[20] = np.nan
    return points


def column(name: str) -> int:
    return LAYOUT.names.index(name)


# --- transforms ---


def test_resampling_interpolates_and_keeps_gaps():
    ramp = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    ramp[2, 1] = np.nan
    out = transforms.resample_time(ramp, 9)
    np.testing.assert_allclose(out[:, 0, 0], np.arange(9) / 2)
    assert np.isnan(out[:, 1, 0]).tolist() == [False, False, False, True, True, False, False, False, False]
    assert out.dtype == np.float32
    np.testing.assert_array_equal(transforms.resample_time(ramp, 5), ramp)
    assert transforms.resample_time(ramp, 1)[0, 0, 0] == 0


def test_rotation_is_clockwise_around_the_center():
    quarter = transforms.rotate(CORNERS, 90)
    np.testing.assert_allclose(quarter, np.roll(CORNERS, -1, axis=1), atol=1e-6)  # upper left moves to the upper right


def test_rescaling_and_shifting():
    np.testing.assert_allclose(
        transforms.rescale(CORNERS, 0.5, 2.0)[0], [[0.25, -0.5], [0.75, -0.5], [0.75, 1.5], [0.25, 1.5]]
    )
    np.testing.assert_allclose(transforms.shift(CORNERS, 0.1, -0.2), CORNERS + np.float32([0.1, -0.2]))


@pytest.mark.parametrize("ratio", [0.1, -0.1, 0.3, 0.0])
def test_perspective_moves_the_corners_of_one_side_inward_and_keeps_lines_straight(ratio):
    m = abs(ratio)
    expected = np.array([[m, m], [1, 0], [1, 1], [m, 1 - m]])
    if ratio < 0:
        expected = np.array([[0, 0], [1 - m, m], [1 - m, 1 - m], [0, 1]])
    np.testing.assert_allclose(transforms.perspective(CORNERS, ratio)[0], expected, atol=1e-6)
    diagonal = np.linspace([0, 0], [1, 1], 7, dtype=np.float32)[None]
    x, y = (transforms.perspective(diagonal, ratio)[0] - expected[0]).T
    along = expected[2] - expected[0]
    np.testing.assert_allclose(x * along[1], y * along[0], atol=1e-6)


def test_perspective_is_finite_far_outside_the_picture():
    far = np.array([[[10, 10], [-10, 0.5]]], dtype=np.float32)
    for ratio in (0.1, -0.1):
        assert np.abs(transforms.perspective(far, ratio)).max() < 200


@pytest.mark.parametrize("layout", ["29", "54", "71", "spoter54"])
def test_mirroring_exchanges_left_and_right(layout):
    names = load_layout(layout).names
    points = np.random.default_rng(0).uniform(size=(3, len(names), 2)).astype(np.float32)
    out = transforms.mirror(points, names)
    for i, name in enumerate(names):
        twin = name
        for side, other in (("left", "right"), ("right", "left")):
            if side in name:
                twin = name.replace(side, other)
        expected = points[:, names.index(twin)] * np.float32([-1, 1]) + np.float32([1, 0])
        np.testing.assert_array_equal(out[:, i], expected, name)
    np.testing.assert_allclose(transforms.mirror(out, names), points, atol=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)
def test_mirroring_points_of_an_estimator(estimator):
    place = np.arange(len(estimator.names), dtype=np.float32)
    out = transforms.mirror(np.stack([place, place], axis=1)[None], estimator.names)[0, :, 1].astype(int)
    moved = {name: estimator.names[i] for name, i in zip(estimator.names, out, strict=True)}
    for name, source in moved.items():
        sided = "left" in name or "right" in name.lower()
        assert (source != name) == sided, (name, source)
    assert moved["leftHand_thumb_tip"] == "rightHand_thumb_tip"


def test_arm_joints_rotate_one_after_the_other(points):
    """Compared with the formula of the paper: for each joint, rotate everything beyond it around it."""
    points[:, HANDS["left"]] = points[:, HANDS["right"]] + np.float32([0.3, 0])
    degrees = [[1.0, 2.0, -3.0, 4.0], [0.0, -4.0, 0.0, 2.5]]
    expected = points.astype(np.float64)
    for side, turns in zip(("left", "right"), degrees, strict=True):
        chain = [column(NECK), *(column(f"pose_{side}_{joint}") for joint in ("shoulder", "elbow", "wrist"))]
        for i, angle in enumerate(np.radians(turns)):
            beyond = [*chain[i + 1 :], *HANDS[side]]
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            origin = expected[:, chain[i], None]
            expected[:, beyond] = (expected[:, beyond] - origin) @ turn.T + origin
    out = transforms.rotate_arm_joints(points, LAYOUT.names, degrees)
    np.testing.assert_allclose(out, expected, atol=1e-6)
    assert np.abs(out - points)[:, column("pose_left_wrist")].max() > 0.005


def test_rotation_of_arm_joints_keeps_lengths_and_other_points(points):
    out = transforms.rotate_arm_joints(points, LAYOUT.names, [[0, 0, 0, 0], [0, 4, 4, 4]])
    chain = [column(f"pose_right_{joint}") for joint in ("shoulder", "elbow", "wrist")]
    for columns in (chain, [chain[-1], *HANDS["right"]]):
        lengths = [np.linalg.norm(np.diff(clip[:, columns], axis=1), axis=2) for clip in (points, out)]
        np.testing.assert_allclose(lengths[1], lengths[0], atol=1e-5)
    moved = np.abs(out - points).max(axis=(0, 2)) > 1e-6
    assert set(np.flatnonzero(moved)) == {*chain[1:], *HANDS["right"]}
    without_hands = transforms.rotate_arm_joints(points, LAYOUT.names, [[0] * 4, [0, 4, 4, 4]], hands=False)
    np.testing.assert_array_equal(without_hands[:, HANDS["right"]], points[:, HANDS["right"]])


def test_missing_joint_is_skipped(with_gaps):
    out = transforms.rotate_arm_joints(with_gaps, LAYOUT.names, [[0, 4, 0, 0], [0, 0, 0, 4]])
    hand, wrist = HANDS["right"], column("pose_left_wrist")
    changed = np.abs(out - with_gaps)
    assert changed[3:6, hand].max() == 0 and changed[6:9, hand].max() > 0.001
    assert changed[10:12, wrist].max() == 0 and changed[12:14, wrist].max() > 0.001


def test_arm_joints_rotate_without_neck_or_hand_wrists():
    for names in (load_layout("29").names, load_layout("71").names, MEDIAPIPE.names):
        points = np.random.default_rng(0).uniform(size=(3, len(names), 2)).astype(np.float32)
        out = transforms.rotate_arm_joints(points, names, [[4, 0, 0, 0], [0, 4, 0, 0]])
        moved = [names[i] for i in np.flatnonzero(np.abs(out - points).max(axis=(0, 2)) > 1e-6)]
        assert "pose_right_elbow" in moved and "rightHand_thumb_tip" in moved
        assert not any("left" in name for name in moved)
        assert ("pose_right_thumb" in moved) == (names is MEDIAPIPE.names)


def test_removed_points_are_missing(points):
    mask = np.zeros(40, dtype=bool)
    mask[5:9] = True
    out = transforms.remove_points(points, HANDS["right"], mask)
    assert np.isnan(out[5:9][:, HANDS["right"]]).all()
    rest = np.setdiff1d(np.arange(len(LAYOUT)), HANDS["right"])
    np.testing.assert_array_equal(out[:, rest], points[:, rest])
    np.testing.assert_array_equal(out[~mask], points[~mask])


@pytest.mark.parametrize(
    "change",
    [
        lambda points: transforms.rotate(points, 13),
        lambda points: transforms.rescale(points, 0.7, 1.3),
        lambda points: transforms.shift(points, 0.1, 0.2),
        lambda points: transforms.perspective(points, -0.1),
        lambda points: transforms.rotate_arm_joints(points, LAYOUT.names, [[1, 2, 3, 4]] * 2),
        lambda points: transforms.resample_time(points, 40),
    ],
    ids=["rotate", "rescale", "shift", "perspective", "rotate_arm_joints", "resample_time"],
)
def test_transforms_keep_missing_points(with_gaps, change):
    before = with_gaps.copy()
    for points in (with_gaps, np.asfortranarray(with_gaps)):
        out = change(points)
        assert out.dtype == np.float32 and out.shape == before.shape
        np.testing.assert_array_equal(np.isnan(out), np.isnan(before))
        np.testing.assert_array_equal(points, before)


# --- random parameters ---


@pytest.mark.parametrize("changes", [Augmentation(), Augmentation(mirror=0.5), OriginalAugmentation()])
@pytest.mark.parametrize("layout", ["29", "54"])
def test_augmented_clips_keep_their_shape_and_missing_points(changes, layout):
    table = load_layout(layout)
    points = table.select(clip_from_connecting_points(generated_points("CIRCLE", 40, np.random.default_rng(1))))
    before = points.copy()
    for seed in range(20):
        out = changes.apply(points, table, 64, np.random.default_rng(seed))
        np.testing.assert_array_equal(points, before)
        assert out.dtype == np.float32 and out.shape[1:] == points.shape[1:] and 4 <= len(out) <= 64
        assert np.isfinite(out[:, table.section("pose")]).all()
        missing = [np.isnan(out[:, table.section(hand)]).all() for hand in ("leftHand", "rightHand")]
        assert missing == [True, False] or (missing == [False, True] and getattr(changes, "mirror", 0))
        assert (np.isnan(out[..., 0]) == np.isnan(out[..., 1])).all()
        assert np.isfinite(normalize(out, table, "box")).all()
        np.testing.assert_array_equal(out, changes.apply(points, table, 64, np.random.default_rng(seed)))


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("changes", [Augmentation(), OriginalAugmentation()])
def test_short_clips_can_be_augmented(points, changes, frames):
    for seed in range(20):
        out = changes.apply(points[:frames], LAYOUT, 64, np.random.default_rng(seed))
        assert len(out) >= 1 and np.isfinite(normalize(out, LAYOUT, "box")).all()


def test_augmentation_without_strength_changes_nothing(points):
    out = Augmentation(**NO_CHANGE).apply(points, LAYOUT, 64, np.random.default_rng(0))
    np.testing.assert_allclose(out, points, atol=1e-6)


@pytest.mark.parametrize(
    "strength",
    [{"crop": 0.1}, {"drop_frames": 0.2}, {"fastest": 0.4}, {"slowest": 1.6}, {"long": 1.0}],
    ids=lambda strength: "+".join(strength),
)
def test_each_transform_in_time_changes_the_length(points, strength):
    changes = Augmentation(**NO_CHANGE | strength)
    lengths = {len(changes.apply(points, LAYOUT, 64, np.random.default_rng(seed))) for seed in range(30)}
    assert len(lengths) > 3 and min(lengths) >= 0.4 * 40 and max(lengths) <= 64
    assert (max(lengths) > 40) == bool(strength.keys() & {"slowest", "long"})


@pytest.mark.parametrize(
    ("strength", "most"),
    [
        (
            {"rotation": 13.0},
            2 * np.sin(np.radians(13 / 2)) * 0.75,
        ),  # chord; all points are nearer than 0.75 to the center
        ({"scale": 0.3}, 0.3 * 0.5),
        ({"shift": 0.12}, 0.12),
        ({"squeeze": 0.15}, 0.075 * 0.5),
        ({"perspective": 0.1}, 0.1),
        ({"joints": 4.0, "joint_share": 0.3}, 2 * np.sin(np.radians(3 * 4 / 2)) * 0.4),
        ({"noise": 0.002}, 6 * 0.002),
        ({"mirror": 1.0}, 0.6),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_each_transform_in_space_moves_points_up_to_its_limit(points, strength, most):
    changes = Augmentation(**NO_CHANGE | strength)
    body = LAYOUT.section("pose")
    drawn = [changes.apply(points, LAYOUT, 64, np.random.default_rng(seed))[:, body] for seed in range(30)]
    distances = [np.abs(out - points[:, body]).max() for out in drawn]
    assert most / 4 < max(distances) <= most
    if len(set(distances)) > 1:  # mirroring is not random
        assert min(distances) < 0.9 * max(distances)


def test_hands_are_dropped_with_the_given_probability(points):
    changes = Augmentation(**NO_CHANGE | {"drop_hand": 0.5})
    drawn = [changes.apply(points, LAYOUT, 64, np.random.default_rng(seed)) for seed in range(200)]
    assert 0.4 < np.mean([np.isnan(out[:, HANDS["right"]]).any() for out in drawn]) < 0.6


def test_mirroring_is_off_by_default():
    assert Augmentation().mirror == 0.0


def test_joints_rotate_with_the_given_probability_and_angle():
    rng = np.random.default_rng(0)
    angles = np.stack([augmentation.draw_joint_angles(4.0, 0.3, rng) for _ in range(1000)])
    assert abs((angles != 0).mean() - 0.3) < 0.02
    assert 3.9 < angles.max() <= 4 and -4 <= angles.min() < -3.9


def test_dropping_a_hand_changes_only_this_hand(points):
    hand = HANDS["right"]
    for seed in range(10):
        out = augmentation.drop_hand(points, hand, np.random.default_rng(seed))
        missing = np.isnan(out[:, hand]).all(axis=(1, 2))
        assert 1 <= missing.sum() <= len(points) // 3
        assert np.abs(np.diff(missing.astype(int))).sum() <= 2  # one interval
        np.testing.assert_array_equal(out, transforms.remove_points(points, hand, missing))


def test_dropping_and_cropping_keep_the_order_of_frames():
    rng = np.random.default_rng(0)
    marked = np.arange(40, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    dropped = augmentation.drop_frames(marked, 0.5, rng)[:, 0, 0]
    assert 4 <= len(dropped) < 40 and (np.diff(dropped) > 0).all()
    cropped = augmentation.crop_time(marked, 0.2, rng)[:, 0, 0]
    assert 24 <= len(cropped) < 40 and (np.diff(cropped) == 1).all()


# --- augmentation of the original ---


def test_original_changes_half_of_the_clips_in_four_ways(points):
    without_noise = OriginalAugmentation(noise=0.0)
    body = LAYOUT.section("pose")
    drawn = [without_noise.apply(points, LAYOUT, 64, np.random.default_rng(seed)) for seed in range(400)]
    assert all(len(out) == len(points) for out in drawn)
    unchanged = [np.array_equal(out, points, equal_nan=True) for out in drawn]
    assert 0.45 < np.mean(unchanged) < 0.62  # a tenth of the sequential rotations rotates no joint
    ways = {"rotated": 0, "arms": 0, "squeezed": 0, "perspective": 0}
    head = [column(name) for name in ("pose_nose", "pose_left_ear", "pose_right_ear")]
    for out in (out for out, is_unchanged in zip(drawn, unchanged, strict=True) if not is_unchanged):
        moved = np.abs(out - points)
        if np.nanmax(moved[:, HANDS["right"]]) > 1e-6:
            ways["rotated"] += 1
        elif moved[:, head].max() < 1e-6:
            ways["arms"] += 1
        elif moved[:, body, 1].max() < 1e-6:
            ways["squeezed"] += 1
        else:
            ways["perspective"] += 1
    assert min(ways.values()) > 20 and ways["rotated"] < 80, ways


def test_noise_of_the_original_has_its_deviation_after_normalization(points):
    noisy = OriginalAugmentation(share=0.0).apply(points, LAYOUT, 64, np.random.default_rng(0))
    differences = (normalize(noisy, LAYOUT, "box") - normalize(points, LAYOUT, "box")).reshape(len(points), -1, 2)
    for columns in (LAYOUT.section("pose"), HANDS["right"]):
        assert 0.0007 < differences[:, columns].std() < 0.0014
