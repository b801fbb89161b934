"""Pictures of clips, and `spoter data augmentations`: a picture with one row per augmentation of a clip."""

from __future__ import annotations

import itertools
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import typer
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from typer.testing import CliRunner

from spoter import drawing
from spoter.cli import data as data_commands
from spoter.errors import DataError
from spoter.landmarks import skeleton
from spoter.landmarks.connecting_points import clip_from_connecting_points
from spoter.landmarks.estimators import ESTIMATORS, MEDIAPIPE
from spoter.landmarks.layouts import load_layout
from spoter.training.augment.augmentation import Augmentation, OriginalAugmentation
from spoter.training.augment.preview import EXAMPLES, NO_CHANGE, draw_strip, mean_distance, strongest_draw
from tests.training.datasets import generated_points, write_hdf5

LAYOUT = load_layout("54")


def _points(gloss: str = "CIRCLE", frames: int = 20) -> np.ndarray:
    return LAYOUT.select(clip_from_connecting_points(generated_points(gloss, frames, np.random.default_rng(2))))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    one_hand = generated_points("NOD", 20, rng)
    both = generated_points("CIRCLE", 20, rng)
    both[:, 501:522] = both[:, 522:] + np.float32([0.3, 0])
    clips = [("a/one", "NOD", one_hand), ("b/both", "CIRCLE", both)]
    return write_hdf5(tmp_path_factory.mktemp("data") / "signs.hdf5", clips)


def _run(*words: object):
    app = typer.Typer()
    app.command()(data_commands.augmentations)
    return CliRunner().invoke(app, [str(word) for word in words])


def _rows(picture: np.ndarray) -> list[np.ndarray]:
    """Return the rows of the picture without the captions on their left."""
    count = len(EXAMPLES) + 1
    edges = (picture.shape[0] * (0.75 + 2.0125 * np.arange(count + 1)) / (0.75 + 2.0125 * count)).round().astype(int)
    return [picture[top + 18 : bottom, 190:] for top, bottom in itertools.pairwise(edges)]


def test_picture_has_one_row_per_augmentation(data, tmp_path):
    result = _run(data, "--out", tmp_path / "picture.png")
    assert result.exit_code == 0, result.output
    assert "b/both" in result.output  # the first clip with both hands
    picture = imread(tmp_path / "picture.png")
    # Pixels: 190 for captions and 8 frames of 1.3 * 115; 75 for the title and rows of 1.75 * 115.
    rows = len(EXAMPLES) + 1
    width, height = 190 + 8 * 1.3 * 115, 75 + rows * 1.75 * 115
    assert np.abs(np.array(picture.shape[:2]) - (height, width)).max() <= 1
    recorded, *augmented = _rows(picture)
    assert len(augmented) == len(EXAMPLES)
    for caption, row in zip(EXAMPLES, augmented, strict=True):
        size = min(len(recorded), len(row))
        differing = (np.abs(recorded[:size] - row[:size]).max(axis=2) > 0.1).sum()
        assert differing > 20, caption
        assert (row.min(axis=2) < 0.6).sum() > 100, caption  # the row is not empty


@pytest.mark.slow
def test_picture_depends_on_seed_and_clip(data, tmp_path):
    runs = {"a": (), "b": (), "seed": ("--seed", 3), "clip": ("--clip", "a/one")}
    for name, options in runs.items():
        assert _run(data, "--out", tmp_path / f"{name}.png", *options).exit_code == 0
    a, b, seed, clip = ((tmp_path / f"{name}.png").read_bytes() for name in runs)
    assert a == b and len({a, seed, clip}) == 3


def test_invalid_paths_and_clip_names_are_refused(data, tmp_path):
    for path, place in (("p.jpg", r"p\.jpg: "), ("none/p.png", "none: ")):
        with pytest.raises(DataError, match=place):
            raise _run(data, "--out", tmp_path / path).exception
    error = _run(data, "--out", tmp_path / "p.png", "--clip", "c/none").exception
    assert isinstance(error, DataError) and "signs.hdf5" in str(error) and "'c/none'" in str(error)
    assert not list(tmp_path.iterdir())


def test_every_transform_has_a_row():
    shown = {
        field.name
        for augmenter in EXAMPLES.values()
        for field in fields(augmenter)
        if isinstance(augmenter, Augmentation)
        and augmenter != Augmentation()
        and getattr(augmenter, field.name) != getattr(NO_CHANGE, field.name)
    }
    assert shown == {field.name for field in fields(Augmentation)}
    assert Augmentation() in EXAMPLES.values()
    assert any(isinstance(augmenter, OriginalAugmentation) for augmenter in EXAMPLES.values())


def test_strongest_of_several_draws_is_selected():
    points = _points()
    differences = [
        mean_distance(points, strongest_draw(Augmentation(), points, LAYOUT, 512, 0, draws)) for draws in (1, 4, 16)
    ]
    assert differences == sorted(differences) and differences[0] < differences[-1]
    assert mean_distance(points, points) == 0
    hidden = points.copy()
    hidden[0] = np.nan  # 54 points per frame, 20 frames; 21 of the points were missing before
    assert mean_distance(points, hidden) == pytest.approx(33 / (20 * 54))
    assert mean_distance(points, points[:10]) == pytest.approx(0.5)


# --- skeletons ---


@pytest.mark.parametrize("layout", ["29", "54", "71", "spoter54"])
def test_limbs_connect_points_of_the_same_part(layout):
    names = load_layout(layout).names
    for part in skeleton.CHAINS:
        pairs = skeleton.find_limbs(names, part)
        sides = {names[column].split("_")[0] for column in pairs.ravel()}
        own = {"body": {"pose", "face"}, "left hand": {"leftHand", "pose"}, "right hand": {"rightHand", "pose"}}[part]
        assert sides <= own
        if part != "body":
            side = part.split()[0]
            hand = {column for column, name in enumerate(names) if name.startswith(f"{side}Hand_")}
            # Limbs connect every point of the hand, directly or indirectly, with the wrist of the pose.
            reached = {names.index(f"pose_{side}_wrist")}
            for _ in range(6):
                reached |= {column for pair in pairs.tolist() if reached & set(pair) for column in pair}
            assert hand <= reached


def test_chains_consist_of_points_of_estimators():
    points = {name for estimator in ESTIMATORS.values() for name in estimator.names}
    named = {name for chains in skeleton.CHAINS.values() for chain in chains for name in chain}
    assert named <= points
    for part in skeleton.CHAINS:
        assert len(skeleton.find_limbs(MEDIAPIPE.names, part)) >= 15


def _drawn(points: np.ndarray, frames=(0,), **options) -> np.ndarray:
    """Return the pixels of the strip, (height, width, 3), from 0 to 1."""
    return np.asarray(draw_strip(points, LAYOUT.names, frames, **options).image()) / 255


def _count_pixels(picture: np.ndarray, color: str) -> int:
    """Return the number of pixels with exactly this color."""
    return int((np.abs(picture - to_rgb(color)).max(axis=2) < 0.01).sum())


def test_missing_hand_is_a_ring_at_its_wrist():
    points = _points()
    strokes = skeleton.skeleton_strokes(points[0], LAYOUT.names)
    wrist = points[0, LAYOUT.column("pose_left_wrist")]
    np.testing.assert_array_equal(strokes.rings["left hand"], [wrist])
    assert not len(strokes.rings["right hand"]) and not len(strokes.rings["body"])
    assert _count_pixels(_drawn(points), skeleton.COLOURS["left hand"]) > 3
    points[:, LAYOUT.column("pose_left_wrist")] = np.nan
    assert not len(skeleton.skeleton_strokes(points[0], LAYOUT.names).rings["left hand"])
    assert _count_pixels(_drawn(points), skeleton.COLOURS["left hand"]) == 0


def test_frames_without_points_and_after_the_end_have_a_label():
    points = _points()
    points[1] = np.nan
    cells = np.array_split(_drawn(points, frames=(0, 1, 20)), 3, axis=1)
    for cell in cells[1:]:
        middle = cell[60:90, 40:110].min(axis=2)
        assert (middle < 0.85).sum() > 20 and (middle < 0.4).sum() == 0  # gray text
        assert (cell.min(axis=2) < 0.4).sum() == 0  # and no strokes
    assert (cells[0].min(axis=2) < 0.4).sum() > 50
    assert not np.array_equal(cells[1], cells[2])  # different labels


def test_clip_behind_is_drawn_in_gray():
    points = _points()
    single, compared = _drawn(points), _drawn(points, behind=points + np.float32(0.1))
    assert _count_pixels(compared, drawing.PALE) > _count_pixels(single, drawing.PALE) + 50


def test_missing_point_has_no_lines():
    points = _points()
    before = len(skeleton.skeleton_strokes(points[0], LAYOUT.names).lines["body"])
    points[:, LAYOUT.column("pose_right_elbow")] = np.nan
    assert len(skeleton.skeleton_strokes(points[0], LAYOUT.names).lines["body"]) == before - 2  # upper arm and forearm
