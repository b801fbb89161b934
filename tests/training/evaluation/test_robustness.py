"""The changes of the robustness table: each does what its row says, and nothing else."""

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
    """A clip of a right hand, the left hand being there in some frames only."""
    points = generated_points("CIRCLE", request.param, np.random.default_rng(1))
    left = MEDIAPIPE.part("left_hand")
    points[5:20, left] += np.linspace(0.01, 0.2, 21)[:, None]
    return dataclasses.replace(clip_from_connecting_points(points), fps=30.0)


def change(key: str, clip: Clip, name: str = "camera01/circle/3", seed: int = 0) -> Clip:
    return ROWS[key].apply(clip, name, seed)


def hands_there(clip: Clip) -> np.ndarray:
    hands = [table.hand_columns(clip.names, side) for side in ("left", "right")]
    return np.stack([~np.isnan(clip.points[:, hand]).any(axis=(1, 2)) for hand in hands])


@pytest.mark.parametrize("key", ROWS)
def test_every_change_gives_another_clip_and_leaves_the_first(clip, key):
    before = clip.points.copy()
    changed = change(key, clip)
    np.testing.assert_array_equal(clip.points, before)
    assert isinstance(changed, Clip) and (changed.names, changed.estimator) == (clip.names, clip.estimator)
    assert changed.points.shape != before.shape or not np.array_equal(changed.points, before, equal_nan=True)
    assert (np.isnan(changed.points[..., 0]) == np.isnan(changed.points[..., 1])).all()
    again, other = change(key, clip), change(key, clip, seed=1)
    np.testing.assert_array_equal(changed.points, again.points)
    drawn = not np.array_equal(changed.points, other.points, equal_nan=True)
    assert drawn == (key in ("hands_missing", "frames_dropped", "shifted", "shuffled"))


@pytest.mark.parametrize("key", ROWS)
@pytest.mark.parametrize("frames", [1, 2])
def test_the_shortest_clips_survive(clip, key, frames):
    short = dataclasses.replace(clip, points=clip.points[:frames])
    assert len(change(key, short)) >= 1


def test_half_has_half_the_frames_and_double_twice(clip):
    half, double = change("half_rate", clip), change("double_rate", clip)
    assert (len(half), half.fps) == ((len(clip) + 1) // 2, 15.0)
    np.testing.assert_array_equal(half.points, clip.points[::2])
    assert (len(double), double.fps) == (2 * len(clip) - 1, 60.0)
    np.testing.assert_array_equal(change("half_rate", double).points, clip.points)
    nose = clip.points[:, 0]
    np.testing.assert_allclose(double.points[1::2, 0], (nose[1:] + nose[:-1]) / 2, atol=1e-6)
    assert change("half_rate", dataclasses.replace(clip, fps=None)).fps is None


def test_thirty_per_cent_of_hands_is_thirty_per_cent(clip):
    before, changed = hands_there(clip), change("hands_missing", clip)
    gone = before & ~hands_there(changed)
    assert gone.sum() == round(0.3 * before.sum()) > 0
    rest = np.setdiff1d(
        np.arange(len(clip.names)),
        np.concatenate([table.hand_columns(clip.names, side) for side in ("left", "right")]),
    )
    np.testing.assert_array_equal(changed.points[:, rest], clip.points[:, rest])
    for hand, frames in zip(("left", "right"), gone, strict=True):
        kept = clip.points[~frames][:, table.hand_columns(clip.names, hand)]
        np.testing.assert_array_equal(changed.points[~frames][:, table.hand_columns(clip.names, hand)], kept)


def test_hands_drop_out_for_stretches(clip):
    gone = hands_there(clip) & ~hands_there(change("hands_missing", clip))
    ends = np.count_nonzero(np.diff(gone.astype(int), axis=1, prepend=0) == 1)
    assert ends < gone.sum() / 2  # single frames would begin as often as they are many


def test_a_clip_without_hands_has_none_to_lose(clip):
    body = load_layout("29")
    pose = [name for name in body.names if name.startswith("pose_")]
    columns = [clip.names.index(name) for name in pose]
    bare = Clip(clip.points[:, columns], tuple(pose))
    np.testing.assert_array_equal(change("hands_missing", bare).points, bare.points)


def test_half_of_the_frames_are_dropped_in_order(clip):
    marked = dataclasses.replace(clip, points=clip.points.copy())
    marked.points[:, 0, 0] = np.arange(len(clip))
    kept = change("frames_dropped", marked).points[:, 0, 0]
    assert len(kept) == (len(clip) + 1) // 2
    assert (np.diff(kept) > 0).all() and (np.diff(kept) > 1).any() and (np.diff(kept) == 1).any()


def test_tilting_keeps_distances_in_a_square_picture_and_one_undoes_the_other(clip):
    right, left = change("tilt_right", clip), change("tilt_left", clip)
    arm = [clip.names.index("pose_right_elbow"), clip.names.index("pose_right_wrist")]

    def length(some: Clip) -> np.ndarray:
        return np.linalg.norm(np.diff(some.points[:, arm], axis=1), axis=2)

    np.testing.assert_allclose(length(right), length(clip), rtol=1e-4)
    np.testing.assert_allclose(change("tilt_right", left).points, clip.points, atol=1e-6)
    above = dataclasses.replace(clip, points=np.full_like(clip.points, 0.5))
    above.points[..., 1] = 0.4  # straight above the centre; clockwise it goes to the right
    turned = change("tilt_right", above).points[0, 0] - 0.5
    np.testing.assert_allclose(turned, [0.1 * np.sin(np.radians(15)), -0.1 * np.cos(np.radians(15))], atol=1e-6)


@pytest.mark.parametrize(
    ("key", "x", "y"),
    [("zoom_out", 0.7, 0.7), ("zoom_in", 1.3, 1.3), ("wider", 0.75, 1.0), ("narrower", 4 / 3, 1.0)],
)
def test_zoom_and_another_aspect_ratio_stretch_around_the_centre(clip, key, x, y):
    expected = (clip.points - 0.5) * np.array([x, y]) + 0.5
    np.testing.assert_allclose(change(key, clip).points, expected, atol=1e-6)


def test_a_shift_is_of_fifteen_per_cent_and_alike_for_all_points(clip):
    moves = []
    for name in "abcdefgh":
        moved = change("shifted", clip, name).points - clip.points
        known = moved[~np.isnan(moved[..., 0])]
        np.testing.assert_allclose(known, np.broadcast_to(known[0], known.shape), atol=1e-6)
        assert np.hypot(*known[0]) == pytest.approx(0.15, abs=1e-5)
        moves.append(known[0])
    assert np.ptp(moves, axis=0).min() > 0.1  # in many directions


def test_mirrored_twice_is_the_clip_and_once_the_hands_are_exchanged(clip):
    once = change("mirrored", clip)
    np.testing.assert_allclose(change("mirrored", once).points, clip.points, atol=1e-6)
    right, left = (clip.names.index(f"{side}Hand_thumb_tip") for side in ("right", "left"))
    np.testing.assert_allclose(once.points[:, left, 0], 1 - clip.points[:, right, 0], atol=1e-6)
    np.testing.assert_allclose(once.points[:, left, 1], clip.points[:, right, 1])


def test_shuffling_keeps_each_frame_and_not_their_order(clip):
    shuffled = change("shuffled", clip).points
    marks = shuffled[:, 16, 0]
    assert sorted(marks.tolist()) == sorted(clip.points[:, 16, 0].tolist())
    assert not np.array_equal(marks, clip.points[:, 16, 0])


def test_what_is_drawn_hangs_on_the_name_and_not_on_the_neighbours(clip):
    assert not np.array_equal(change("shuffled", clip, "a").points, change("shuffled", clip, "b").points)
