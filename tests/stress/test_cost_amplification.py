"""Bodies made to cost are refused by counting, before they are made into millions of objects."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc

import pytest

from spoter.errors import InputError, ModelFolderError
from spoter.formats import Limits, decode
from spoter.formats.body_guards import check_utf8
from spoter.landmarks.layouts import load_layout
from spoter.model.folder import read_glosses
from spoter.sources import clip_files
from stress.cost_amplification import TRIES, Cost, lowest_cost
from stress.hostile_bodies import hostile_bodies

LAYOUT = load_layout("54")
SIZE = 5_000_000
JSON, LINES, CSV = "application/json", "application/jsonlines", "text/csv"
# What each would be made into, and is not: pieces of the bodies of stress.hostile_bodies.
REFUSED = {
    "frames": (b'{"keypoints":[' + b"{}," * 1_600_000 + b"{}]}", JSON, "too_many_values"),
    "a frame's people": (b'{"keypoints":[{"people":[' + b"{}," * 1_600_000 + b"{}]}]}", JSON, "too_many_values"),
    "lists": (b'{"points":[' + b"[]," * 1_600_000 + b"[]]}", JSON, "too_many_values"),
    "frames and clips": (b'{"clips":[],"frames":[' + b"{}," * 1_600_000 + b"{}]}", JSON, "too_many_values"),
    "clips": (b'{"clips":[' + b"{}," * 1_600_000 + b"{}]}", JSON, "too_many_clips"),
    "few clips, one of them all": (b'{"clips":[{"points":[' + b"[]," * 1_600_000 + b"[]]}]}", JSON, "too_many_values"),
    "keys": (("{" + ",".join(f'"{i}":0' for i in range(400_000)) + "}").encode(), JSON, "unknown_form"),
    "landmarks": (
        ('{"points":{' + ",".join(f'"{i}":0' for i in range(400_000)) + "}}").encode(), JSON, "unknown_landmark",
    ),
    "enrolled numbers": (
        b'{"clips":[{}],"enrolled":{"space":"","glosses":[{"gloss":"","clips":1,"prototype":[' + b"0," * 2_000_000
        + b"0]}]}}", JSON, "too_many_enrolled",
    ),
    "blank lines": (b"{}" + b"\n" * SIZE, LINES, "unknown_form"),
    "rows": ((",".join(f"{name}_{axis}" for name in LAYOUT.names for axis in "xy") + "\n" + ("," * 107 + "\n") * 40_000)
             .encode(), CSV, "too_many_frames"),
    "rows of landmarks": (b"frame,type,landmark_index,x,y\n" + b"0,pose,0,,\n" * 480_000, CSV, "too_many_frames"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_body_takes_little_more_memory_than_its_own(name):
    body, kind, code = REFUSED[name]
    with pytest.raises(InputError) as refused:
        decode(b"{}", JSON, LAYOUT, Limits())  # what is made once
    tracemalloc.start()
    try:
        try:
            [refused] = decode(body, kind, LAYOUT, Limits()).clips
        except InputError as error:
            refused = error
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused.code == code
    assert peak < 2.5 * len(body) + 10_000_000


def test_memory_does_not_grow_with_the_limit_of_clips():
    body = json.dumps({"points": [[[0.5, 0.5]] * 54]}).encode()
    decode(body, JSON, LAYOUT, Limits())  # what is made once
    tracemalloc.start()
    try:
        decode(body, JSON, LAYOUT, dataclasses.replace(clip_files.LIMITS, max_clips=100_001))  # no other test's limit
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_as_much_as_people_send_is_read():
    point = b'{"x":0.1,"y":0.1,"z":0.1,"visibility":1,"presence":1}'
    parts = {"pose": 33, "face": 478, "left_hand": 21, "right_hand": 21, "pose_world": 33}
    frame = b",".join(b'"%s_landmarks":[%s]' % (p.encode(), b",".join([point] * n)) for p, n in parts.items())
    body = b'{"keypoints":[' + b",".join([b"{%s}" % frame] * 512) + b"]}"
    for layout in ("54", "71"):  # the latter is fed the face
        assert len(decode(body, JSON, load_layout(layout), Limits(max_bytes=len(body))).clips[0]) == 512


LONG = [f"0.{'0' * 305}123", f"123{'0' * 305}", f"{'7310462859' * 21}e98"]  # these two in bodies above 5 MB alone


@pytest.mark.parametrize("number", ["1e-310", "2E-308", "1.7976931348623157e308", "0.1e-00310", *LONG])
def test_numbers_that_take_long_to_read_are_counted(number):
    for kind, before, item, after in (
        (JSON, '{"points":[[', f"[{number},0]", "]]}"),
        (LINES, '{"points":[[', f"[{number},0]", "]]}"),
        (CSV, 'wrist_left_X,b\n"[', number, ']",0'),
    ):
        body = (before + ",".join([item] * 50_001) + after).encode()
        with pytest.raises(InputError) as refused:
            decode(body, kind, load_layout("spoter54"), Limits())
        assert (refused.value.code, refused.value.where) == ("out_of_range", None)


def test_a_few_of_them_are_numbers_like_others():
    points = [[[1e-310, 0.5]] * 54] * 3
    assert len(decode(json.dumps({"points": points, "layout": 54}).encode(), JSON, LAYOUT, Limits()).clips[0]) == 3


def test_lines_are_counted_past_blank_ones():
    [clip, later] = decode(b"\n \n{}\n\r\n\n {}", LINES, LAYOUT, Limits()).clips
    assert (clip.where, later.where) == ("line 3", "line 6")


@pytest.mark.parametrize("length", [5, (1 << 20) - 1, (1 << 20) + 3, 1 << 21])
def test_the_place_of_what_is_not_utf_8(length):
    whole = "é".encode() * (length // 2) + b"a" * (length % 2)
    check_utf8(whole)
    with pytest.raises(UnicodeDecodeError) as broken:
        check_utf8(whole + b"\xff" + b"a" * 1000)
    assert broken.value.start == length
    with pytest.raises(UnicodeDecodeError) as broken:
        check_utf8(whole + b"\xc3")
    assert broken.value.start == length


def test_a_config_of_billions_of_glosses_makes_none_of_them(tmp_path):
    (tmp_path / "meaning.json").write_text('{"0":"A"}')
    tracemalloc.start()
    with pytest.raises(ModelFolderError, match="found 1 entries, expected a gloss for each of the model's 2000000"):
        read_glosses(tmp_path / "meaning.json", 2_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_every_hostile_body_is_as_large_as_was_asked_for():
    for body in hostile_bodies(LAYOUT)[1:]:
        made = body.make(100_000)
        assert len(made.body) <= 100_000 + 16_000, body.name


def test_what_costs_too_much_is_told():
    cheap = Cost("a", 26_000_000, 400, "x", 0.1, 10_000_000, False)
    assert not cheap.is_too_high
    assert Cost("a", 26_000_000, 400, "x", 0.7, 0, False).is_too_high
    assert Cost("a", 26_000_000, 400, "x", 0.1, 140_000_000, False).is_too_high
    assert not Cost("a", 26_000_000, 200, None, 0.7, 140_000_000, True).is_too_high


def test_a_moment_in_which_the_machine_was_slow_is_not_taken_for_the_body():
    def answered(*seconds: float) -> tuple[Cost, int]:
        left = [Cost("a", 26_000_000, 400, "x", each, 0, False) for each in seconds]
        return lowest_cost(lambda: left.pop(0)), len(seconds) - len(left)

    for seconds, expected in (((0.1, 0.9), (0.1, 1)), ((0.9, 0.7, 0.5), (0.5, 3)), ((0.9,) * 4, (0.9, TRIES))):
        found, tries = answered(*seconds)
        assert (found.seconds, tries) == expected
