"""Where `spoter extract` finds videos, what they may be called, and where it does not write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from video.running import run

from spoter.errors import SpoterError
from spoter.video.extract import find_videos
from spoter.video.writers import WRITERS


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
        script = "import sys; from spoter.cli import main; main()"
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
from spoter.clip import make_clip
from spoter.estimators import MEDIAPIPE
from spoter.video.writers import Member, write_hdf5
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
        return [video.name for video in find_videos(str(tmp_path / place) for place in places)]

    assert names("a") == ["x/1", "y/1"]
    assert names("a/x/1.mp4", "a/y/1.webm") == ["x/1", "y/1"]
    assert names("a/*/1.*", "b") == ["1", "x/1", "y/1"]
    assert names("a/x/1.mp4", "a/x/1.mp4") == ["1"]
    with pytest.raises(SpoterError, match=r"1\.mp4 and .*1\.MOV would both be written to '1'"):
        names("a/x", "b")
    for nothing in ("c", "c/*.mp4", "a/y/2.*"):
        with pytest.raises(SpoterError, match="found no video there, expected files ending in .mp4, .webm"):
            names(nothing)


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
