"""Clips of large batches: the search for clips, paths that are refused, and predictions equal to a server's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from spoter.batch.inputs import ClipSource, iterate_shards, scan_inputs
from spoter.batch.predictor import ShardPredictor
from spoter.cli.main import app
from spoter.errors import SpoterError
from spoter.formats import Request
from spoter.formats.request import JSON, JSONLINES, NPY
from spoter.formats.response import encode
from spoter.landmarks.connecting_points import clip_from_connecting_points
from spoter.messages import RawRequest
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond
from tests.batch.clips import find_sources, make_clips
from tests.generate import figure_clip
from tests.training.datasets import write_hdf5

FRAME = {"people": [{"pose_keypoints_2d": [0.0] * 75, "hand_left_keypoints_2d": [0.0] * 63}]}


@pytest.fixture(scope="module")
def recognizer(dgs11) -> Recognizer:
    return Recognizer.load(dgs11)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, samples) -> Path:
    """Clips of every kind, good and bad ones, in a folder."""
    root = tmp_path_factory.mktemp("clips")
    for name in ("a", "b/frames", "b/pictures", "c"):
        (root / name).mkdir(parents=True)
    hallo = (samples / "hallo.json").read_bytes()
    (root / "a/hallo.json").write_bytes(hallo)
    (root / "a/two.json").write_bytes(b'{"clips":[%s,{"points":3}]}' % hallo)
    (root / "a/broken.json").write_bytes(b"{")
    (root / "a/groups.csv").write_text("clip,group\n")
    (root / "a/readme.txt").write_text("no clip")
    (root / "a/.hidden.json").write_text("{}")
    (root / "b/frames/x_0_keypoints.json").write_text(json.dumps(FRAME))
    (root / "b/pictures/x0.json").write_text('[{"keypoints": [[1, 2]], "keypoint_scores": [1]}]')
    ich, welt = (samples / "ich-welt.jsonl").read_bytes().splitlines()
    (root / "c/lines.jsonl").write_bytes(b"\n".join([ich, b" ", b"{nonsense", b'{"points":3}', welt]))
    write_hdf5(root / "c/signs.hdf5", make_clips(3))
    with h5py.File(root / "c/signs.hdf5", "a") as file:
        file["3/data"] = np.zeros((2, 2, 7))
        file["4/data"] = make_clips(1)[0][2].transpose(0, 2, 1)  # neither a label nor a name
    np.save(root / "d.npy", figure_clip().points)
    return root


def test_all_kinds_of_clips_are_found_in_a_stable_order(folder):
    files = [
        (Path(source.file).relative_to(folder).as_posix(), source.group, source.line) for source in find_sources(folder)
    ]
    assert files == [
        ("a/broken.json", None, 0),
        ("a/hallo.json", None, 0),
        ("a/two.json", None, 0),
        ("b/frames", None, 0),
        ("b/pictures", None, 0),
        *(("c/lines.jsonl", None, line) for line in (1, 3, 4, 5)),
        *(("c/signs.hdf5", str(group), 0) for group in range(5)),
        ("d.npy", None, 0),
    ]
    scan = scan_inputs([folder])
    assert (scan.sources, scan.skipped) == (15, {".txt": 1})
    shards = list(iterate_shards([folder], 4))
    assert [(shard.number, len(shard.sources)) for shard in shards] == [(0, 4), (1, 4), (2, 4), (3, 3)]
    assert [source for shard in shards for source in shard.sources] == find_sources(folder)


def test_changed_file_changes_the_digest(tmp_path):
    file = write_hdf5(tmp_path / "a.hdf5", make_clips(2))
    before = scan_inputs([file]).digest
    assert scan_inputs([file]).digest == before
    os.utime(file, ns=(0, 0))
    assert scan_inputs([file]).digest != before


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("absent", ".json, "),
        ("a.txt", ".txt, "),
        ("a.mp4", "`spoter extract "),
        ("a.hdf5", "HDF5"),
        ("a.jsonl", ".json, "),
    ],
)
def test_path_without_clips_is_an_error_at_once(tmp_path, monkeypatch, name, part):
    monkeypatch.chdir(tmp_path)
    if name != "absent":
        Path(name).write_bytes(b"")
    with pytest.raises(SpoterError) as error:
        scan_inputs([Path(name)])
    assert str(error.value).startswith(f"{name}: ") and part in str(error.value)


def test_changed_frame_in_a_folder_changes_the_digest(tmp_path):
    frame = tmp_path / "x_0_keypoints.json"
    frame.write_text(json.dumps(FRAME))
    before = scan_inputs([tmp_path])
    with frame.open("a") as file:  # the folder itself does not change
        file.write(" ")
    assert before.sources == 1 and scan_inputs([tmp_path]).digest != before.digest


def test_link_to_a_parent_folder_is_refused(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/clip.json").write_text("{}")
    (tmp_path / "a/b/up").symlink_to("..")
    with pytest.raises(SpoterError, match="b/up: "):
        scan_inputs([tmp_path])
    (tmp_path / "a/b/up").unlink()
    (tmp_path / "other").symlink_to("a")
    assert scan_inputs([tmp_path]).sources == 2


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("nothing")], ids=["pipe", "link"])
def test_pipe_or_broken_link_named_as_a_clip_is_refused(tmp_path, make):
    make(tmp_path / "x.json")
    make(tmp_path / "x.txt")
    with pytest.raises(SpoterError, match=r"x\.json: .*pipe"):
        scan_inputs([tmp_path])


@pytest.mark.parametrize("command", [["predict"], ["batch-pack"]])
def test_output_in_a_folder_of_clips_is_refused(tmp_path, dgs11, command):
    (tmp_path / "clips/more").mkdir(parents=True)
    (tmp_path / "clips/a.json").write_text("{}")
    (tmp_path / "elsewhere").symlink_to("clips/more")
    out = tmp_path / "elsewhere/out.jsonl"
    done = CliRunner().invoke(app, [*command, str(dgs11), str(tmp_path / "clips"), "--out", str(out), "--jobs", "1"])
    assert isinstance(done.exception, SpoterError) and "--out" in str(done.exception)
    assert not list((tmp_path / "clips/more").iterdir())


@pytest.mark.parametrize("name", ["group", "empty", "number", "several"])
def test_name_that_is_not_text_is_ignored(tmp_path, dgs11, name):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["0/data"] = make_clips(1)[0][2].transpose(0, 2, 1)
        if name == "group":
            file.create_group("0/video_name")
        else:
            file["0/video_name"] = {"empty": h5py.Empty("S1"), "number": 3, "several": [b"a", b"b"]}[name]
    line = json.loads(ShardPredictor(dgs11)(find_sources(tmp_path)))
    assert "instances" in line and line["input"].keys() == {"file", "group"}


def test_points_that_are_not_numbers_are_an_error_of_their_clip(tmp_path, dgs11):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["0/data"] = h5py.Empty("f")
        file["1/data"] = "text"
    lines = [json.loads(line) for line in ShardPredictor(dgs11)(find_sources(tmp_path)).splitlines()]
    assert [line["error"]["code"] for line in lines] == ["unreadable_clip"] * 2


def test_predictions_equal_the_servers_and_have_their_places(folder, dgs11, recognizer):
    lines = [json.loads(line) for line in ShardPredictor(dgs11, batch=4)(find_sources(folder)).splitlines()]
    places = [line.pop("input") for line in lines]
    for place in places:
        place["file"] = Path(place["file"]).relative_to(folder).as_posix()

    def server_answer(body: bytes, kind: str) -> dict:
        return json.loads(respond(recognizer, [RawRequest(body, kind)])[0][0].body)

    by_place = {tuple(place.values()): line for place, line in zip(places, lines, strict=True)}
    assert by_place[("a/hallo.json",)] == server_answer((folder / "a/hallo.json").read_bytes(), JSON)
    assert by_place[("d.npy",)] == server_answer((folder / "d.npy").read_bytes(), NPY)
    two = server_answer((folder / "a/two.json").read_bytes(), JSON)["answers"]
    assert [by_place[("a/two.json", i)] for i in (0, 1)] == two
    assert by_place[("a/broken.json",)]["error"]["code"] == "invalid_json"
    assert by_place[("b/frames",)] == {
        "error": {"code": "no_usable_frames", "message": by_place[("b/frames",)]["error"]["message"], "where": None}
    }
    request_lines = (folder / "c/lines.jsonl").read_bytes().splitlines()
    for number in (1, 5):
        assert by_place[("c/lines.jsonl", number)] == server_answer(request_lines[number - 1], JSONLINES)
    wrong = by_place[("c/lines.jsonl", 4)]["error"]
    assert (wrong["code"], wrong["where"]) == ("wrong_type", "points")  # and not "line 1", its number in the request
    for i, (name, _, points) in enumerate(make_clips(3)):
        (answer,) = recognizer.recognize([clip_from_connecting_points(points)])
        assert by_place[("c/signs.hdf5", str(i), name)] == json.loads(encode(Request([]), [answer], JSON))
    assert by_place[("c/signs.hdf5", "3")]["error"]["code"] == "unreadable_clip"
    assert by_place[("c/signs.hdf5", "4")] == by_place[("c/signs.hdf5", "0", "camera/0")]


def test_picture_json_overrides_options(tmp_path, dgs11):
    np.save(tmp_path / "clip.npy", 1000 * figure_clip().points)
    source = find_sources(tmp_path)[0]
    assert b"out_of_range" in ShardPredictor(dgs11)([source])
    line = json.loads(ShardPredictor(dgs11, options={"top_k": 2, "width": 1000, "height": 1000})([source]))
    assert len(line["instances"]) == 2
    (tmp_path / "picture.json").write_text('{"width": 1000, "height": 1000}')
    other_size = {"top_k": 2, "width": 5, "height": 5}
    assert json.loads(ShardPredictor(dgs11, options=other_size)(find_sources(tmp_path))) == line


def test_nearest_picture_json_is_used(tmp_path):
    for name, options in (("", {"width": 1280, "height": 720}), ("ana", {"width": 640, "fps": 25}), ("ben/empty", {})):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "picture.json").write_text(json.dumps(options))
    for name in ("clip", "ana/clip", "ana/below/clip", "ben/clip", "ben/empty/clip"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.json").write_text("{}")
    for name in ("ana/frames", "ben/frames"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x_0_keypoints.json").write_text(json.dumps(FRAME))
    (tmp_path / "ben/frames/picture.json").write_text('{"width": 320}')
    outer, inner = "width=1280.0,height=720.0", "width=640.0,fps=25.0"
    assert {
        Path(source.file).relative_to(tmp_path).as_posix(): source.options for source in find_sources(tmp_path)
    } == {
        "clip.json": outer,
        "ana/clip.json": inner,
        "ana/below/clip.json": inner,
        "ana/frames": inner,
        "ben/clip.json": outer,
        "ben/empty/clip.json": "",
        "ben/frames": "width=320.0",
    }
    before = scan_inputs([tmp_path]).digest
    (tmp_path / "ana/picture.json").write_text('{"width": 641}')
    assert scan_inputs([tmp_path]).digest != before
    (tmp_path / "ana/picture.json").write_text('{"width": "wide"}')
    with pytest.raises(SpoterError, match=r"ana/picture.json: "):
        scan_inputs([tmp_path])


def test_missing_file_is_an_error_of_its_clip(tmp_path, dgs11):
    lines = ShardPredictor(dgs11)(
        [ClipSource(str(tmp_path / "x.json")), ClipSource(str(tmp_path / "x.hdf5"), group="0")]
    )
    assert [json.loads(line)["error"]["code"] for line in lines.splitlines()] == ["unreadable_clip"] * 2
