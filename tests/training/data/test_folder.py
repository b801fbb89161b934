"""Folders of glosses: the clips in them, their groups, and what is wrong named; what holds for all forms."""

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


def same(found: Clip, written: np.ndarray, atol: float = 0.0) -> None:
    np.testing.assert_allclose(found.points, written, rtol=0, atol=atol)


def only(folder: Path, name: str, content: bytes) -> Clip:
    """Read one clip from a folder that holds nothing else."""
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
    for kind in ("mp4", "gif"):  # that `spoter extract --overlay` drew
        put(tmp_path / "signs" / "CASA" / f"0.overlay.{kind}", b"x")
    return tmp_path / "signs"


def test_a_folder_gives_glosses_by_its_folders_and_each_clip_its_own_group(folder):
    data = read_dataset(folder)
    assert [(clip.name, clip.gloss, clip.group) for clip in data.clips] == [
        (name, name.split("/")[0], name) for name in sorted(CLIPS)
    ]
    assert (data.grouped, data.estimator, data.glosses) == (False, "mediapipe", ("CASA", "COMER"))
    assert data.sources == (folder,) and data.skipped == []
    for clip in data.clips:
        same(clip.clip, CLIPS[clip.name].points)


def test_a_summary_of_json_clips_takes_little_memory(tmp_path):
    frames = 24  # 260 kB
    for gloss in ("CASA", "COMER"):
        points = np.random.default_rng(0).uniform(0.2, 0.8, (frames, 543, 2)).round(6)
        put(tmp_path / gloss / "0.json", dumps({"estimator": "mediapipe", "points": points.tolist()}))
    # A limit on top of what the packages take; it ends a run that makes something for each clip of wire_files.LIMITS.
    code = """
import re, resource, sys
from pathlib import Path
import spoter.cli.data, spoter.training.data, spoter.training.data.summary
from spoter.cli.main import app
taken = 1024 * int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
resource.setrlimit(resource.RLIMIT_DATA, (taken + 500_000_000,) * 2)
app()
"""
    words = [sys.executable, "-c", code, "data", "summary", str(tmp_path), "--json"]
    done = subprocess.run(words, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["total"]["clips"] == 2


def test_names_that_are_not_utf_8_are_bad_clips_that_can_be_listed(folder):
    latin = os.fsencode(folder) + b"/caf\xe9"
    try:
        shutil.copytree(os.fsencode(folder) + b"/CASA", latin)
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(DataError, match=r"caf\\udce9.0\.json: found the gloss 'caf\\udce9', which is not UTF-8"):
        read_dataset(folder)
    data = read_dataset(folder, skip_bad=True)
    assert [clip.name for clip in data.clips] == sorted(CLIPS) and len(data.skipped) == 2
    assert all((skip.place + skip.reason).encode() for skip in data.skipped)


def test_groups_csv_and_a_regular_expression_tell_groups(folder):
    by_number = read_dataset(folder, groups=r"/(\d)$")
    assert by_number.grouped and [clip.group for clip in by_number.clips] == ["0", "1", "2"]
    put(folder / "groups.csv", b"\xef\xbb\xbfclip,group\nCASA/0,ana\nCASA/1, ben\nCOMER/2,ana\n")
    by_file = read_dataset(folder)
    assert by_file.grouped and [clip.group for clip in by_file.clips] == ["ana", "ben", "ana"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"clip;group\n", r"groups\.csv: found columns .*expected clip,group"),
        (b"clip,group\nCASA/0,\n", r"groups\.csv, line 2: found an empty cell"),
        (b"clip,group\nCASA/0,a,b\n", r"groups\.csv, line 2"),
        (b"clip,group\nCASA/0,a\nCASA/0,b\n", r"groups\.csv, line 3: .*second time"),
        (b"clip,group\nCASA/9,a\n", r"groups\.csv: found clip 'CASA/9', which is not there"),
        (b"clip,group\nCASA/0,a\n", r"CASA/1\.json: found no group for 'CASA/1'"),
        (b"clip,group\nCASA/0," + b"x" * 200_000, r"CASA/1\.json: found no group for 'CASA/1'"),
        (b'clip,group\nCASA/0,"a\nCASA/1,b\n', r"groups\.csv: "),
        (b"\xff\xfe", r"groups\.csv, byte 0: "),
    ],
)
def test_a_wrong_groups_csv_is_named(folder, content, said):
    put(folder / "groups.csv", content)
    with pytest.raises(DataError, match=said):
        read_dataset(folder)


@pytest.mark.parametrize(
    ("groups", "said"),
    [("(", "regular expression"), ("CASA", "a part in brackets"), ("^(CASA)/", r"2\.json: .*no group by")],
)
def test_a_groups_expression_that_tells_none_is_an_error(folder, groups, said):
    with pytest.raises(DataError, match=said):
        read_dataset(folder, groups=groups)


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_frames_of_every_estimator_are_read_whole_face_and_all(tmp_path, name):
    clip = figure_clip(name)
    found = only(tmp_path, "a.json", dumps(FRAME_FORMS[name](clip)))
    assert (found.names, found.estimator) == (clip.names, name)
    used = ~np.isnan(found.points)
    assert used.mean() > 0.8
    same(found, clip.points, 1e-6)


@pytest.mark.parametrize("name", ["29", "54", "71", "spoter54"])
@pytest.mark.parametrize("form", ["array", "by name", "wide csv"])
def test_a_layouts_own_points_are_read(tmp_path, name, form):
    layout = load_layout(name)
    points = layout.select(figure_clip())
    content = {
        "array": dumps({"layout": name, "points": nested(points)}),
        "by name": dumps({"points": by_name(points, layout.names)}),
        "wide csv": csv(wide(points, layout.names)),
    }[form]
    found = only(tmp_path, "a.csv" if form == "wide csv" else "a.json", content)
    assert found.estimator is None
    same(Clip(layout.select(found), layout.names), points, 1e-7)


@pytest.mark.parametrize("size", [543, 54, 29, 71])
def test_npy_is_read_by_its_number_of_points(tmp_path, size):
    clip = figure_clip()
    points = clip.points if size == 543 else load_layout(str(size)).select(clip)
    found = only(tmp_path, "a.npy", npy(points))
    assert found.names == (MEDIAPIPE.names if size == 543 else load_layout(str(size)).names)
    same(found, points)


def test_one_clip_of_a_spoter_csv_or_a_long_csv_may_lie_in_a_folder(tmp_path):
    clip = figure_clip()
    same(only(tmp_path / "long", "a.csv", csv(long(clip))), clip.points, 1e-7)
    points = load_layout("spoter54").select(clip)
    found = only(tmp_path / "spoter", "a.csv", csv(spoter_table(points[None])))
    same(Clip(load_layout("spoter54").select(found), load_layout("spoter54").names), points, 1e-6)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("a.json", b"{", "JSON"),
        ("a.json", b'{"keypoints": []}', "0 frames"),
        ("a.json", dumps({"layout": "mine", "points": [[[0.5, 0.5]]]}), "layout that is not built in"),
        ("a.json", dumps({"points": {"pose_nose": [[0.5, 0.5]] * 3}}), "lacks 28 of layout 29's 29"),
        ("a.json", dumps({"clips": [{"points": nested(CLIPS["CASA/0"].points)}] * 2}), "2 clips, expected one"),
        ("a.npy", npy(np.full((5, 100, 2), 0.5)), "100 points"),
        ("a.npy", npy(np.full((1, 543, 2), 0.5)), "1 frame .*at least 2"),
        ("a.npy", npy(np.full((5, 543, 2), np.nan)), "no landmark"),
        ("a.npy", npy(np.full((5, 543, 2), 640.0)), "pixels"),
        ("a.npy", npy(np.full((5, 543, 2), 0.5))[:-8], "bytes of data"),
        ("a.csv", b"", "empty"),
        ("a.txt", b"hello", r"found \.txt, expected a file in \.json, \.csv, \.npy, \.pose, \.mp4"),
        ("0.npy", npy(CLIPS["CASA/0"].points), r"a second file of the clip in 0\.json"),
        ("a.json/x", b"", "expected the frames of one clip"),
    ],
)
def test_bad_files_are_named_or_skipped_and_listed(folder, file, content, said):
    put(folder / "CASA" / file, content)
    where = str(folder / "CASA" / file.split("/")[0])
    with pytest.raises(DataError, match=said) as caught:
        read_dataset(folder)
    assert str(caught.value).startswith(f"{where}: ")
    data = read_dataset(folder, skip_bad=True)
    assert len(data.clips) == 3 and [skip.place for skip in data.skipped] == [where]
    assert str(caught.value) == f"{where}: {data.skipped[0].reason}"


def test_a_gloss_without_clips_is_named_or_skipped(folder):
    (folder / "VACIO").mkdir()
    with pytest.raises(DataError, match=r"VACIO: found no clip of this gloss"):
        read_dataset(folder)
    data = read_dataset(folder, skip_bad=True)
    assert data.glosses == ("CASA", "COMER") and len(data.skipped) == 1


def test_clips_of_another_estimator_than_most_are_named_or_skipped(folder):
    put(folder / "COMER" / "op.json", dumps(FRAME_FORMS["openpose"](figure_clip("openpose"))))
    with pytest.raises(DataError, match=r"op\.json: found landmarks of openpose, expected those of mediapipe"):
        read_dataset(folder)
    data = read_dataset(folder, skip_bad=True)
    assert data.estimator == "mediapipe" and len(data.clips) == 3 and "openpose" in data.skipped[0].reason


def test_all_bad_is_an_error_even_where_bad_ones_are_skipped(tmp_path):
    put(tmp_path / "A" / "a.json", b"{")
    with pytest.raises(DataError, match=r"no clip that can be used, .*a\.json"):
        read_dataset(tmp_path, skip_bad=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent", "no such file or folder"),
        ("absent.hdf5", "no such file or folder"),
        ("a.txt", r"found \.txt, expected a Conn"),
        ("empty", "no folder in it"),
    ],
)
def test_what_is_no_data_set_is_an_error(tmp_path, name, said):
    put(tmp_path / "a.txt", b"hello")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=said):
        read_dataset(tmp_path / name)


# --- all forms ---


def test_the_digest_tells_clips_apart_but_not_forms(folder, tmp_path):
    digest = read_dataset(folder).digest()
    table = [long(clip).assign(clip=name, gloss=name.split("/")[0]) for name, clip in CLIPS.items()]
    assert read_dataset(put(tmp_path / "t.csv", csv(pd.concat(table)))).digest() == digest
    assert read_dataset(folder, groups="/(.)").digest() != digest
    document = json.loads((folder / "CASA" / "0.json").read_text())
    document["keypoints"][3]["pose_landmarks"][0]["x"] += 1e-4
    put(folder / "CASA" / "0.json", dumps(document))
    assert read_dataset(folder).digest() != digest


def test_clips_that_are_the_same_are_left_out_but_for_the_first_where_bad_ones_are(folder):
    shutil.copy(folder / "CASA" / "0.json", folder / "COMER" / "again.json")
    assert len(read_dataset(folder).clips) == 4
    data = read_dataset(folder, skip_bad=True)
    assert [clip.name for clip in data.clips] == sorted(CLIPS)
    (skip,) = data.skipped
    assert skip.place == "COMER/again (COMER)" and "CASA/0 (CASA)" in skip.reason
