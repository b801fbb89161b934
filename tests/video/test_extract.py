"""`spoter extract`: forms, what is kept, and runs that are stopped; and videos given to the other commands."""

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


def test_each_form_holds_what_was_found(film, read_once, tmp_path):
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


def test_a_folder_becomes_a_data_set_whose_groups_are_its_first_folders(signs, tmp_path):
    out = tmp_path / "signs.hdf5"
    said = run(signs, "--out", out)
    assert said.count("6 frames, 12.5 frames a second") == 3
    found = read_dataset(out)
    assert found.grouped and found.glosses == ("ADIOS", "HOLA")
    assert [(clip.name, clip.gloss, clip.group) for clip in found.clips] == [
        ("ana/ADIOS/1", "ADIOS", "ana"), ("ana/HOLA/1", "HOLA", "ana"), ("ben/HOLA/1", "HOLA", "ben"),
    ]  # fmt: skip
    summary = CliRunner().invoke(app, ["data", "summary", str(out)])
    assert "3 clips of 2 glosses, 2 groups, landmarks of mediapipe" in summary.output

    before = out.read_bytes()
    assert run(signs, "--out", out).count("made before") == 3
    assert out.read_bytes() == before and not list(tmp_path.glob(".signs*"))
    shutil.rmtree(signs / "ben")
    with pytest.raises(SpoterError, match=r"holds clips that are not among these videos \(ben/HOLA/1\)"):
        run(signs, "--out", out)
    (signs / "ana" / "HOLA" / "2.mp4").write_text("this is no film")
    shutil.copytree(signs / "ana" / "HOLA", signs / "ben" / "HOLA")
    said = run(signs, "--out", out, code=2)  # what is there is taken over
    assert said.count("made before") == 2 and said.count("6 frames") == 1 and said.count("error: ") == 2
    assert len(read_dataset(out).clips) == 3


def test_two_jobs_find_what_one_finds(signs, tmp_path):
    shutil.rmtree(signs / "ben")
    run(signs, "--out", tmp_path / "one")
    run(signs, "--out", tmp_path / "two", "--jobs", 2)
    names = ["ana/ADIOS/1.json", "ana/HOLA/1.json"]
    assert sorted(str(path.relative_to(tmp_path / "two")) for path in (tmp_path / "two").rglob("*.json")) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_what_is_whole_and_of_the_same_video_is_not_made_again(short, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for film, name in zip(short, "abc", strict=False):
        shutil.copy(film, videos / f"{name}.mp4")
    out = tmp_path / "out"
    run(videos, "--out", out, "--format", "npy")
    whole = {path.name: path.read_bytes() for path in out.glob("*.npy")}
    (out / "a.npy").write_bytes(whole["a.npy"][:-10])
    shutil.copy(short[3], videos / "b.mp4")
    said = run(videos, "--out", out, "--format", "npy")
    assert [line.split(": ")[1].split(",")[0] for line in said.splitlines() if "made before" in line] == ["c"]
    assert (out / "a.npy").read_bytes() == whole["a.npy"]
    assert (out / "b.npy").read_bytes() != whole["b.npy"]
    # A list that a crash cut off in its last line, and in which there is something that is none.
    listed = out / ".spoter-extract.jsonl"
    listed.write_bytes(b'\xff\xfe["output"]\n7\n' + listed.read_bytes()[:-20])
    assert run(videos, "--out", out, "--format", "npy").count("made before") == 2
    assert run(videos, "--out", out, "--format", "npy").count("made before") == 3


def start(signs: Path, out: Path) -> subprocess.Popen:
    """Start extracting, and return when the first video is done."""
    process = subprocess.Popen(
        [*COMMAND, signs, "--out", out], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert "6 frames" in process.stdout.readline()
    end = time.monotonic() + 60
    while not psutil.Process(process.pid).children() and time.monotonic() < end:
        pass  # the next one's child
    return process


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_killed_or_stopped_goes_on_where_it_was(signs, tmp_path, how):
    out = tmp_path / "out"
    process = start(signs, out)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert said.splitlines()[-1].startswith(("stopped: 1 of 3 videos", "stopped: 2 of 3 videos"))
    assert psutil.wait_procs(children, timeout=30)[1] == []
    left = {path.name for path in out.rglob("*") if path.is_file()}
    # On a busy machine the signal may come when the next is written, noted or not.
    assert left - {"2.json"} == {".spoter-extract.jsonl", "1.json"}
    noted = (out / ".spoter-extract.jsonl").read_bytes().count(b"\n")
    assert noted in (1, 2)
    said = run(signs, "--out", out)
    assert (said.count("made before"), said.count("6 frames")) == (noted, 3 - noted)


def test_bad_videos_are_named_and_keep_no_other_from_being_read(short, tmp_path):
    shutil.copy(short[0], tmp_path / "good.mp4")
    (tmp_path / "text.mp4").write_text("this is no film")
    said = run(tmp_path, "--out", tmp_path / "out", "--jobs", 2, code=2)
    assert "out/good.json: good, 6 frames" in said
    assert f"error: {tmp_path / 'text.mp4'}: bad_video: found no video, expected an MP4" in said
    assert "1 of 2 videos could not be read" in said


LOOK = """
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
def test_an_overlay_shows_hands_in_their_colours_and_rings_in_place_of_missing_ones(
    python, film, read_once, tmp_path, kind
):
    from spoter.landmarks.skeleton import COLOURS

    words = [film, "--out", tmp_path / "out", "--format", "pose", "--overlay", kind]
    run(*words)
    colours = [[int(COLOURS[part][i : i + 2], 16) for i in (1, 3, 5)] for part in ("left hand", "right hand")]
    drawn = tmp_path / "out" / f"hallo.overlay.{kind}"
    looked = subprocess.run([python, "-c", LOOK, drawn, json.dumps(colours)], capture_output=True, text=True)
    assert looked.returncode == 0, looked.stderr
    shape, counts = json.loads(looked.stdout)
    assert shape == [360, 480, 3]
    right = ~np.isnan(read_once.clip.points[:, MEDIAPIPE.part("right_hand"), 0]).all(axis=1)
    there, missing = np.flatnonzero(right)[0], np.flatnonzero(~right)[0]
    assert counts[there][1] > 150  # fingers
    assert 10 < counts[missing][1] < counts[there][1]  # a ring
    if kind == "mp4":
        assert len(counts) == len(read_once.clip)
        drawn.unlink()
        assert "20 frames" in run(*words)
    assert "made before" in run(*words)


def test_predict_features_and_enroll_take_videos(film, read_once, dgs11, tmp_path):
    said = CliRunner().invoke(app, ["predict", str(dgs11), str(film)])
    answer = json.loads(said.stdout)
    assert said.exit_code == 0 and answer["frames"] == 20
    assert answer["instances"][0]["gloss"] == "HALLO" and answer["known"] is True
    out = tmp_path / "features.npy"
    assert CliRunner().invoke(app, ["features", str(film), "--out", str(out)]).exit_code == 0
    assert np.load(out).shape == (20, 108)
    shutil.copytree(dgs11, tmp_path / "model")
    said = CliRunner().invoke(app, ["enroll", str(tmp_path / "model"), "GREETING", str(film)])
    assert said.exit_code == 0 and "enrolled GREETING from 1 clip" in said.output
