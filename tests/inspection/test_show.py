"""`spoter show` reports common faults, and draws every readable clip."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from spoter.errors import SpoterError
from spoter.inspection.findings import describe_points, find_problems
from spoter.landmarks.layouts import load_layout
from spoter.landmarks.skeleton import COLOURS
from tests import ROOT
from tests.generate import figure_clip
from tests.inspection.outputs import CLIP, LAYOUT, LEFT, POINTS, RIGHT, compact, ink, pixels, remove, run
from tests.training.datasets import put
from tests.wire import dumps, nested, openpose

# --- faults of a clip ---


def changed(**columns: float) -> np.ndarray:
    points = POINTS.copy()
    for name, value in columns.items():
        points[:, LAYOUT.column(name)] = value
    return points


def exchange_hands() -> np.ndarray:
    points = POINTS.copy()
    points[:, LEFT], points[:, RIGHT] = POINTS[:, RIGHT], POINTS[:, LEFT]
    return points


WRONG = {
    "a hand": (remove(LEFT, slice(3, None)), "left hand is missing in 88% of frames"),
    "no hands": (remove(np.concatenate([LEFT, RIGHT])), "no hand"),
    "swapped": (POINTS[..., ::-1], "swapped"),
    "on the side": (np.stack([1 - POINTS[..., 1], POINTS[..., 0]], axis=-1), "on the side"),
    "y up": (np.stack([POINTS[..., 0], 1 - POINTS[..., 1]], axis=-1), "y points up"),
    "mirrored": (np.stack([1 - POINTS[..., 0], POINTS[..., 1]], axis=-1), "left and right"),
    "hands exchanged": (exchange_hands(), "hands look exchanged"),
    "small": (0.3 * POINTS + np.float32(0.35), "small: 14%"),
    "near": (4 * POINTS - np.float32(1.5), "too close"),
    "off-center": (POINTS * np.float32([0.4, 1]), "x = 0.20"),
    "centered": (POINTS - np.float32(0.5), "normalized"),
    "zeros": (np.nan_to_num(remove(LEFT, slice(0, 9))), "(0, 0)"),
    "no person": (remove(np.arange(54), slice(4, 8)), "17% of frames (4 to 7)"),
    "shoulder": (remove(LAYOUT.column("pose_left_shoulder"), slice(0, 12)), "shoulder is missing in 50% of frames"),
    "never": (changed(pose_left_ear=np.nan), "never found: pose_left_ear"),
    "frozen": (np.repeat(POINTS[:1], 24, axis=0), "100% of frames"),
    "short": (POINTS[:4], "4 frames"),
    "long": (np.tile(POINTS, (12, 1, 1)), "288 frames (11.5 s)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_common_faults_are_reported(case):
    points, text = WRONG[case]
    assert any(text in line for line in find_problems(points, LAYOUT, 25.0)), case


def test_a_good_clip_has_no_faults_and_correct_statistics(tmp_path):
    assert find_problems(POINTS, LAYOUT, 25.0) == []
    gaps = remove(LEFT, slice(0, 6))
    gaps[:, LAYOUT.column("pose_left_wrist")] = [0.5, 1.2]
    left, right, body, picture = describe_points(gaps, LAYOUT)
    assert left == "left hand   found in 75% of frames"  # the wrist is never in the picture
    assert right.startswith("right hand ") and right.count("100%") == 2
    assert "both shoulders found in 100%" in body and "0 frames" in body
    assert "signer" in picture


@pytest.mark.parametrize("name", ["29", "71", "spoter54"])
def test_all_layouts_can_be_checked(name):
    layout = load_layout(name)
    points = layout.select(figure_clip(frames=24))
    assert find_problems(points, layout, None) == []
    assert any("y points up" in line for line in find_problems(1 - points, layout, None))


# --- clips that a server refuses ---


REFUSED = {
    "pixels": (compact(POINTS * np.float32([640, 480])), "out_of_range", "in pixels"),
    "OpenPose without size": (
        dumps({"frames": openpose(figure_clip("openpose"))["frames"]}),
        "missing_image_size", "in pixels",
    ),
    "a stray point": (compact(changed(pose_nose=44.0)), "out_of_range", "never found: pose_nose"),
    "too long": (compact(np.tile(POINTS, (22, 1, 1))), "too_many_frames", "528 frames"),
    "too long, in pixels": (
        compact(np.tile(POINTS * np.float32([640, 480]), (22, 1, 1))),
        "too_many_frames", "in pixels",
    ),
    "another layout": (
        dumps({"layout": 29, "points": nested(load_layout("29").select(CLIP))}),
        "wrong_layout", "layout 29",
    ),
    "no person": (compact(np.full((20, 54, 2), np.nan)), "no_usable_frames", "no person in any frame"),
    "no shoulders": (
        compact(remove(LAYOUT.column("pose_right_shoulder"))),
        "no_usable_frames", "shoulder is missing in 100%",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_clip_is_drawn_as_far_as_it_is_readable(tmp_path, case):
    content, code, text = REFUSED[case]
    result = run(put(tmp_path / "clip.json", content), "--out", tmp_path / "clip.png", "--frames", 2)
    assert result.exit_code == 0, result.output
    assert re.search(rf"refused: .*{code}", result.output) and text in result.output
    body = ink(pixels((tmp_path / "clip.png").read_bytes()), COLOURS["body"])
    assert body > 0 if case == "no person" else body > 150


@pytest.mark.parametrize(
    ("name", "content", "words", "text"),
    [
        ("clip.json", b'{"layout":', (), "invalid_json"),
        ("clip.json", b"", (), "empty_body"),
        ("clip.txt", b"x", (), "clip.txt"),
        ("clip.json", dumps({"uniqueName": "a.mp4"}), (), "no_stored_videos: "),
        ("clip.json", dumps({"describe": True}), (), "unknown_form: "),
        ("clip.json", compact(POINTS), ("--out", "clip.jpg"), "clip.jpg"),
        ("clip.json", compact(POINTS), ("--clip", "1"), "--clip 0 to 0"),
        ("clip.json", compact(POINTS), ("--layout", "55"), "'55'"),
        ("clip.json", compact(POINTS), ("--normalize", "boxes"), "'boxes'"),
    ],
)
def test_an_unreadable_clip_is_an_error_and_leaves_no_picture(tmp_path, monkeypatch, name, content, words, text):
    monkeypatch.setattr("spoter.formats.video_format.videos_supported", lambda: True)  # as with MediaPipe
    file = put(tmp_path / name, content)
    result = run(file, "--out", tmp_path / "clip.png", *words)
    assert isinstance(result.exception, SpoterError), result.exception
    assert text in f"{getattr(result.exception, 'code', '')}: {result.exception}"
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_an_error_is_printed_on_one_line(tmp_path):
    file = put(tmp_path / "clip.json", b'{"layout":')
    command = [sys.executable, "-m", "spoter", "show", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: invalid_json: ") and result.stderr.count("\n") == 1


def test_an_error_names_a_missing_path(tmp_path):
    for file, out, text in (
        (tmp_path / "openpose-output", tmp_path / "clip.png", "openpose-output"),
        (put(tmp_path / "clip.json", compact(POINTS)), tmp_path / "absent" / "clip.png", "absent/clip.png"),
    ):
        result = run(file, "--out", out)
        assert isinstance(result.exception, SpoterError | OSError) and text in str(result.exception)


def test_uppercase_file_endings_are_accepted(tmp_path):
    result = run(put(tmp_path / "CLIP.JSON", compact(POINTS)), "--out", tmp_path / "CLIP.GIF", "--frames", 2)
    assert result.exit_code == 0 and (tmp_path / "CLIP.GIF").read_bytes()[:3] == b"GIF"


# --- files, folders and models ---


@pytest.mark.parametrize("sample", ["deutschland.csv", "mainz-long.csv", "software.npy", "zeigen-compact.json"])
def test_every_kind_of_file_is_shown(tmp_path, sample):
    result = run(ROOT / "samples" / sample, "--out", tmp_path / "clip.png")
    assert result.exit_code == 0 and result.output.startswith(f"{sample}: "), result.output
    assert (tmp_path / "clip.png").stat().st_size < 120_000


def test_the_answer_of_a_model_is_printed(tmp_path):
    result = run(ROOT / "samples" / "hallo.json", "--model", ROOT / "models" / "dgs11", "--out", tmp_path / "clip.png")
    assert "answer: HALLO, score 0.9" in result.output and "; known sign" in result.output


def test_one_clip_of_several_is_chosen(tmp_path):
    file = ROOT / "samples" / "ich-welt.jsonl"
    second = json.loads(file.read_text().splitlines()[1])
    result = run(file, "--clip", 1, "--out", tmp_path / "clip.png")
    assert f"clip 1 of 2, {len(second['points'])} frames" in result.output
    lines = file.read_bytes().splitlines()
    broken = put(tmp_path / "two.jsonl", b"\n".join([lines[0], b'{"points": 5}']))
    assert run(broken, "--out", tmp_path / "clip.png").exit_code == 0
    assert isinstance(run(broken, "--clip", 1, "--out", tmp_path / "clip.png").exception, SpoterError)


def test_a_folder_with_missing_frames_is_shown(tmp_path):
    for i, frame in enumerate(openpose(figure_clip("openpose", 12))["frames"]):
        if i != 5:
            put(tmp_path / "op" / f"v_{i:012d}_keypoints.json", dumps(frame))
    words = ("--width", 640, "--height", 480, "--out", tmp_path / "clip.png", "--model", ROOT / "models" / "dgs11")
    result = run(tmp_path / "op", *words)
    assert result.exit_code == 0, result.output
    assert "note: 1 of 12 frames" in result.output
    assert "check: landmarks of openpose" in result.output


@pytest.mark.slow
def test_show_does_not_need_the_packages_of_training(tmp_path):
    """Pictures are drawn with Pillow: `make serve` does not install matplotlib."""
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from spoter.cli.main import app\n"
        f"app(['show', {str(ROOT / 'samples' / 'hallo.json')!r}, '--out', 'clip.gif'], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "clip.gif").stat().st_size > 10_000
