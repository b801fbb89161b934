"""`spoter.video.reader.read` with the real MediaPipe: landmarks, the person that it follows, and its end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import numpy as np
import psutil
import pytest

from spoter.errors import InputError, SpoterError
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.landmarks.layouts import load_layout
from spoter.video import environment
from spoter.video.child import ReadingCancelled, run_job
from spoter.video.reader import VideoLimits, read
from tests import ROOT
from tests.conftest import SHARED
from tests.video import films
from tests.videos import children

pytestmark = pytest.mark.video

BODY = slice(0, 23)  # points of the pose that a camera sees of a signing person


def test_landmarks_of_a_drawn_figure_are_where_it_was_drawn(read_once):
    clip = read_once.clip
    assert (clip.names, clip.estimator, clip.fps) == (MEDIAPIPE.names, "mediapipe", films.FPS)
    assert (read_once.fps, read_once.width, read_once.height, read_once.notes) == (films.FPS, *films.SIZE, [])
    drawn = films.signed("HALLO")
    assert len(clip) == len(drawn)
    points = load_layout("54").select(clip)
    assert np.nanmean(np.abs(points - drawn)) < 0.02
    hands = ~np.isnan(clip.points[:, MEDIAPIPE.part("right_hand"), 0]).all(axis=1)
    assert 0.3 < hands.mean() < 1  # the hand rises and falls
    assert np.isnan(clip.points[:, MEDIAPIPE.part("left_hand")]).all()  # this hand stays below the picture
    assert not np.isnan(clip.points[:, MEDIAPIPE.part("face")]).any()


@pytest.mark.parametrize("name", ["lsp-casa", "msl-hoy"])
def test_real_videos_give_the_landmarks_of_their_requests(python, shared_data, name):
    from spoter.training.data.wire_files import read_clip

    if not (SHARED / "clips" / f"{name}.mp4").is_file():
        pytest.skip("../shared/clips is missing")
    clip = read(SHARED / "clips" / f"{name}.mp4").clip
    expected = read_clip(shared_data / "requests" / f"{name}.json")
    np.testing.assert_allclose(clip.points, expected.points, rtol=0, atol=1e-4)


@pytest.mark.parametrize("ending", [".webm", ".avi"])
def test_other_containers_give_similar_landmarks(python, tmp_path, read_once, ending):
    # Their frames are compressed differently, so that landmarks differ a little.
    landmarks = read(films.write(python, tmp_path / f"a{ending}", films.figure("HALLO")))
    assert (landmarks.fps, landmarks.notes) == (films.FPS, [])
    assert np.nanmean(np.abs(landmarks.clip.points[:, BODY] - read_once.clip.points[:, BODY])) < 0.01


def test_video_marked_as_rotated_is_read_upright(python, tmp_path, read_once):
    sideways = films.write(python, tmp_path / "sideways.mp4", np.rot90(films.figure("HALLO"), axes=(1, 2)))
    landmarks = read(films.rotated(tmp_path / "rotated.mp4", sideways))
    assert (landmarks.width, landmarks.height) == films.SIZE
    assert np.nanmean(np.abs(landmarks.clip.points[:, BODY] - read_once.clip.points[:, BODY])) < 0.01


def test_largest_of_two_persons_is_followed_although_mediapipe_chooses_the_other(python, tmp_path):
    large = films.enlarged(films.figure("ZEIGEN"))
    frames = films.side_by_side(large, films.figure("HALLO"), small_left=False)
    alone = read(films.write(python, tmp_path / "alone.mp4", large[: len(frames)])).clip.points
    both = films.write(python, tmp_path / "both.mp4", frames)
    landmarks = read(both)
    (note,) = landmarks.notes
    assert "2 persons" in note
    expected = alone * (0.5, 1)  # the left half of the picture
    assert np.nanmean(np.abs(landmarks.clip.points[:, BODY] - expected[:, BODY])) < 0.02
    # MediaPipe without help follows the small person; otherwise this test would prove nothing.
    script = """
import sys, cv2
from mediapipe.python.solutions.holistic import Holistic
frame = cv2.VideoCapture(sys.argv[1]).read()[1]
landmarks = Holistic(model_complexity=1).process(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)).pose_landmarks.landmark
print("nose", landmarks[0].x)
"""
    output = subprocess.run([python, "-c", script, both], capture_output=True, text=True).stdout
    assert float(output.split()[-1]) > 0.5


def test_video_without_a_person_is_an_error(python, tmp_path):
    wall = np.full((5, 120, 160, 3), 200, dtype=np.uint8)
    with pytest.raises(InputError, match="5 frames") as caught:
        read(films.write(python, tmp_path / "wall.mp4", wall))
    assert caught.value.code == "no_person"


def test_truncated_video_is_read_up_to_its_end_with_a_note(python, tmp_path):
    whole = films.write(python, tmp_path / "whole.avi", films.figure("HALLO"))
    (tmp_path / "cut.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    landmarks = read(tmp_path / "cut.avi")
    (note,) = landmarks.notes
    assert 5 < len(landmarks.clip) < 12 and f"{len(landmarks.clip)} of the 20 frames" in note, note


def test_timeout_ends_the_child(film):
    with pytest.raises(InputError, match=r"0\.3 seconds") as caught:
        read(film, VideoLimits(timeout_s=0.3))
    assert caught.value.code == "video_timeout"
    assert children() == []


def test_caller_can_cancel_the_reading(film):
    stop = threading.Event()
    with pytest.raises(ReadingCancelled):
        read(film, progress=lambda done, of: stop.set(), stop=stop)
    assert children() == []


def test_the_child_ends_when_its_parent_is_killed(film):
    imports = "import sys; from pathlib import Path; from spoter.video.reader import read"
    script = f"{imports}\nwhile True: read(Path(sys.argv[1]))"
    parent = subprocess.Popen([sys.executable, "-c", script, film], cwd=ROOT)
    try:
        end = time.monotonic() + 60
        descendants: list[psutil.Process] = []
        while not descendants and time.monotonic() < end:
            descendants = psutil.Process(parent.pid).children(recursive=True)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert descendants
    assert psutil.wait_procs(descendants, timeout=30)[1] == []


def test_child_ends_during_its_work_when_stdin_is_closed(python, film, tmp_path):
    child = subprocess.Popen(
        [python, "-I", ROOT / "spoter" / "video" / "worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    limits = asdict(VideoLimits())
    folder = tmp_path / "temporary"
    folder.mkdir()
    job = {
        "video": str(film),
        "kind": "MP4",
        "folder": str(folder),
        "result": str(folder / "a.npy"),
        "limits": limits,
        "overlay": None,
    }
    child.communicate(json.dumps(job).encode() + b"\n", timeout=60)  # closes stdin; stdout stays open
    assert child.returncode == 3 and not folder.exists()


def test_child_that_is_killed_is_an_error_of_its_video(film):
    def kill(done: int, of: int | None) -> None:
        for child in children():
            child.kill()

    with pytest.raises(InputError, match="signal 9") as caught:
        read(film, progress=kill)
    assert caught.value.code == "bad_video"


@pytest.mark.parametrize("size", [10, 2_000, 2_000_000], ids=["of-10-bytes", "of-2-kB", "of-2-MB"])
def test_child_that_dies_before_it_reads_its_job_leaves_no_process_and_no_file_open(tmp_path, size):
    python = tmp_path / "python"
    python.write_text("#!/bin/false\n")
    python.chmod(0o755)
    parent = psutil.Process()
    before, children_before = parent.num_fds(), set(parent.children())
    for _ in range(20):  # the child dies before the job is written, or afterwards
        with pytest.raises(InputError, match="exit status 1") as caught:
            run_job(python, {"video": "y" * size}, 60)
        assert caught.value.code == "bad_video"
    assert parent.num_fds() <= before and set(parent.children()) <= children_before  # nor a zombie


def test_progress_is_reported_and_nothing_is_printed(film, capfd):
    reports: list[tuple[int, int | None]] = []
    read(film, progress=lambda done, of: reports.append((done, of)))
    assert capfd.readouterr() == ("", "")
    assert reports[0] == (0, None) and 0 < reports[-1][0] <= 20 and reports[-1][1] == 20


def test_error_without_an_environment_names_the_command_that_creates_it(film, monkeypatch, tmp_path):
    monkeypatch.delenv(environment.PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SpoterError, match=r"spoter\.video\.install"):
        read(film)
