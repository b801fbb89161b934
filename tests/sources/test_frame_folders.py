"""Folders that OpenPose and MMPose write: order of frames, gaps, several people, errors."""

from __future__ import annotations

import codecs
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from spoter.batch.inputs import iterate_shards
from spoter.batch.reader import RequestReader
from spoter.cli.main import app
from spoter.errors import DataError, InputError, SpoterError
from spoter.formats import Options, decode
from spoter.formats.request import parse_attributes
from spoter.formats.signer_tracking import choose_signer
from spoter.landmarks.clip import Clip
from spoter.landmarks.estimators import ESTIMATORS, OPENPOSE
from spoter.landmarks.layouts import load_layout
from spoter.sources import frame_folders
from spoter.sources.clip_files import LIMITS, read_body, read_clips
from spoter.training.data import read_dataset
from tests import ROOT
from tests.generate import figure, figure_clip
from tests.training.datasets import put
from tests.wire import dumps, mmpose, openpose

LAYOUT = load_layout("54")
SIZE = Options(width=640, height=480)
FRAMES = 6


def _frames(name: str, clip: Clip) -> list[dict]:
    return openpose(clip)["frames"] if name == "openpose" else mmpose(clip)["instance_info"]


def _write(folder: Path, name: str, frames: list[dict], first: int = 0, step: int = 1) -> Path:
    """Write frames as the estimator's program writes them."""
    for i, frame in enumerate(frames):
        number = first + i * step
        if name == "openpose":
            put(folder / f"signing_{number:012d}_keypoints.json", dumps({"version": 1.3, "people": frame["people"]}))
        else:
            put(folder / f"img{number}.json", dumps(frame["instances"]))
    return folder


def _read(path: Path, options: Options = SIZE) -> tuple[Clip, list[str]]:
    notes: list[str] = []
    read_body(path, notes.append)
    (clip,) = read_clips([path], LAYOUT, options)
    return clip, [note.removeprefix(f"{path}: ") for note in notes]


@pytest.fixture
def clip(request) -> Clip:
    return figure_clip(getattr(request, "param", "openpose"), FRAMES)


# --- frames of a folder ---


@pytest.mark.parametrize("name", ["openpose", "wholepose"])
@pytest.mark.parametrize("first", [0, 1, 7])  # MMPose's numbers are not padded: 10 comes before 9 by name
def test_folder_is_the_same_clip_as_the_list_of_its_frames(tmp_path, name, first):
    clip = figure_clip(name, FRAMES)
    actual, notes = _read(_write(tmp_path, name, _frames(name, clip), first))
    np.testing.assert_allclose(actual.points, clip.points, atol=1e-6)
    assert (actual.estimator, notes) == (name, [])


def test_missing_number_is_a_frame_without_a_person_and_a_note(tmp_path, clip):
    _write(tmp_path, "openpose", _frames("openpose", clip), first=3)
    (tmp_path / "signing_000000000005_keypoints.json").unlink()
    actual, notes = _read(tmp_path)
    np.testing.assert_allclose(actual.points[[0, 1, 3, 4, 5]], clip.points[[0, 1, 3, 4, 5]], atol=1e-6)
    assert np.isnan(actual.points[2]).all()
    assert len(notes) == 1 and "1 of 6 frames" in notes[0] and "number 5" in notes[0]


def test_numbers_with_a_step_of_two_have_no_gaps(tmp_path, clip):
    actual, notes = _read(_write(tmp_path, "openpose", _frames("openpose", clip), step=2))
    np.testing.assert_allclose(actual.points, clip.points, atol=1e-6)
    assert len(notes) == 1 and "increase by 2" in notes[0]


def test_empty_list_of_people_is_a_frame_without_a_person_and_other_files_are_noted(tmp_path, clip):
    frames = _frames("openpose", clip)
    frames[1] = {"people": []}
    _write(tmp_path, "openpose", frames)
    for name in ("signing.avi", "notes.txt", ".DS_Store"):
        put(tmp_path / name, b"x")
    actual, notes = _read(tmp_path)
    assert np.isnan(actual.points[1]).all() and not np.isnan(actual.points[0]).all()
    assert len(notes) == 1 and notes[0].endswith(": notes.txt, signing.avi")


@pytest.mark.parametrize("form", ["list of frames", "instance_info"])
@pytest.mark.parametrize("path_kind", ["file", "folder"])
def test_results_of_mmpose_for_a_video_are_one_file(tmp_path, form, path_kind):
    clip = figure_clip("wholepose", FRAMES)
    document = mmpose(clip)
    content = document["instance_info"] if form == "list of frames" else {"instance_info": document["instance_info"]}
    file = put(tmp_path / "predictions" / "signing.json", dumps(content))
    actual, _ = _read(file if path_kind == "file" else file.parent)
    np.testing.assert_allclose(actual.points, clip.points, atol=1e-6)


def test_parts_without_keypoints_from_openpose_are_missing(tmp_path, clip):
    frames = _frames("openpose", clip)
    for frame in frames:
        frame["people"][0]["face_keypoints_2d"] = []
        del frame["people"][0]["hand_left_keypoints_2d"]
    actual, _ = _read(_write(tmp_path, "openpose", frames))
    assert np.isnan(actual.points[:, OPENPOSE.part("face")]).all()
    assert np.isnan(actual.points[:, OPENPOSE.part("left_hand")]).all()
    assert not np.isnan(actual.points[0, OPENPOSE.part("right_hand")]).any()


def test_picture_json_gives_the_size_that_openpose_does_not_write(tmp_path, clip):
    _write(tmp_path, "openpose", _frames("openpose", clip))
    with pytest.raises(InputError, match=r"--width and --height") as caught:
        _read(tmp_path, Options())
    assert caught.value.code == "missing_image_size"
    put(tmp_path / "picture.json", b'{"width": 640, "height": 480, "fps": 30}')
    actual, notes = _read(tmp_path, Options())
    np.testing.assert_allclose(actual.points, clip.points, atol=1e-6)
    assert (actual.fps, notes) == (30, [])


@pytest.mark.parametrize("name", ["openpose", "wholepose", "list of frames"])
def test_byte_order_mark_is_accepted_everywhere(tmp_path, name):
    clip = figure_clip("openpose" if name == "openpose" else "wholepose", FRAMES)
    path = tmp_path / "data" / "CASA" / "clip"
    if name == "list of frames":
        path = put(path.with_suffix(".json"), dumps(mmpose(clip)["instance_info"]))
    else:
        _write(path, name, _frames(name, clip))
    put(tmp_path / "data" / "picture.json", b'{"width": 640, "height": 480}')
    for file in tmp_path.rglob("*.json"):
        file.write_bytes(codecs.BOM_UTF8 + file.read_bytes())
    clips = [_read(path)[0], *(labelled.clip for labelled in read_dataset(tmp_path / "data").clips)]
    [shard] = iterate_shards([tmp_path / "data"], 100)
    with RequestReader(Path(), {}) as reader:
        for source in shard.sources:
            request = reader.read(source)[1]
            options = parse_attributes(request.attributes)
            clips += decode(request.body, request.content_type, LAYOUT, LIMITS, options).clips
    assert len(clips) == 3
    for decoded in clips:
        np.testing.assert_allclose(LAYOUT.select(decoded), LAYOUT.select(clip), atol=1e-6)


# --- errors ---


@pytest.mark.parametrize(
    ("files", "pattern"),
    [
        ({}, r"clip: .*_keypoints\.json"),
        ({"a.txt": b"x", "b.avi": b"x"}, r"a\.txt, b\.avi"),
        (
            {"a_1_keypoints.json": b'{"people": []}', "b_1_keypoints.json": b'{"people": []}'},
            r"a_1_keypoints\.json, b_1_keypoints\.json",
        ),
        ({"a_keypoints.json": b'{"people": []}'}, r"a_keypoints\.json: .*number .*'a'"),
        ({"a_1_keypoints.json": b'{"people": []}', "a_01_keypoints.json": b'{"people": []}'}, "same frame number"),
        ({"1.json": b"[]", "900000000.json": b"[]"}, "1 to 900000000, .*100000"),
        ({"1.json": b"[]", "2.json": b'{"instance_info": []}'}, r"2\.json: .*whole video among 2 files"),
        ({"1_keypoints.json": b""}, r"1_keypoints\.json: .*truncated"),
        ({"1_keypoints.json": b'{"people": [{"pose_keyp'}, r"1_keypoints\.json: .*truncated"),
        ({"1_keypoints.json": b'{"people": 5}'}, r"1_keypoints\.json: Expected `array"),
        ({"1.json": b'{"shapes": []}'}, r"1\.json: .*people, instances or instance_info"),
        ({"1.json": b"[]", "picture.json": b'{"wdth": 640}'}, r"picture\.json: .*wdth"),
    ],
)
def test_folder_that_cannot_be_read_is_an_error_with_its_path(tmp_path, files, pattern):
    folder = tmp_path / "clip"
    folder.mkdir()
    for name, content in files.items():
        put(folder / name, content)
    with pytest.raises(SpoterError, match=pattern) as caught:
        frame_folders.read_frame_folder(folder)
    assert str(folder) in str(caught.value)


def test_openpose_without_hands_is_an_error_but_undetected_hands_are_not(tmp_path, clip):
    frames = _frames("openpose", clip)
    for frame in frames:
        for side in ("left", "right"):
            frame["people"][0][f"hand_{side}_keypoints_2d"] = [0] * 63
    assert np.isnan(_read(_write(tmp_path / "lowered", "openpose", frames))[0].points[:, 95:]).all()
    for frame in frames:
        frame["people"][0] |= {"hand_left_keypoints_2d": [], "hand_right_keypoints_2d": []}
    with pytest.raises(InputError, match="--hand") as caught:
        _read(_write(tmp_path / "without", "openpose", frames))
    assert caught.value.code == "missing_landmarks"


def test_another_model_of_openpose_is_an_error(tmp_path, clip):
    frames = _frames("openpose", clip)
    for frame in frames:
        frame["people"][0]["pose_keypoints_2d"] = [1.0] * 54
    with pytest.raises(InputError, match=r"\b54\b.*\b75\b.*BODY_25"):
        _read(_write(tmp_path, "openpose", frames))


# --- several people ---


@pytest.mark.parametrize("name", ["openpose", "wholepose"])
def test_signer_is_followed_in_any_order_of_people_with_a_note(tmp_path, name):
    clip = figure_clip(name, FRAMES)
    smaller = Clip(clip.points * np.float32(0.4) + np.float32([0.6, 0.1]), clip.names, name)
    signer, passer = _frames(name, clip), _frames(name, smaller)
    key = "people" if name == "openpose" else "instances"
    frames = [
        {key: (passer[i][key] + signer[i][key])[:: 1 if i % 2 else -1] if i != 4 else passer[i][key]}
        for i in range(FRAMES)
    ]
    actual, notes = _read(_write(tmp_path, name, frames))
    expected = clip.points.copy()
    expected[4] = np.nan  # only the passer-by is in this frame
    np.testing.assert_allclose(actual.points, expected, atol=1e-6)
    assert len(notes) == 1 and "several people in 5 of 6 frames" in notes[0]


def test_person_who_is_large_for_a_moment_is_not_the_signer():
    body = figure(OPENPOSE, 10).astype(float)
    no_people = np.empty((0, *body.shape[1:]))
    frames = [points[None] for points in body]
    frames[3] = np.stack([body[3] * 2 + 1, body[3]])
    frames[7] = no_people
    assert choose_signer(frames) == [0, 0, 0, 1, 0, 0, 0, None, 0, 0]


def test_single_person_per_frame_is_chosen_at_any_distance():
    near, far = np.zeros((1, 3, 2)), np.full((1, 3, 2), 9.0)
    assert choose_signer([near, far, np.empty((0, 3, 2))]) == [0, 0, None]


# --- the commands, and data sets ---


def test_predict_features_and_enroll_read_folders(tmp_path, clip):
    folder = _write(tmp_path / "clip", "openpose", _frames("openpose", clip))
    (folder / "signing_000000000002_keypoints.json").unlink()
    sizes = ["--width", "640", "--height", "480"]
    runner = CliRunner()
    predicted = runner.invoke(app, ["predict", str(ROOT / "models" / "dgs11"), str(folder), *sizes])
    assert predicted.exit_code == 0, predicted.output
    assert json.loads(predicted.stdout)["frames"] == FRAMES
    assert "1 of 6 frames" in predicted.stderr
    out = tmp_path / "features.npy"
    assert runner.invoke(app, ["features", str(folder), "--out", str(out), *sizes]).exit_code == 0
    assert np.load(out).shape == (FRAMES, 108)
    model = shutil.copytree(ROOT / "models" / "dgs11", tmp_path / "model")
    enrolled = runner.invoke(app, ["enroll", str(model), "NEW", str(folder), *sizes])
    assert enrolled.exit_code == 0, enrolled.output
    assert "NEW from 1 clip" in enrolled.stdout and "1 of 6 frames" in enrolled.stderr


def test_data_set_may_hold_folders_of_frames(tmp_path):
    clips = {f"{gloss}/{i}": figure_clip("openpose", FRAMES, i) for i, gloss in enumerate(("CASA", "COMER"))}
    for name, clip in clips.items():
        _write(tmp_path / name, "openpose", _frames("openpose", clip))
    with pytest.raises(DataError, match=r"CASA/0: .*pixels"):
        read_dataset(tmp_path)
    put(tmp_path / "picture.json", b'{"width": 640, "height": 480}')
    put(tmp_path / "groups.csv", b"clip,group\nCASA/0,ana\nCOMER/1,ben\n")
    data = read_dataset(tmp_path)
    assert [(clip.name, clip.gloss, clip.group) for clip in data.clips] == [
        ("CASA/0", "CASA", "ana"), ("COMER/1", "COMER", "ben"),
    ]  # fmt: skip
    for clip in data.clips:
        np.testing.assert_allclose(clip.clip.points, clips[clip.name].points, atol=1e-6)


def test_mmpose_files_in_a_data_set_use_its_picture_json_and_bad_folders_are_listed(tmp_path):
    clip = figure_clip("wholepose", FRAMES)
    put(tmp_path / "CASA" / "a.json", dumps(mmpose(clip)["instance_info"]))
    put(tmp_path / "CASA" / "b" / "1_keypoints.json", b"")
    put(tmp_path / "picture.json", b'{"width": 640, "height": 480, "fps": 24}')
    data = read_dataset(tmp_path, skip_bad=True)
    (labelled,) = data.clips
    np.testing.assert_allclose(labelled.clip.points, clip.points, atol=1e-6)
    assert labelled.clip.fps == 24 and ESTIMATORS[data.estimator].name == "wholepose"
    assert "truncated" in data.skipped[0].reason
