"""`spoter.video.reader.read` with the real MediaPipe: what it finds, whom it follows, and that it ends."""

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

BODY = slice(0, 23)  # of the pose: what a camera sees of a person who signs


def test_a_figure_is_found_where_it_was_drawn(read_once):
    clip = read_once.clip
    assert (clip.names, clip.estimator, clip.fps) == (MEDIAPIPE.names, "mediapipe", films.FPS)
    assert (read_once.fps, read_once.width, read_once.height, read_once.notes) == (films.FPS, *films.SIZE, [])
    drawn = films.signed("HALLO")
    assert len(clip) == len(drawn)
    found = load_layout("54").select(clip)
    assert np.nanmean(np.abs(found - drawn)) < 0.02
    hands = ~np.isnan(clip.points[:, MEDIAPIPE.part("right_hand"), 0]).all(axis=1)
    assert 0.3 < hands.mean() < 1  # it rises, and falls again
    assert np.isnan(clip.points[:, MEDIAPIPE.part("left_hand")]).all()  # it stays below
    assert not np.isnan(clip.points[:, MEDIAPIPE.part("face")]).any()


@pytest.mark.parametrize("name", ["lsp-casa", "msl-hoy"])
def test_real_clips_have_the_landmarks_that_their_requests_have(python, shared_data, name):
    from spoter.training.data.wire_files import read_clip

    if not (SHARED / "clips" / f"{name}.mp4").is_file():
        pytest.skip("../shared/clips is not here")
    found = read(SHARED / "clips" / f"{name}.mp4").clip
    asked = read_clip(shared_data / "requests" / f"{name}.json")
    np.testing.assert_allclose(found.points, asked.points, rtol=0, atol=1e-4)


@pytest.mark.parametrize("ending", [".webm", ".avi"])
def test_other_containers_are_read_alike(python, tmp_path, read_once, ending):
    # Their pictures are pressed in another way, so that landmarks differ a little.
    found = read(films.write(python, tmp_path / f"a{ending}", films.figure("HALLO")))
    assert (found.fps, found.notes) == (films.FPS, [])
    assert np.nanmean(np.abs(found.clip.points[:, BODY] - read_once.clip.points[:, BODY])) < 0.01


def test_a_film_that_says_it_lies_on_its_side_is_set_upright(python, tmp_path, read_once):
    lying = films.write(python, tmp_path / "lying.mp4", np.rot90(films.figure("HALLO"), axes=(1, 2)))
    found = read(films.turned(tmp_path / "turned.mp4", lying))
    assert (found.width, found.height) == films.SIZE
    assert np.nanmean(np.abs(found.clip.points[:, BODY] - read_once.clip.points[:, BODY])) < 0.01


def test_of_two_persons_the_largest_is_followed_though_mediapipe_takes_the_other(python, tmp_path):
    large = films.nearer(films.figure("ZEIGEN"))
    frames = films.beside(large, films.figure("HALLO"), small_left=False)
    alone = read(films.write(python, tmp_path / "alone.mp4", large[: len(frames)])).clip.points
    both = films.write(python, tmp_path / "both.mp4", frames)
    found = read(both)
    assert found.notes == ["found 2 persons in the picture: the largest is followed"]
    expected = alone * (0.5, 1)  # the left half of the picture
    assert np.nanmean(np.abs(found.clip.points[:, BODY] - expected[:, BODY])) < 0.02
    # Left to itself MediaPipe follows the small one: else this test would not tell anything.
    plain = """
import sys, cv2
from mediapipe.python.solutions.holistic import Holistic
frame = cv2.VideoCapture(sys.argv[1]).read()[1]
landmarks = Holistic(model_complexity=1).process(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)).pose_landmarks.landmark
print("nose", landmarks[0].x)
"""
    said = subprocess.run([python, "-c", plain, both], capture_output=True, text=True).stdout
    assert float(said.split()[-1]) > 0.5


def test_nobody_in_the_picture_is_said(python, tmp_path):
    wall = np.full((5, 120, 160, 3), 200, dtype=np.uint8)
    with pytest.raises(InputError, match="found nobody in any of 5 frames") as caught:
        read(films.write(python, tmp_path / "wall.mp4", wall))
    assert caught.value.code == "no_person"


def test_of_a_film_that_was_cut_short_what_is_there_is_read_and_the_rest_is_missed(python, tmp_path):
    whole = films.write(python, tmp_path / "whole.avi", films.figure("HALLO"))
    (tmp_path / "cut.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    found = read(tmp_path / "cut.avi")
    (note,) = found.notes
    assert 5 < len(found.clip) < 12 and note.startswith(f"found {len(found.clip)} of the 20 frames"), note


def test_time_ends_the_child(film):
    with pytest.raises(InputError, match=r"found no end of it in 0.3 seconds") as caught:
        read(film, VideoLimits(timeout_s=0.3))
    assert caught.value.code == "video_timeout"
    assert children() == []


def test_whoever_asked_can_stop_it(film):
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
        found: list[psutil.Process] = []
        while not found and time.monotonic() < end:
            found = psutil.Process(parent.pid).children(recursive=True)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert found
    assert psutil.wait_procs(found, timeout=30)[1] == []


def test_the_child_ends_with_its_stdin_whatever_it_is_doing(python, film, tmp_path):
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
    child.communicate(json.dumps(job).encode() + b"\n", timeout=60)  # and closes it; stdout stays open
    assert child.returncode == 3 and not folder.exists()


def test_a_child_that_dies_is_the_videos_fault_and_nothing_else_stops(film):
    def kill(done: int, of: int | None) -> None:
        for child in children():
            child.kill()

    with pytest.raises(InputError, match="ended by signal 9") as caught:
        read(film, progress=kill)
    assert caught.value.code == "bad_video"


@pytest.mark.parametrize("size", [10, 2_000, 2_000_000], ids=["of-10-bytes", "of-2-kB", "of-2-MB"])
def test_a_child_that_dies_before_it_reads_its_job_leaves_nothing_behind(tmp_path, size):
    python = tmp_path / "python"
    python.write_text("#!/bin/false\n")
    python.chmod(0o755)
    here = psutil.Process()
    before, children_before = here.num_fds(), set(here.children())
    for _ in range(20):  # it dies before the job is written, or after that
        with pytest.raises(InputError, match="ended with status 1") as caught:
            run_job(python, {"video": "y" * size}, 60)
        assert caught.value.code == "bad_video"
    assert here.num_fds() <= before and set(here.children()) <= children_before  # no zombie either


def test_nothing_is_printed_and_progress_is_told(film, capfd):
    told: list[tuple[int, int | None]] = []
    read(film, progress=lambda done, of: told.append((done, of)))
    assert capfd.readouterr() == ("", "")
    assert told[0] == (0, None) and 0 < told[-1][0] <= 20 and told[-1][1] == 20


def test_without_an_environment_one_line_says_how_it_is_made(film, monkeypatch, tmp_path):
    monkeypatch.delenv(environment.PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SpoterError, match="there is no environment for videos yet: `spoter extract` makes it"):
        read(film)
