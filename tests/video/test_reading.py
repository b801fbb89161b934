"""`spoter.video.read` with the real MediaPipe: what it finds, whom it follows, and that it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import ROOT, SHARED
from video import films

from spoter.errors import InputError, SpoterError
from spoter.estimators import MEDIAPIPE
from spoter.layouts import load_layout
from spoter.video import environment, read
from spoter.video.reading import Stopped, VideoLimits

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
    from spoter.training.datasets.wire_files import read_clip

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


def bad_files(folder: Path, film: Path) -> dict[str, tuple[Path, str]]:
    """Return files that are no videos, and what is said of each."""
    content = film.read_bytes()
    index, pictures = content.index(b"moov"), content.index(b"mdat") + 4
    made = {
        "empty.mp4": (b"", "found an empty file"),
        "text.mp4": (b"this is no film", "found no video"),
        # A playlist, which FFmpeg would follow to other files and hosts.
        "list.mp4": (f"#EXTM3U\n#EXTINF:2,\n{film}\n#EXT-X-ENDLIST\n".encode(), "found no video"),
        "index.mp4": (content[: index - 4], r"without its index \(moov\)"),
        "sound.mp4": (content.replace(b"vide", b"soun"), "found only sound"),
        "frames.mp4": (
            content[:pictures] + bytes(index - 4 - pictures) + content[index - 4 :],
            "found no frame in this MP4 file",
        ),
        "short.webm": (b"\x1aE\xdf\xa3" + bytes(100), "found no track of pictures in this Matroska file"),
        "short.avi": (b"RIFF\xff\xff\xff\x7fAVI vids", "found no frame in this AVI file"),
    }
    files = {}
    for name, (bytes_, said) in made.items():
        (folder / name).write_bytes(bytes_)
        files[name] = (folder / name, said)
    os.mkfifo(folder / "endless.mp4")
    files["endless.mp4"] = (folder / "endless.mp4", "found what is no regular file")
    files["absent.mp4"] = (folder / "absent.mp4", "cannot be read")
    return files


def test_what_is_no_video_is_named(film, tmp_path):
    for path, said in bad_files(tmp_path, film).values():
        with pytest.raises(InputError, match=said) as caught:
            read(path)
        assert (caught.value.code, caught.value.status) == ("bad_video", 400), path


@pytest.mark.parametrize(
    ("limits", "code", "said"),
    [
        ({"max_bytes": 1000}, "video_too_large", "bytes, expected at most 1000"),
        ({"max_pixels": 480 * 359}, "video_too_large", "found 480 x 360 pixels"),
        ({"max_frames": 19}, "video_too_long", "found more than 19 frames"),
        ({"max_seconds": 1.5}, "video_too_long", "found more than 1.5 seconds"),
    ],
)
def test_limits_hold(film, limits, code, said):
    with pytest.raises(InputError, match=said) as caught:
        read(film, VideoLimits(**limits))
    assert (caught.value.code, caught.value.status) == (code, 413)


def test_a_picture_that_lies_about_its_size_exhausts_nothing(film, tmp_path):
    content = bytearray(film.read_bytes())
    entry = content.index(b"mp4v") + 4 + 24  # width and height of the sample entry: ISO/IEC 14496-12, 12.1.3
    assert content[entry : entry + 4] == bytes([480 >> 8, 480 & 255, 360 >> 8, 360 & 255])
    content[entry : entry + 4] = (30_000).to_bytes(2, "big") * 2
    # The decoder's own header, of 13 bits each, says it again: there it is 8191 x 8191.
    (tmp_path / "huge.mp4").write_bytes(content)
    before = psutil.virtual_memory().available
    try:
        assert len(read(tmp_path / "huge.mp4").clip) == 20  # the pictures themselves are what they were
    except InputError as error:
        assert error.code in ("video_too_large", "bad_video")
    assert before - psutil.virtual_memory().available < 4 << 30


def children() -> list[psutil.Process]:
    """Return the processes below this one that read a video."""
    return [child for child in psutil.Process().children(recursive=True) if "child" in " ".join(child.cmdline())]


def test_time_ends_the_child(film):
    with pytest.raises(InputError, match="found no end of it in 0.3 seconds") as caught:
        read(film, VideoLimits(timeout_s=0.3))
    assert caught.value.code == "video_timeout"
    assert children() == []


def test_whoever_asked_can_stop_it(film):
    stop = threading.Event()
    with pytest.raises(Stopped):
        read(film, progress=lambda done, of: stop.set(), stop=stop)
    assert children() == []


def test_the_child_ends_when_its_parent_is_killed(film):
    script = "import sys; from pathlib import Path; from spoter.video import read\nwhile True: read(Path(sys.argv[1]))"
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
        [python, "-I", ROOT / "spoter" / "video" / "child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    limits = asdict(VideoLimits())
    job = {"video": str(film), "result": str(tmp_path / "result.npy"), "limits": limits, "overlay": None}
    child.communicate(json.dumps(job).encode() + b"\n", timeout=60)  # and closes it; stdout stays open
    assert child.returncode == 3 and not (tmp_path / "result.npy").exists()


def test_a_child_that_dies_is_the_videos_fault_and_nothing_else_stops(film):
    def kill(done: int, of: int | None) -> None:
        for child in children():
            child.kill()

    with pytest.raises(InputError, match="the process that decodes it was ended by signal 9") as caught:
        read(film, progress=kill)
    assert caught.value.code == "bad_video"


def test_nothing_is_printed_and_progress_is_told(film, capfd):
    told: list[tuple[int, int | None]] = []
    read(film, progress=lambda done, of: told.append((done, of)))
    assert capfd.readouterr() == ("", "")
    assert told[0] == (0, None) and 0 < told[-1][0] <= 20 and told[-1][1] == 20


def test_without_an_environment_one_line_says_how_it_is_made(film, monkeypatch, tmp_path):
    monkeypatch.delenv(environment.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SpoterError, match="there is no environment for videos yet: `spoter extract` makes it"):
        read(film)


CLOCK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import cv2
from frames import Clock

class Capture:
    # In OpenCV's place, which writes no such files: it tells a header's rate and the time of the frame it is at.
    def __init__(self, fps, count): self.fps, self.count, self.now = fps, count, 0
    def get(self, what):
        return {cv2.CAP_PROP_FPS: self.fps, cv2.CAP_PROP_FRAME_COUNT: self.count, cv2.CAP_PROP_POS_MSEC: self.now}[what]

for fps, count, times in json.load(sys.stdin):
    clock, capture = Clock(), Capture(fps, count)
    for capture.now in times:
        clock.tick(capture)
    print(json.dumps([*clock.fps(), clock.cut()]))
"""


def test_frame_rates_that_change_are_absent_or_absurd(python):
    even = [40 * number for number in range(10)]
    cases = {
        "as it says": (25.0, 10, even, 25, 0, 0),
        "a browser's recording": (1000.0, -1e15, even, 25, 1, 0),
        "none": (0.0, 0, even, 25, 1, 0),
        "changing": (25.0, 10, [0, 40, 80, 200, 360], 1000 * 4 / 360, 1, 1),
        "times lost": (25.0, 10, [0] * 10, 25, 0, 0),
        "nothing known": (0.0, 0, [0] * 10, None, 1, 0),
        "one frame": (30.0, 1, [0], 30, 0, 0),
        "promised more": (25.0, 64, even, 25, 0, 1),
    }
    done = subprocess.run(
        [python, "-c", CLOCK, ROOT / "spoter" / "video" / "child"],
        input=json.dumps([case[:3] for case in cases.values()]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for (name, (*_, expected, notes, cut)), line in zip(cases.items(), done.stdout.splitlines(), strict=True):
        fps, said, missed = json.loads(line)
        assert fps == pytest.approx(expected), name
        assert (len(said), len(missed)) == (notes, cut), (name, said, missed)
