"""`spoter extract`: formats, reuse of outputs, and interrupted runs; and other commands that read videos."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from spoter.cli.main import app
from spoter.errors import SpoterError
from spoter.landmarks.estimators import MEDIAPIPE, NECK
from spoter.training.data import read_dataset
from spoter.training.data.pose_files import read_clip as read_pose
from spoter.training.data.wire_files import read_clip as read_wire
from spoter.video.writers import WRITERS
from tests import ROOT
from tests.video import films
from tests.video.running import run

pytestmark = pytest.mark.video

COMMAND = [sys.executable, "-m", "spoter", "extract"]


def test_each_format_holds_the_landmarks(film, read_once, tmp_path):
    for ending, content in WRITERS.items():
        (tmp_path / f"a{ending}").write_bytes(content(read_once))
    run(film, "--out", tmp_path / "a.hdf5")
    points = read_once.clip.points
    body = json.loads((tmp_path / "a.json").read_bytes())
    assert (body["video"]["width"], body["video"]["height"]) == films.SIZE
    clip = read_wire(tmp_path / "a.json")
    assert (clip.names, clip.fps) == (MEDIAPIPE.names, films.FPS)
    np.testing.assert_allclose(clip.points, points, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), points)
    pose = read_pose(tmp_path / "a.pose")
    assert (pose.names, pose.fps) == (MEDIAPIPE.names, films.FPS)
    np.testing.assert_allclose(pose.points, points, rtol=0, atol=1e-5)
    (labelled,) = read_dataset(tmp_path / "a.hdf5").clips
    assert (labelled.name, labelled.gloss) == (f"{film.parent.name}/hallo", film.parent.name)
    assert labelled.clip.names == (*MEDIAPIPE.names, NECK)
    np.testing.assert_array_equal(labelled.clip.points[:, :543], points)
    np.testing.assert_allclose(labelled.clip.points[:, 543], points[:, 11:13].mean(axis=1), atol=1e-6)


def test_folder_becomes_a_data_set_with_its_first_level_folders_as_groups(signs, tmp_path):
    out = tmp_path / "signs.hdf5"
    output = run(signs, "--out", out)
    assert output.count("6 frames, 12.5 ") == 3
    data = read_dataset(out)
    assert data.grouped and data.glosses == ("ADIOS", "HOLA")
    assert [(clip.name, clip.gloss, clip.group) for clip in data.clips] == [
        ("ana/ADIOS/1", "ADIOS", "ana"), ("ana/HOLA/1", "HOLA", "ana"), ("ben/HOLA/1", "HOLA", "ben"),
    ]  # fmt: skip
    summary = CliRunner().invoke(app, ["data", "summary", str(out)])
    assert "3 clips of 2 glosses, 2 groups, landmarks of mediapipe" in summary.output

    before = out.read_bytes()
    assert run(signs, "--out", out).count("made before") == 3
    assert out.read_bytes() == before and not list(tmp_path.glob(".signs*"))
    shutil.rmtree(signs / "ben")
    with pytest.raises(SpoterError, match="ben/HOLA/1"):
        run(signs, "--out", out)
    (signs / "ana" / "HOLA" / "2.mp4").write_text("this is no film")
    shutil.copytree(signs / "ana" / "HOLA", signs / "ben" / "HOLA")
    output = run(signs, "--out", out, code=2)  # existing clips are kept
    assert output.count("made before") == 2 and output.count("6 frames") == 1 and output.count("error: ") == 2
    assert len(read_dataset(out).clips) == 3


def test_two_jobs_write_the_same_files_as_one(signs, tmp_path):
    shutil.rmtree(signs / "ben")
    run(signs, "--out", tmp_path / "one")
    run(signs, "--out", tmp_path / "two", "--jobs", 2)
    names = ["ana/ADIOS/1.json", "ana/HOLA/1.json"]
    assert sorted(str(path.relative_to(tmp_path / "two")) for path in (tmp_path / "two").rglob("*.json")) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_intact_output_of_the_same_video_is_reused(short, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for film, name in zip(short, "abc", strict=False):
        shutil.copy(film, videos / f"{name}.mp4")
    out = tmp_path / "out"
    run(videos, "--out", out, "--format", "npy")
    before = {path.name: path.read_bytes() for path in out.glob("*.npy")}
    (out / "a.npy").write_bytes(before["a.npy"][:-10])
    shutil.copy(short[3], videos / "b.mp4")
    output = run(videos, "--out", out, "--format", "npy")
    assert [line.split(": ")[1].split(",")[0] for line in output.splitlines() if "made before" in line] == ["c"]
    assert (out / "a.npy").read_bytes() == before["a.npy"]
    assert (out / "b.npy").read_bytes() != before["b.npy"]
    # A manifest with invalid lines, and with a last line that a crash truncated.
    manifest = out / ".spoter-extract.jsonl"
    manifest.write_bytes(b'\xff\xfe["output"]\n7\n' + manifest.read_bytes()[:-20])
    assert run(videos, "--out", out, "--format", "npy").count("made before") == 2
    assert run(videos, "--out", out, "--format", "npy").count("made before") == 3


def start(signs: Path, out: Path) -> subprocess.Popen:
    """Start `spoter extract` and return when the first video is done and the next one has a child process."""
    process = subprocess.Popen(
        [*COMMAND, signs, "--out", out], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert "6 frames" in process.stdout.readline()
    end = time.monotonic() + 60
    while not psutil.Process(process.pid).children() and time.monotonic() < end:
        pass
    return process


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_or_interrupted_run_is_resumed(signs, tmp_path, number):
    out = tmp_path / "out"
    process = start(signs, out)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert any(f"{done} of 3 videos" in errors.splitlines()[-1] for done in (1, 2))
    assert psutil.wait_procs(children, timeout=30)[1] == []
    files = {path.name for path in out.rglob("*") if path.is_file()}
    # On a busy machine the signal may arrive after the next output was written, listed in the manifest or not.
    assert files - {"2.json"} == {".spoter-extract.jsonl", "1.json"}
    listed = (out / ".spoter-extract.jsonl").read_bytes().count(b"\n")
    assert listed in (1, 2)
    output = run(signs, "--out", out)
    assert (output.count("made before"), output.count("6 frames")) == (listed, 3 - listed)


def test_bad_video_is_reported_and_the_others_are_read(short, tmp_path):
    shutil.copy(short[0], tmp_path / "good.mp4")
    (tmp_path / "text.mp4").write_text("this is no film")
    output = run(tmp_path, "--out", tmp_path / "out", "--jobs", 2, code=2)
    assert "out/good.json: good, 6 frames" in output
    assert f"error: {tmp_path / 'text.mp4'}: bad_video: " in output
    assert "1 of 2 videos" in output


COUNT_COLOURS = """
import json, sys, cv2, numpy as np
from PIL import Image, ImageSequence
path, colours = sys.argv[1], json.loads(sys.argv[2])
if path.endswith(".gif"):
    frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(Image.open(path))]
else:
    capture = cv2.VideoCapture(path)
    frames = []
    while (frame := capture.read()[1]) is not None:
        frames.append(frame[..., ::-1])
near = lambda frame, colour: int((np.abs(frame.astype(int) - colour).max(axis=2) < 40).sum())
print(json.dumps([list(frames[0].shape), [[near(frame, colour) for colour in colours] for frame in frames]]))
"""


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_overlay_shows_hands_in_their_colors_and_rings_for_missing_hands(python, film, read_once, tmp_path, kind):
    from spoter.landmarks.skeleton import COLOURS

    arguments = [film, "--out", tmp_path / "out", "--format", "pose", "--overlay", kind]
    run(*arguments)
    colours = [[int(COLOURS[part][i : i + 2], 16) for i in (1, 3, 5)] for part in ("left hand", "right hand")]
    drawn = tmp_path / "out" / f"hallo.overlay.{kind}"
    done = subprocess.run([python, "-c", COUNT_COLOURS, drawn, json.dumps(colours)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shape, counts = json.loads(done.stdout)
    assert shape == [360, 480, 3]
    has_hand = ~np.isnan(read_once.clip.points[:, MEDIAPIPE.part("right_hand"), 0]).all(axis=1)
    present, missing = np.flatnonzero(has_hand)[0], np.flatnonzero(~has_hand)[0]
    assert counts[present][1] > 150  # fingers
    assert 10 < counts[missing][1] < counts[present][1]  # a ring
    if kind == "mp4":
        assert len(counts) == len(read_once.clip)
        drawn.unlink()
        assert "20 frames" in run(*arguments)
    assert "made before" in run(*arguments)


def test_predict_features_and_enroll_read_videos(film, read_once, dgs11, tmp_path):
    done = CliRunner().invoke(app, ["predict", str(dgs11), str(film)])
    answer = json.loads(done.stdout)
    assert done.exit_code == 0 and answer["frames"] == 20
    assert answer["instances"][0]["gloss"] == "HALLO" and answer["known"] is True
    out = tmp_path / "features.npy"
    assert CliRunner().invoke(app, ["features", str(film), "--out", str(out)]).exit_code == 0
    assert np.load(out).shape == (20, 108)
    shutil.copytree(dgs11, tmp_path / "model")
    done = CliRunner().invoke(app, ["enroll", str(tmp_path / "model"), "GREETING", str(film)])
    assert done.exit_code == 0 and "GREETING from 1 clip" in done.output
