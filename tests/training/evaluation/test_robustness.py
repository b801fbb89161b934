"""The conditions of the robustness table: each makes exactly the change of its row."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from spoter.landmarks.clip import Clip
from spoter.landmarks.connecting_points import clip_from_connecting_points
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.landmarks.layouts import load_layout
from spoter.training.evaluation import robustness as table
from tests.training.datasets import generated_points

ROWS = {condition.key: condition for condition in table.CONDITIONS}


@pytest.fixture(params=[40, 41], ids=["even", "odd"])
def clip(request) -> Clip:
    """A clip with a right hand in all frames and a left hand in some frames."""
    points = generated_points("CIRCLE", request.param, np.random.default_rng(1))
    left = MEDIAPIPE.part("left_hand")
    points[5:20, left] += np.linspace(0.01, 0.2, 21)[:, None]
    return dataclasses.replace(clip_from_connecting_points(points), fps=30.0)


def change(key: str, clip: Clip, name: str = "camera01/circle/3", seed: int = 0) -> Clip:
    return ROWS[key].apply(clip, name, seed)


def hands_present(clip: Clip) -> np.ndarray:
    hands = [table.hand_columns(clip.names, side) for side in ("left", "right")]
    return np.stack([~np.isnan(clip.points[:, hand]).any(axis=(1, 2)) for hand in hands])


@pytest.mark.parametrize("key", ROWS)
def test_every_condition_returns_a_changed_copy(clip, key):
    before = clip.points.copy()
    changed = change(key, clip)
    np.testing.assert_array_equal(clip.points, before)
    assert isinstance(changed, Clip) and (changed.names, changed.estimator) == (clip.names, clip.estimator)
    assert changed.points.shape != before.shape or not np.array_equal(changed.points, before, equal_nan=True)
    assert (np.isnan(changed.points[..., 0]) == np.isnan(changed.points[..., 1])).all()
    again, other = change(key, clip), change(key, clip, seed=1)
    np.testing.assert_array_equal(changed.points, again.points)
    is_random = not np.array_equal(changed.points, other.points, equal_nan=True)
    assert is_random == (key in ("hands_missing", "frames_dropped", "shifted", "shuffled"))


@pytest.mark.parametrize("key", ROWS)
@pytest.mark.parametrize("frames", [1, 2])
def test_short_clips_keep_a_frame(clip, key, frames):
    short = dataclasses.replace(clip, points=clip.points[:frames])
    assert len(change(key, short)) >= 1


def test_half_and_double_frame_rate(clip):
    half, double = change("half_rate", clip), change("double_rate", clip)
    assert (len(half), half.fps) == ((len(clip) + 1) // 2, 15.0)
    np.testing.assert_array_equal(half.points, clip.points[::2])
    assert (len(double), double.fps) == (2 * len(clip) - 1, 60.0)
    np.testing.assert_array_equal(change("half_rate", double).points, clip.points)
    nose = clip.points[:, 0]
    np.testing.assert_allclose(double.points[1::2, 0], (nose[1:] + nose[:-1]) / 2, atol=1e-6)
    assert change("half_rate", dataclasses.replace(clip, fps=None)).fps is None


def test_thirty_percent_of_hands_are_removed(clip):
    before, changed = hands_present(clip), change("hands_missing", clip)
    removed = before & ~hands_present(changed)
    assert removed.sum() == round(0.3 * before.sum()) > 0
    rest = np.setdiff1d(
        np.arange(len(clip.names)),
        np.concatenate([table.hand_columns(clip.names, side) for side in ("left", "right")]),
    )
    np.testing.assert_array_equal(changed.points[:, rest], clip.points[:, rest])
    for hand, frames in zip(("left", "right"), removed, strict=True):
        expected = clip.points[~frames][:, table.hand_columns(clip.names, hand)]
        np.testing.assert_array_equal(changed.points[~frames][:, table.hand_columns(clip.names, hand)], expected)


def test_hands_are_removed_for_intervals(clip):
    removed = hands_present(clip) & ~hands_present(change("hands_missing", clip))
    intervals = np.count_nonzero(np.diff(removed.astype(int), axis=1, prepend=0) == 1)
    assert intervals < removed.sum() / 2  # single frames would be one interval each


def test_clip_without_hands_does_not_change(clip):
    pose = [name for name in load_layout("29").names if name.startswith("pose_")]
    columns = [clip.names.index(name) for name in pose]
    bare = Clip(clip.points[:, columns], tuple(pose))
    np.testing.assert_array_equal(change("hands_missing", bare).points, bare.points)


def test_half_of_the_frames_are_dropped_and_the_rest_stay_in_order(clip):
    marked = dataclasses.replace(clip, points=clip.points.copy())
    marked.points[:, 0, 0] = np.arange(len(clip))
    numbers = change("frames_dropped", marked).points[:, 0, 0]
    assert len(numbers) == (len(clip) + 1) // 2
    assert (np.diff(numbers) > 0).all() and (np.diff(numbers) > 1).any() and (np.diff(numbers) == 1).any()


def test_tilts_keep_distances_and_cancel_each_other(clip):
    right, left = change("tilt_right", clip), change("tilt_left", clip)
    arm = [clip.names.index("pose_right_elbow"), clip.names.index("pose_right_wrist")]

    def length(clip: Clip) -> np.ndarray:
        return np.linalg.norm(np.diff(clip.points[:, arm], axis=1), axis=2)

    np.testing.assert_allclose(length(right), length(clip), rtol=1e-4)
    np.testing.assert_allclose(change("tilt_right", left).points, clip.points, atol=1e-6)
    above = dataclasses.replace(clip, points=np.full_like(clip.points, 0.5))
    above.points[..., 1] = 0.4  # above the center: a clockwise rotation moves it to the right
    rotated = change("tilt_right", above).points[0, 0] - 0.5
    np.testing.assert_allclose(rotated, [0.1 * np.sin(np.radians(15)), -0.1 * np.cos(np.radians(15))], atol=1e-6)


@pytest.mark.parametrize(
    ("key", "x", "y"),
    [("zoom_out", 0.7, 0.7), ("zoom_in", 1.3, 1.3), ("wider", 0.75, 1.0), ("narrower", 4 / 3, 1.0)],
)
def test_zoom_and_aspect_ratio_stretch_around_the_center(clip, key, x, y):
    expected = (clip.points - 0.5) * np.array([x, y]) + 0.5
    np.testing.assert_allclose(change(key, clip).points, expected, atol=1e-6)


def test_shift_moves_all_points_by_fifteen_percent(clip):
    moves = []
    for name in "abcdefgh":
        moved = change("shifted", clip, name).points - clip.points
        shifts = moved[~np.isnan(moved[..., 0])]
        np.testing.assert_allclose(shifts, np.broadcast_to(shifts[0], shifts.shape), atol=1e-6)
        assert np.hypot(*shifts[0]) == pytest.approx(0.15, abs=1e-5)
        moves.append(shifts[0])
    assert np.ptp(moves, axis=0).min() > 0.1  # in many directions


def test_mirroring_exchanges_hands_and_is_its_own_inverse(clip):
    once = change("mirrored", clip)
    np.testing.assert_allclose(change("mirrored", once).points, clip.points, atol=1e-6)
    right, left = (clip.names.index(f"{side}Hand_thumb_tip") for side in ("right", "left"))
    np.testing.assert_allclose(once.points[:, left, 0], 1 - clip.points[:, right, 0], atol=1e-6)
    np.testing.assert_allclose(once.points[:, left, 1], clip.points[:, right, 1])


def test_shuffling_keeps_all_frames_in_another_order(clip):
    shuffled = change("shuffled", clip).points
    marks = shuffled[:, 16, 0]
    assert sorted(marks.tolist()) == sorted(clip.points[:, 16, 0].tolist())
    assert not np.array_equal(marks, clip.points[:, 16, 0])


def test_random_numbers_depend_on_the_name_of_the_clip(clip):
    assert not np.array_equal(change("shuffled", clip, "a").points, change("shuffled", clip, "b").points)
