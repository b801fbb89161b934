"""Paths of `spoter extract`: which videos it finds, their names, and outputs that it refuses."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spoter.errors import SpoterError
from spoter.landmarks.clip import make_clip
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.video import extract
from spoter.video.extract import ExtractionResult, ExtractionSettings, find_videos
from spoter.video.hdf5_files import read_fingerprints
from spoter.video.reader import VideoLandmarks
from spoter.video.writers import WRITERS
from tests import ROOT
from tests.video.running import run

pytestmark = pytest.mark.video


def test_name_with_control_characters_is_escaped_in_the_output(short, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in (b"-\xff.mp4", "é[1]\x1b[1m\n.mp4".encode()):
        shutil.copy(short[0], os.fsencode(videos) + b"/" + name)
    output = run(videos, "--out", tmp_path / "out")
    assert output.count("6 frames") == output.count("\n") == 2
    assert "\\udcff" in output and "[1]\\x1b[1m\\n" in output
    assert len(list((tmp_path / "out").glob("*.json"))) == 2
    with pytest.raises(SpoterError, match=r"\.mp4: .*UTF-8"):
        run(videos, "--out", tmp_path / "out.hdf5")


def test_hdf5_file_in_use_is_not_changed(short, tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.hdf5", "w"):
        script = "import sys; from spoter.cli.main import main; main()"
        arguments = ["extract", short[0], "--out", tmp_path / "a.hdf5"]
        done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "a.hdf5: another program" in done.stderr


@pytest.mark.parametrize("clips", [1, 60])
def test_full_disk_is_an_error_and_not_a_crash(read_once, tmp_path, clips):
    """A limit on the file's size simulates a full disk: it fails a write in the same way and needs no privileges."""
    (tmp_path / "points.npy").write_bytes(WRITERS[".npy"](read_once))
    done = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path / "a.hdf5", tmp_path / "points.npy", str(clips)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "File too large\n", "")


FULL = """
import resource, signal, sys
from pathlib import Path
import h5py, numpy as np
from spoter.landmarks.clip import make_clip
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.video.hdf5_files import Member, write_hdf5
clip = make_clip(np.load(sys.argv[2]), MEDIAPIPE.names, MEDIAPIPE.name, 25.0)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_hdf5(Path(sys.argv[1]), [Member(f"a/{n}", "A", clip, "") for n in range(int(sys.argv[3]))])
except OSError as error:
    print(error.strerror)
"""


def test_names_are_relative_to_the_deepest_common_folder(tmp_path):
    for name in ("a/x/1.mp4", "a/y/1.webm", "a/y/2.txt", "a/.hidden/3.mp4", "b/1.MOV"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def names(*places: str) -> list[str]:
        return [video.name for video in find_videos([str(tmp_path / place) for place in places])]

    assert names("a") == ["x/1", "y/1"]
    assert names("a/x/1.mp4", "a/y/1.webm") == ["x/1", "y/1"]
    assert names("a/*/1.*", "b") == ["1", "x/1", "y/1"]
    assert names("a/x/1.mp4", "a/x/1.mp4") == ["1"]
    with pytest.raises(SpoterError, match=r"1\.mp4 and .*1\.MOV "):
        names("a/x", "b")
    for place in ("c", "c/*.mp4", "a/y/2.*"):
        with pytest.raises(SpoterError, match=r"found no video, .*\.mp4, \.webm"):
            names(place)


def test_overlays_of_an_earlier_run_are_skipped(tmp_path):
    for name in ("a.mp4", "a.overlay.mp4", "a.overlay.gif", "b/c.overlay.webm", "b/c.overlay.MP4", "b/overlay.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def names(*places: str) -> list[str]:
        return [video.name for video in find_videos([str(tmp_path / place) for place in places])]

    assert names("") == ["a", "b/c.overlay", "b/overlay"]
    assert names("*.mp4") == names("a.mp4", "a.overlay.mp4") == ["a"]  # as a shell expands it
    for places in (["a.overlay.mp4"], ["*.overlay.mp4"]):
        with pytest.raises(SpoterError, match="only overlays"):
            names(*places)


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Replace MediaPipe with a fixed clip; return the names of the videos that are read."""
    clip, names = make_clip(np.full((2, 543, 2), 0.5), MEDIAPIPE.names, MEDIAPIPE.name), []

    def read_fixed(path: Path, *_, overlay: Path | None = None, **__) -> VideoLandmarks:
        names.append(path.name)
        if path.name.startswith("raise-"):
            raise OSError(getattr(errno, path.stem.removeprefix("raise-")), "raised by the test")
        if overlay is not None:
            overlay.write_bytes(b"drawn")
        return VideoLandmarks(clip, 25.0, 640, 480)

    monkeypatch.setattr(extract, "read", read_fixed)
    return names


def make_videos(folder: Path, *names: str) -> list[extract.VideoFile]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return find_videos([str(folder)])


def extract_all(videos: list[extract.VideoFile], out: Path, **settings) -> dict[str, ExtractionResult]:
    results = extract.extract_videos(videos, out, None, ExtractionSettings(**settings))
    return {result.video.name: result for result in results}


LONG, TOO_LONG = "手" * 81, "x" * 251  # with .mp4 both names are valid; with .json TOO_LONG exceeds 255 bytes


def test_too_long_name_is_an_error_of_its_video_before_the_work(tmp_path, read):
    videos = make_videos(tmp_path / "v", f"{LONG}.mp4", f"{TOO_LONG}.mp4", "zz.mp4")
    done = extract_all(videos, tmp_path / "out")
    assert {name for name, result in done.items() if result.error is not None} == {TOO_LONG}
    assert str(done[TOO_LONG].error).startswith(f"{tmp_path}/out/{TOO_LONG}.json: ")
    assert sorted(read) == ["zz.mp4", f"{LONG}.mp4"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".spoter-extract.jsonl", f"{LONG}.json", "zz.json"}
    assert [result.reused for result in extract_all(videos, tmp_path / "out").values()].count(True) == 2


def test_in_an_hdf5_file_only_overlays_limit_the_length_of_names(tmp_path, read):
    videos = make_videos(tmp_path / "v", f"{TOO_LONG}.mp4", "a.mp4", "a.hdf5/b.mp4")
    done = extract_all(videos, tmp_path / "out.hdf5")
    assert [result.error for result in done.values()] == [None] * 3
    assert set(read_fingerprints(tmp_path / "out.hdf5")) == {f"v/{TOO_LONG}", "v/a", "a.hdf5/b"}
    done = extract_all(videos, tmp_path / "drawn.hdf5", overlay="mp4")
    assert {name for name, result in done.items() if result.error is not None} == {TOO_LONG}
    drawn = [path.relative_to(tmp_path / "drawn").as_posix() for path in (tmp_path / "drawn").rglob("*.mp4")]
    assert sorted(drawn) == ["a.hdf5/b.overlay.mp4", "a.overlay.mp4"]
    again = extract_all(videos, tmp_path / "drawn.hdf5", overlay="mp4")
    assert {name for name, result in again.items() if result.reused} == {"a", "a.hdf5/b"}


def test_output_that_cannot_be_written_is_an_error_of_its_video_before_the_work(tmp_path, read):
    videos = make_videos(tmp_path / "v", "a.mp4", "b/c.mp4", "d.mp4")
    (tmp_path / "out/a.json").mkdir(parents=True)
    (tmp_path / "out/b").write_text("a file")
    done = extract_all(videos, tmp_path / "out")
    assert {name: result.error is None for name, result in done.items()} == {"a": False, "b/c": False, "d": True}
    assert read == ["d.mp4"]


@pytest.mark.parametrize(("number", "ends"), [("ENOSPC", True), ("EDQUOT", True), ("EIO", False), ("EMFILE", False)])
def test_only_a_full_disk_ends_a_run(tmp_path, read, number, ends):
    videos = make_videos(tmp_path / "v", f"raise-{number}.mp4", "zz.mp4")
    if ends:
        with pytest.raises(OSError, match="raised by the test") as error:
            extract_all(videos, tmp_path / "out")
        assert error.value.errno == getattr(errno, number)
        assert error.value.filename == f"{tmp_path}/out/raise-{number}.json"
    else:
        done = extract_all(videos, tmp_path / "out")
        assert done["zz"].error is None and isinstance(done[f"raise-{number}"].error, SpoterError)


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        (["--out", "a.json", "--format", "npy"], r"a\.json: .*\.json .*npy"),
        (["--out", "folder", "--format", "hdf5"], r"folder: .*\.hdf5"),
        (["--out", "a.npy"], r"a\.npy: found 3 videos .*\.npy"),
        (["--out", "a.csv"], r"a\.csv: .*\.json, \.npy, \.pose, \.hdf5"),
        (["--out", "signs/ana/HOLA/1.mp4"], r"1\.mp4: .*\.json, \.npy, \.pose, \.hdf5"),
    ],
)
def test_output_that_does_not_fit_is_refused_before_the_work(python, signs, tmp_path, monkeypatch, options, pattern):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpoterError, match=pattern):
        run(signs, *options)
