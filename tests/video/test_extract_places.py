"""Where `spoter extract` finds videos, what they may be called, and where it does not write."""

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


def test_names_may_hold_anything_and_move_no_terminal(short, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in (b"-\xff.mp4", "é[1]\x1b[1m\n.mp4".encode()):
        shutil.copy(short[0], os.fsencode(videos) + b"/" + name)
    said = run(videos, "--out", tmp_path / "out")
    assert said.count("6 frames") == said.count("\n") == 2 and "\\udcff" in said and "[1]\\x1b[1m\\n" in said
    assert len(list((tmp_path / "out").glob("*.json"))) == 2
    with pytest.raises(SpoterError, match=r"\.mp4: found a name that is no UTF-8, which HDF5 wants"):
        run(videos, "--out", tmp_path / "out.hdf5")


def test_an_hdf5_file_in_use_is_left_alone(short, tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.hdf5", "w"):
        script = "import sys; from spoter.cli.main import main; main()"
        words = ["extract", short[0], "--out", tmp_path / "a.hdf5"]
        done = subprocess.run([sys.executable, "-c", script, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "a.hdf5: another program is writing into it" in done.stderr


@pytest.mark.parametrize("clips", [1, 60])
def test_a_full_disk_is_an_error_of_one_line_and_no_crash(read_once, tmp_path, clips):
    """A limit on a file's size stands for the disk's: it ends a write as that does, and needs no rights."""
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


def test_videos_are_named_from_where_their_paths_part(tmp_path):
    for name in ("a/x/1.mp4", "a/y/1.webm", "a/y/2.txt", "a/.hidden/3.mp4", "b/1.MOV"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def names(*places: str) -> list[str]:
        return [video.name for video in find_videos([str(tmp_path / place) for place in places])]

    assert names("a") == ["x/1", "y/1"]
    assert names("a/x/1.mp4", "a/y/1.webm") == ["x/1", "y/1"]
    assert names("a/*/1.*", "b") == ["1", "x/1", "y/1"]
    assert names("a/x/1.mp4", "a/x/1.mp4") == ["1"]
    with pytest.raises(SpoterError, match=r"1\.mp4 and .*1\.MOV would both be written to '1'"):
        names("a/x", "b")
    for nothing in ("c", "c/*.mp4", "a/y/2.*"):
        with pytest.raises(SpoterError, match=r"found no video there, expected files ending in .mp4, .webm"):
            names(nothing)


def test_overlays_of_an_earlier_run_are_no_videos(tmp_path):
    for name in ("a.mp4", "a.overlay.mp4", "a.overlay.gif", "b/c.overlay.webm", "b/c.overlay.MP4", "b/overlay.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def names(*places: str) -> list[str]:
        return [video.name for video in find_videos([str(tmp_path / place) for place in places])]

    assert names("") == ["a", "b/c.overlay", "b/overlay"]
    assert names("*.mp4") == names("a.mp4", "a.overlay.mp4") == ["a"]  # as a shell expands it
    for only in (["a.overlay.mp4"], ["*.overlay.mp4"]):
        with pytest.raises(SpoterError, match="found only overlays"):
            names(*only)


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Put a clip in the place of what MediaPipe finds; return the names of the videos that are read."""
    clip, names = make_clip(np.full((2, 543, 2), 0.5), MEDIAPIPE.names, MEDIAPIPE.name), []

    def found(path: Path, *_, overlay: Path | None = None, **__) -> VideoLandmarks:
        names.append(path.name)
        if path.name.startswith("raise-"):
            raise OSError(getattr(errno, path.stem.removeprefix("raise-")), "found by the test")
        if overlay is not None:
            overlay.write_bytes(b"drawn")
        return VideoLandmarks(clip, 25.0, 640, 480)

    monkeypatch.setattr(extract, "read", found)
    return names


def films_named(folder: Path, *names: str) -> list[extract.VideoFile]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return find_videos([str(folder)])


def extracted(videos: list[extract.VideoFile], out: Path, **settings) -> dict[str, ExtractionResult]:
    return {done.video.name: done for done in extract.extract_videos(videos, out, None, ExtractionSettings(**settings))}


LONG, TOO_LONG = "手" * 81, "x" * 251  # with .mp4 both are legal; with .json the second is longer than 255 bytes


def test_a_long_name_is_written_and_one_that_is_too_long_is_its_videos_error_before_the_work(tmp_path, read):
    videos = films_named(tmp_path / "v", f"{LONG}.mp4", f"{TOO_LONG}.mp4", "zz.mp4")
    done = extracted(videos, tmp_path / "out")
    assert {name for name, one in done.items() if one.error is not None} == {TOO_LONG}
    assert str(done[TOO_LONG].error).startswith(f"{tmp_path}/out/{TOO_LONG}.json: ")
    assert sorted(read) == ["zz.mp4", f"{LONG}.mp4"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".spoter-extract.jsonl", f"{LONG}.json", "zz.json"}
    assert [one.reused for one in extracted(videos, tmp_path / "out").values()].count(True) == 2


def test_only_names_of_overlays_bound_those_of_videos_in_an_hdf5_file(tmp_path, read):
    videos = films_named(tmp_path / "v", f"{TOO_LONG}.mp4", "a.mp4", "a.hdf5/b.mp4")
    done = extracted(videos, tmp_path / "out.hdf5")
    assert [one.error for one in done.values()] == [None] * 3
    assert set(read_fingerprints(tmp_path / "out.hdf5")) == {f"v/{TOO_LONG}", "v/a", "a.hdf5/b"}
    done = extracted(videos, tmp_path / "drawn.hdf5", overlay="mp4")
    assert {name for name, one in done.items() if one.error is not None} == {TOO_LONG}
    drawn = [path.relative_to(tmp_path / "drawn").as_posix() for path in (tmp_path / "drawn").rglob("*.mp4")]
    assert sorted(drawn) == ["a.hdf5/b.overlay.mp4", "a.overlay.mp4"]
    again = extracted(videos, tmp_path / "drawn.hdf5", overlay="mp4")
    assert {name for name, one in again.items() if one.reused} == {"a", "a.hdf5/b"}


def test_a_place_that_cannot_be_written_is_its_videos_error_before_the_work(tmp_path, read):
    videos = films_named(tmp_path / "v", "a.mp4", "b/c.mp4", "d.mp4")
    (tmp_path / "out/a.json").mkdir(parents=True)
    (tmp_path / "out/b").write_text("a file")
    done = extracted(videos, tmp_path / "out")
    assert {name: one.error is None for name, one in done.items()} == {"a": False, "b/c": False, "d": True}
    assert read == ["d.mp4"]


@pytest.mark.parametrize(("number", "ends"), [("ENOSPC", True), ("EDQUOT", True), ("EIO", False), ("EMFILE", False)])
def test_only_a_full_disk_ends_a_run(tmp_path, read, number, ends):
    videos = films_named(tmp_path / "v", f"raise-{number}.mp4", "zz.mp4")
    if ends:
        with pytest.raises(OSError, match="found by the test") as error:
            extracted(videos, tmp_path / "out")
        assert error.value.errno == getattr(errno, number)
        assert error.value.filename == f"{tmp_path}/out/raise-{number}.json"
    else:
        done = extracted(videos, tmp_path / "out")
        assert done["zz"].error is None and isinstance(done[f"raise-{number}"].error, SpoterError)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "a.json", "--format", "npy"], "found the format npy, but the ending of json"),
        (["--out", "folder", "--format", "hdf5"], "expected one file ending in .hdf5"),
        (["--out", "a.npy"], "found 3 videos for one .npy file, expected a folder, or .hdf5"),
        (["--out", "a.csv"], "a.csv: expected a folder, or a file ending in .json, .npy, .pose, .hdf5"),
        (["--out", "signs/ana/HOLA/1.mp4"], "1.mp4: expected a folder, or a file"),
    ],
)
def test_outputs_that_do_not_fit_are_refused_before_the_work(python, signs, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpoterError, match=said):
        run(signs, *words)
