"""`spoter show`: the text names what commonly goes wrong, and whatever can be read is shown."""

from __future__ import annotations

import json
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
from tests.inspection.outputs import CLIP, LAYOUT, LEFT, POINTS, RIGHT, compact, ink, pixels, run, without
from tests.training.datasets import put
from tests.wire import dumps, nested, openpose

# --- what is wrong with a clip ---


def changed(**columns: float) -> np.ndarray:
    points = POINTS.copy()
    for name, value in columns.items():
        points[:, LAYOUT.column(name)] = value
    return points


def exchanged() -> np.ndarray:
    points = POINTS.copy()
    points[:, LEFT], points[:, RIGHT] = POINTS[:, RIGHT], POINTS[:, LEFT]
    return points


WRONG = {
    "a hand": (without(LEFT, slice(3, None)), "the left hand is missing in 88% of frames"),
    "no hands": (without(np.concatenate([LEFT, RIGHT])), "no hand was found in any frame"),
    "swapped": (POINTS[..., ::-1], "x and y look swapped"),
    "on the side": (np.stack([1 - POINTS[..., 1], POINTS[..., 0]], axis=-1), "lies on the side"),
    "y up": (np.stack([POINTS[..., 0], 1 - POINTS[..., 1]], axis=-1), "y points up"),
    "mirrored": (np.stack([1 - POINTS[..., 0], POINTS[..., 1]], axis=-1), "left and right look exchanged"),
    "hands exchanged": (exchanged(), "the hands look exchanged"),
    "small": (0.3 * POINTS + np.float32(0.35), "the signer is small: fills 14% of the picture's width"),
    "near": (4 * POINTS - np.float32(1.5), "the signer is very near"),
    "off the middle": (POINTS * np.float32([0.4, 1]), "off the middle: shoulders around x = 0.20"),
    "centred": (POINTS - np.float32(0.5), "centred or normalised already"),
    "zeros": (np.nan_to_num(without(LEFT, slice(0, 9))), "exactly (0, 0): a missing point has to be null"),
    "nobody": (without(np.arange(54), slice(4, 8)), "nobody in 17% of frames (4 to 7)"),
    "shoulder": (without(LAYOUT.column("pose_left_shoulder"), slice(0, 12)), "a shoulder is missing in 50% of frames"),
    "never": (changed(pose_left_ear=np.nan), "never found: pose_left_ear"),
    "frozen": (np.repeat(POINTS[:1], 24, axis=0), "100% of frames are the same"),
    "short": (POINTS[:4], "the clip has 4 frames"),
    "long": (np.tile(POINTS, (12, 1, 1)), "the clip has 288 frames (11.5 s)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_commonly_goes_wrong_is_named(case):
    points, said = WRONG[case]
    assert any(said in line for line in find_problems(points, LAYOUT, 25.0)), case


def test_a_good_clip_has_no_findings_and_its_figures_are_right(tmp_path):
    assert find_problems(POINTS, LAYOUT, 25.0) == []
    gaps = without(LEFT, slice(0, 6))
    gaps[:, LAYOUT.column("pose_left_wrist")] = [0.5, 1.2]
    left, right, body, picture = describe_points(gaps, LAYOUT)
    assert left == "left hand   found in 75% of frames"  # its wrist is never in the picture
    assert right == "right hand  found in 100% of frames, and in 100% of those in which its wrist is in the picture"
    assert "both shoulders found in 100%" in body and "nobody in 0 frames" in body
    assert "signer" in picture


@pytest.mark.parametrize("name", ["29", "71", "spoter54"])
def test_all_layouts_can_be_judged(name):
    layout = load_layout(name)
    points = layout.select(figure_clip(frames=24))
    assert find_problems(points, layout, None) == []
    assert any("y points up" in line for line in find_problems(1 - points, layout, None))


# --- clips that a server refuses ---


REFUSED = {
    "pixels": (compact(POINTS * np.float32([640, 480])), "out_of_range", "drawn as if the picture were"),
    "OpenPose without size": (
        dumps({"frames": openpose(figure_clip("openpose"))["frames"]}),
        "missing_image_size", "points in pixels",
    ),
    "a stray point": (compact(changed(pose_nose=44.0)), "out_of_range", "look: never found: pose_nose"),
    "too long": (compact(np.tile(POINTS, (22, 1, 1))), "too_many_frames", "528 frames"),
    "too long, in pixels": (
        compact(np.tile(POINTS * np.float32([640, 480]), (22, 1, 1))),
        "too_many_frames", "drawn as if the picture were",
    ),
    "another layout": (
        dumps({"layout": 29, "points": nested(load_layout("29").select(CLIP))}),
        "wrong_layout", "shown by layout 29",
    ),
    "nobody": (compact(np.full((20, 54, 2), np.nan)), "no_usable_frames", "nobody in any frame"),
    "no shoulders": (
        compact(without(LAYOUT.column("pose_right_shoulder"))),
        "no_usable_frames", "measured by nothing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_server_refuses_is_shown_as_far_as_it_can_be_read(tmp_path, case):
    content, code, said = REFUSED[case]
    ran = run(put(tmp_path / "clip.json", content), "--out", tmp_path / "clip.png", "--frames", 2)
    assert ran.exit_code == 0, ran.output
    assert f"refused: a server answers {code}" in ran.output and said in ran.output
    body = ink(pixels((tmp_path / "clip.png").read_bytes()), COLOURS["body"])
    assert body > 0 if case == "nobody" else body > 150


@pytest.mark.parametrize(
    ("name", "content", "words", "said"),
    [
        ("clip.json", b'{"layout":', (), "invalid_json"),
        ("clip.json", b"", (), "empty_body"),
        ("clip.txt", b"x", (), "clip.txt: found .txt"),
        ("clip.json", dumps({"uniqueName": "a.mp4"}), (), "no_stored_videos: found the key of a stored video"),
        ("clip.json", dumps({"describe": True}), (), "unknown_form: found describe, expected a clip"),
        ("clip.json", compact(POINTS), ("--out", "clip.jpg"), "clip.jpg: found .jpg, expected .png or .gif"),
        ("clip.json", compact(POINTS), ("--clip", "1"), "found 1 clips, expected --clip 0 to 0"),
        ("clip.json", compact(POINTS), ("--layout", "55"), "found layout '55'"),
        ("clip.json", compact(POINTS), ("--normalize", "boxes"), "found normalize 'boxes'"),
    ],
)
def test_what_cannot_be_read_at_all_is_an_error_and_leaves_no_picture(
    tmp_path, monkeypatch, name, content, words, said
):
    monkeypatch.setattr("spoter.formats.video_format.videos_supported", lambda: True)  # as where MediaPipe is
    file = put(tmp_path / name, content)
    ran = run(file, "--out", tmp_path / "clip.png", *words)
    assert isinstance(ran.exception, SpoterError), ran.exception
    assert said in f"{getattr(ran.exception, 'code', '')}: {ran.exception}"
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_an_error_is_one_line_for_the_user(tmp_path):
    file = put(tmp_path / "clip.json", b'{"layout":')
    command = [sys.executable, "-m", "spoter", "show", str(file)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: invalid_json: ") and ran.stderr.count("\n") == 1


def test_a_path_that_is_not_there_is_named(tmp_path):
    for file, out, said in (
        (tmp_path / "openpose-output", tmp_path / "clip.png", "openpose-output: No such file or directory"),
        (put(tmp_path / "clip.json", compact(POINTS)), tmp_path / "absent" / "clip.png", "absent/clip.png"),
    ):
        ran = run(file, "--out", out)
        assert isinstance(ran.exception, SpoterError | OSError) and said in str(ran.exception)


def test_endings_may_be_in_capitals(tmp_path):
    ran = run(put(tmp_path / "CLIP.JSON", compact(POINTS)), "--out", tmp_path / "CLIP.GIF", "--frames", 2)
    assert ran.exit_code == 0 and (tmp_path / "CLIP.GIF").read_bytes()[:3] == b"GIF"


# --- files, folders and models ---


@pytest.mark.parametrize("sample", ["deutschland.csv", "mainz-long.csv", "software.npy", "zeigen-compact.json"])
def test_every_kind_of_file_is_shown(tmp_path, sample):
    ran = run(ROOT / "samples" / sample, "--out", tmp_path / "clip.png")
    assert ran.exit_code == 0 and ran.output.startswith(f"{sample}: "), ran.output
    assert (tmp_path / "clip.png").stat().st_size < 120_000


def test_a_model_says_what_it_makes_of_the_clip(tmp_path):
    ran = run(ROOT / "samples" / "hallo.json", "--model", ROOT / "models" / "dgs11", "--out", tmp_path / "clip.png")
    assert "answer: HALLO, score 0.9" in ran.output and "one of its signs" in ran.output


def test_one_clip_of_several_is_chosen(tmp_path):
    file = ROOT / "samples" / "ich-welt.jsonl"
    second = json.loads(file.read_text().splitlines()[1])
    ran = run(file, "--clip", 1, "--out", tmp_path / "clip.png")
    assert f"clip 1 of 2, {len(second['points'])} frames" in ran.output
    lines = file.read_bytes().splitlines()
    broken = put(tmp_path / "two.jsonl", b"\n".join([lines[0], b'{"points": 5}']))
    assert run(broken, "--out", tmp_path / "clip.png").exit_code == 0
    assert isinstance(run(broken, "--clip", 1, "--out", tmp_path / "clip.png").exception, SpoterError)


def test_a_folder_of_frames_is_shown_with_its_gaps(tmp_path):
    for i, frame in enumerate(openpose(figure_clip("openpose", 12))["frames"]):
        if i != 5:
            put(tmp_path / "op" / f"v_{i:012d}_keypoints.json", dumps(frame))
    words = ("--width", 640, "--height", 480, "--out", tmp_path / "clip.png", "--model", ROOT / "models" / "dgs11")
    ran = run(tmp_path / "op", *words)
    assert ran.exit_code == 0, ran.output
    assert "note: 1 of 12 frames have no file" in ran.output
    assert "look: landmarks of openpose, but the model was trained on those of mediapipe" in ran.output


@pytest.mark.slow
def test_show_needs_nothing_of_training(tmp_path):
    """Drawing is Pillow's alone: `make serve` installs no matplotlib."""
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from spoter.cli.main import app\n"
        f"app(['show', {str(ROOT / 'samples' / 'hallo.json')!r}, '--out', 'clip.gif'], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "clip.gif").stat().st_size > 10_000
