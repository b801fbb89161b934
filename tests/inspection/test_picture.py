"""The pictures of `spoter show`: known points, missing points, and SPOTER's input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spoter.inspection import picture
from spoter.landmarks.normalize import normalize
from spoter.landmarks.skeleton import COLOURS
from tests.generate import figure_clip
from tests.inspection.outputs import LAYOUT, LEFT, POINTS, compact, ink, inspect, pixels, remove, run
from tests.training.datasets import put
from tests.wire import dumps, openpose


def test_the_normalized_points_are_spoters_input(tmp_path):
    clip = inspect(tmp_path, compact(POINTS))
    np.testing.assert_array_equal(clip.normalized, normalize(clip.points, LAYOUT, "box").reshape(24, 54, 2))
    assert (clip.refusal, clip.notes) == ("", [])


def test_a_strip_shows_both_hands_and_marks_a_missing_hand(tmp_path):
    """The color of a missing hand appears only in the rings at the wrist and in the legend."""
    both = pixels(picture.draw_strip(inspect(tmp_path, compact(POINTS)), ["both"], (0, 12), "box"))
    one = pixels(picture.draw_strip(inspect(tmp_path, compact(remove(LEFT))), ["both"], (0, 12), "box"))
    assert both.shape == one.shape
    left, right = COLOURS["left hand"], COLOURS["right hand"]
    assert 10 < ink(one, left) < 0.3 * ink(both, left)
    assert ink(one, right) > 0.7 * ink(both, right)


def test_a_frame_without_a_person_shows_only_text(tmp_path):
    points = POINTS.copy()
    points[12] = np.nan
    clip = inspect(tmp_path, compact(points))
    panel = picture._Panel(clip, 165, "box", 1.0)
    present, absent = (np.asarray(panel.draw(frame).image())[40:, :165] for frame in (0, 12))
    assert ink(present, COLOURS["body"]) > 60 and ink(absent, COLOURS["body"]) == 0
    assert (absent < 200).any()  # the text
    assert panel.describe_missing(12) == "no person" and panel.describe_missing(0) == ""


def test_a_missing_point_is_marked_at_its_place_in_the_nearest_frame(tmp_path):
    elbow = LAYOUT.column("pose_left_elbow")
    clip = inspect(tmp_path, compact(remove(elbow, slice(8, None))))
    ((part, place),) = picture.find_last_places(clip.points, 20, LAYOUT.names)
    np.testing.assert_array_equal(place, clip.points[7, elbow])
    assert part == "body"
    assert picture.find_last_places(clip.points, 3, LAYOUT.names) == []
    assert picture._Panel(clip, 165, "box", 1.0).describe_missing(20) == "1 point missing"


@pytest.mark.parametrize("layout", ["29", "54", "71", "spoter54"])
@pytest.mark.parametrize("scheme", ["box", "none"])
def test_every_layout_can_be_drawn(tmp_path, layout, scheme):
    _check_drawing(tmp_path, layout, scheme)


@pytest.mark.parametrize("layout", ["54", "spoter54"])  # other layouts lack landmarks of the scheme
def test_the_scheme_bohacek_can_be_drawn(tmp_path, layout):
    _check_drawing(tmp_path, layout, "bohacek")


def test_the_head_is_at_the_top_in_every_scheme(tmp_path, monkeypatch):
    """In the scheme bohacek, y points up."""
    drawn: list[np.ndarray] = []
    strokes = picture.skeleton_strokes
    monkeypatch.setattr(
        picture, "skeleton_strokes", lambda points, names: drawn.append(points) or strokes(points, names)
    )
    for scheme in ("box", "bohacek"):
        clip = inspect(tmp_path, compact(POINTS), scheme=scheme)
        picture._Panel(clip, 165, scheme, 1.0).draw_normalized(clip.normalized[6], 6, "body", 157, "")
    nose, shoulder = LAYOUT.column("pose_nose"), LAYOUT.column("pose_left_shoulder")
    assert [points[nose, 1] < points[shoulder, 1] for points in drawn] == [True, True]


@pytest.mark.parametrize("aspect", [0.4, 1.0, 2.5])
def test_the_picture_fits_into_the_panel(tmp_path, aspect):
    panel = picture._Panel(inspect(tmp_path, compact(POINTS)), 165, "box", aspect)
    assert panel.unit[1] == pytest.approx(aspect * panel.unit[0])
    assert (panel.origin + panel.unit <= (panel.side, panel.height)).all() and max(panel.unit) > 100


def _check_drawing(tmp_path: Path, layout: str, scheme: str) -> None:
    file = put(tmp_path / "clip.json", dumps(openpose(figure_clip("openpose", 12))))
    ran = run(file, "--layout", layout, "--normalize", scheme, "--out", tmp_path / "clip.png", "--frames", 2)
    assert ran.exit_code == 0, ran.output
    assert ink(pixels((tmp_path / "clip.png").read_bytes()), COLOURS["right hand"]) > 300


def test_a_gif_loops_at_the_speed_of_the_clip(tmp_path):
    file = put(tmp_path / "clip.json", compact(POINTS, fps=30))
    assert run(file, "--out", tmp_path / "clip.gif").exit_code == 0
    with Image.open(tmp_path / "clip.gif") as gif:
        assert (gif.n_frames, gif.info["loop"]) == (24, 0)
        durations = []
        for i in range(gif.n_frames):
            gif.seek(i)
            durations.append(gif.info["duration"])
    assert sum(durations) == 800 and set(durations) == {30, 40}


@pytest.mark.parametrize(("count", "fps", "expected"), [(1000, 25, 250), (24, 100, 12)])
def test_the_gif_of_a_long_or_fast_clip_has_fewer_frames(tmp_path, count, fps, expected):
    clip = inspect(tmp_path, compact(np.resize(POINTS, (count, 54, 2)), fps=fps))
    frames: list[int] = []

    def first_two(numbers):
        frames.extend(numbers)
        return frames[:2]

    picture.draw_animation(clip, ["title"], "box", progress=first_two)
    assert len(frames) == expected and frames[-1] < count
