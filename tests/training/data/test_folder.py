"""Data sets in folders: clips, groups and errors; properties of data sets of all forms."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spoter.errors import DataError
from spoter.landmarks.clip import Clip
from spoter.landmarks.estimators import ESTIMATORS, MEDIAPIPE
from spoter.landmarks.layouts import load_layout
from spoter.training.data import read_dataset
from tests.generate import figure_clip
from tests.training.datasets import put
from tests.wire import FRAME_FORMS, by_name, csv, dumps, long, nested, npy, spoter_table, wide

CLIPS = {f"{gloss}/{i}": figure_clip(frames=6 + i, seed=i) for i, gloss in enumerate(("CASA", "CASA", "COMER"))}


def assert_points(clip: Clip, expected: np.ndarray, atol: float = 0.0) -> None:
    np.testing.assert_allclose(clip.points, expected, rtol=0, atol=atol)


def only(folder: Path, name: str, content: bytes) -> Clip:
    """Write a file into a folder, and return it as the only clip of the data set."""
    put(folder / "GLOSS" / name, content)
    (clip,) = read_dataset(folder).clips
    return clip.clip


# --- a folder of glosses ---


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, clip in CLIPS.items():
        put(tmp_path / "signs" / f"{name}.json", dumps(FRAME_FORMS["mediapipe"](clip)))
    put(tmp_path / "signs" / ".DS_Store", b"x")
    put(tmp_path / "signs" / "CASA" / ".hidden", b"x")
    for kind in ("mp4", "gif"):  # as from `spoter extract --overlay`
        put(tmp_path / "signs" / "CASA" / f"0.overlay.{kind}", b"x")
    return tmp_path / "signs"


def test_folders_name_glosses_and_each_clip_is_its_own_group(folder):
    data = read_dataset(folder)
    assert [(clip.name, clip.gloss, clip.group) for clip in data.clips] == [
        (name, name.split("/")[0], name) for name in sorted(CLIPS)
    ]
    assert (data.grouped, data.estimator, data.glosses) == (False, "mediapipe", ("CASA", "COMER"))
    assert data.sources == (folder,) and data.skipped == []
    for clip in data.clips:
        assert_points(clip.clip, CLIPS[clip.name].points)


def test_summary_of_json_clips_needs_little_memory(tmp_path):
    frames = 24  # 260 kB
    for gloss in ("CASA", "COMER"):
        points = np.random.default_rng(0).uniform(0.2, 0.8, (frames, 543, 2)).round(6)
        put(tmp_path / gloss / "0.json", dumps({"estimator": "mediapipe", "points": points.tolist()}))
    # The limit is added to the memory of the imports. It fails a run that allocates for all clips of wire_files.LIMITS.
    code = """
import re, resource, sys
from pathlib import Path
import spoter.cli.data, spoter.training.data, spoter.training.data.summary
from spoter.cli.main import app
used = 1024 * int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
resource.setrlimit(resource.RLIMIT_DATA, (used + 500_000_000,) * 2)
app()
"""
    words = [sys.executable, "-c", code, "data", "summary", str(tmp_path), "--json"]
    done = subprocess.run(words, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["total"]["clips"] == 2


def test_clips_with_names_that_are_not_utf_8_are_errors_or_skipped(folder):
    latin = os.fsencode(folder) + b"/caf\xe9"
    try:
        shutil.copytree(os.fsencode(folder) + b"/CASA", latin)
    except OSError:
        pytest.skip("this file system does not allow such a name")
    with pytest.raises(DataError, match=r"caf\\udce9.0\.json: .*'caf\\udce9'"):
        read_dataset(folder)
    data = read_dataset(folder, skip_bad=True)
    assert [clip.name for clip in data.clips] == sorted(CLIPS) and len(data.skipped) == 2
    assert all((skip.place + skip.reason).encode() for skip in data.skipped)


def test_groups_come_from_groups_csv_or_a_regular_expression(folder):
    by_number = read_dataset(folder, groups=r"/(\d)$")
    assert by_number.grouped and [clip.group for clip in by_number.clips] == ["0", "1", "2"]
    put(folder / "groups.csv", b"\xef\xbb\xbfclip,group\nCASA/0,ana\nCASA/1, ben\nCOMER/2,ana\n")
    by_file = read_dataset(folder)
    assert by_file.grouped and [clip.group for clip in by_file.clips] == ["ana", "ben", "ana"]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"clip;group\n", r"groups\.csv: .*clip,group"),
        (b"clip,group\nCASA/0,\n", r"groups\.csv, line 2: "),
        (b"clip,group\nCASA/0,a,b\n", r"groups\.csv, line 2"),
        (b"clip,group\nCASA/0,a\nCASA/0,b\n", r"groups\.csv, line 3: .*'CASA/0'"),
        (b"clip,group\nCASA/9,a\n", r"groups\.csv: .*'CASA/9'"),
        (b"clip,group\nCASA/0,a\n", r"CASA/1\.json: .*'CASA/1'"),
        (b"clip,group\nCASA/0," + b"x" * 200_000, r"CASA/1\.json: .*'CASA/1'"),
        (b'clip,group\nCASA/0,"a\nCASA/1,b\n', r"groups\.csv: "),
        (b"\xff\xfe", r"groups\.csv, byte 0: "),
    ],
)
def test_wrong_groups_csv_is_an_error_with_its_place(folder, content, place):
    put(folder / "groups.csv", content)
    with pytest.raises(DataError, match=place):
        read_dataset(folder)


@pytest.mark.parametrize(
    ("groups", "place"),
    [("(", r"--group-regex: .*'\('"), ("CASA", "--group-regex: .*'CASA'"), ("^(CASA)/", r"2\.json: .*--group-regex")],
)
def test_invalid_group_regex_is_an_error(folder, groups, place):
    with pytest.raises(DataError, match=place):
        read_dataset(folder, groups=groups)


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_frames_of_every_estimator_are_read_with_all_points(tmp_path, name):
    clip = figure_clip(name)
    read = only(tmp_path, "a.json", dumps(FRAME_FORMS[name](clip)))
    assert (read.names, read.estimator) == (clip.names, name)
    assert (~np.isnan(read.points)).mean() > 0.8
    assert_points(read, clip.points, 1e-6)


@pytest.mark.parametrize("name", ["29", "54", "71", "spoter54"])
@pytest.mark.parametrize("form", ["array", "by name", "wide csv"])
def test_points_of_a_layout_are_read(tmp_path, name, form):
    layout = load_layout(name)
    points = layout.select(figure_clip())
    content = {
        "array": dumps({"layout": name, "points": nested(points)}),
        "by name": dumps({"points": by_name(points, layout.names)}),
        "wide csv": csv(wide(points, layout.names)),
    }[form]
    read = only(tmp_path, "a.csv" if form == "wide csv" else "a.json", content)
    assert read.estimator is None
    assert_points(Clip(layout.select(read), layout.names), points, 1e-7)


@pytest.mark.parametrize("size", [543, 54, 29, 71])
def test_layout_of_npy_follows_from_its_number_of_points(tmp_path, size):
    clip = figure_clip()
    points = clip.points if size == 543 else load_layout(str(size)).select(clip)
    read = only(tmp_path, "a.npy", npy(points))
    assert read.names == (MEDIAPIPE.names if size == 543 else load_layout(str(size)).names)
    assert_points(read, points)


def test_spoter_csv_and_long_csv_with_one_clip_are_read(tmp_path):
    clip = figure_clip()
    assert_points(only(tmp_path / "long", "a.csv", csv(long(clip))), clip.points, 1e-7)
    points = load_layout("spoter54").select(clip)
    read = only(tmp_path / "spoter", "a.csv", csv(spoter_table(points[None])))
    assert_points(Clip(load_layout("spoter54").select(read), load_layout("spoter54").names), points, 1e-6)


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("a.json", b"{", "JSON"),
        ("a.json", b'{"keypoints": []}', r"\b0\b"),
        ("a.json", dumps({"layout": "mine", "points": [[[0.5, 0.5]]]}), "71, 54, spoter54, 29"),
        ("a.json", dumps({"points": {"pose_nose": [[0.5, 0.5]] * 3}}), r"28 .*layout 29"),
        ("a.json", dumps({"clips": [{"points": nested(CLIPS["CASA/0"].points)}] * 2}), "2 clips"),
        ("a.npy", npy(np.full((5, 100, 2), 0.5)), "100"),
        ("a.npy", npy(np.full((1, 543, 2), 0.5)), "1 frame.* 2"),
        ("a.npy", npy(np.full((5, 543, 2), np.nan)), "CASA/a"),
        ("a.npy", npy(np.full((5, 543, 2), 640.0)), "640"),
        ("a.npy", npy(np.full((5, 543, 2), 0.5))[:-8], "bytes"),
        ("a.csv", b"", r"a\.csv"),
        ("a.txt", b"hello", r"\.txt.*\.json, \.csv, \.npy, \.pose, \.mp4"),
        ("0.npy", npy(CLIPS["CASA/0"].points), r"0\.json"),
        ("a.json/x", b"", r"a\.json"),
    ],
)
def test_bad_files_are_errors_or_skipped_and_listed(folder, file, content, named):
    put(folder / "CASA" / file, content)
    where = str(folder / "CASA" / file.split("/")[0])
    with pytest.raises(DataError, match=named) as caught:
        read_dataset(folder)
    assert str(caught.value).startswith(f"{where}: ")
    data = read_dataset(folder, skip_bad=True)
    assert len(data.clips) == 3 and [skip.place for skip in data.skipped] == [where]
    assert str(caught.value) == f"{where}: {data.skipped[0].reason}"


def test_gloss_without_clips_is_an_error_or_skipped(folder):
    (folder / "VACIO").mkdir()
    with pytest.raises(DataError, match=r"VACIO: "):
        read_dataset(folder)
    data = read_dataset(folder, skip_bad=True)
    assert data.glosses == ("CASA", "COMER") and len(data.skipped) == 1


def test_clips_of_a_minority_estimator_are_errors_or_skipped(folder):
    put(folder / "COMER" / "op.json", dumps(FRAME_FORMS["openpose"](figure_clip("openpose"))))
    with pytest.raises(DataError, match=r"op\.json: .*openpose.*mediapipe"):
        read_dataset(folder)
    data = read_dataset(folder, skip_bad=True)
    assert data.estimator == "mediapipe" and len(data.clips) == 3 and "openpose" in data.skipped[0].reason


def test_only_bad_clips_are_an_error_even_if_bad_clips_are_skipped(tmp_path):
    put(tmp_path / "A" / "a.json", b"{")
    with pytest.raises(DataError, match=r"skipped: .*a\.json"):
        read_dataset(tmp_path, skip_bad=True)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("absent", "GLOSS/clip"),
        ("absent.hdf5", "GLOSS/clip"),
        ("a.txt", r"\.txt.*GLOSS/clip"),
        ("empty", r"train\.csv"),
    ],
)
def test_path_without_a_data_set_is_an_error(tmp_path, name, named):
    put(tmp_path / "a.txt", b"hello")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=rf"{name}: .*{named}"):
        read_dataset(tmp_path / name)


# --- all forms ---


def test_digest_depends_on_the_clips_and_not_on_the_form(folder, tmp_path):
    digest = read_dataset(folder).digest()
    table = [long(clip).assign(clip=name, gloss=name.split("/")[0]) for name, clip in CLIPS.items()]
    assert read_dataset(put(tmp_path / "t.csv", csv(pd.concat(table)))).digest() == digest
    assert read_dataset(folder, groups="/(.)").digest() != digest
    document = json.loads((folder / "CASA" / "0.json").read_text())
    document["keypoints"][3]["pose_landmarks"][0]["x"] += 1e-4
    put(folder / "CASA" / "0.json", dumps(document))
    assert read_dataset(folder).digest() != digest


def test_duplicates_are_skipped_with_bad_clips(folder):
    shutil.copy(folder / "CASA" / "0.json", folder / "COMER" / "again.json")
    assert len(read_dataset(folder).clips) == 4
    data = read_dataset(folder, skip_bad=True)
    assert [clip.name for clip in data.clips] == sorted(CLIPS)
    (skip,) = data.skipped
    assert skip.place == "COMER/again (COMER)" and "CASA/0 (CASA)" in skip.reason
