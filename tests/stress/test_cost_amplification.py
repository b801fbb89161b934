"""Hostile bodies are refused by counting, before they are decoded into millions of objects."""

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
# Bodies like those of stress.hostile_bodies, by the objects that are not created.
REFUSED = {
    "frames": (b'{"keypoints":[' + b"{}," * 1_600_000 + b"{}]}", JSON, "too_many_values"),
    "a frame's people": (b'{"keypoints":[{"people":[' + b"{}," * 1_600_000 + b"{}]}]}", JSON, "too_many_values"),
    "lists": (b'{"points":[' + b"[]," * 1_600_000 + b"[]]}", JSON, "too_many_values"),
    "frames and clips": (b'{"clips":[],"frames":[' + b"{}," * 1_600_000 + b"{}]}", JSON, "too_many_values"),
    "clips": (b'{"clips":[' + b"{}," * 1_600_000 + b"{}]}", JSON, "too_many_clips"),
    "lists in one clip": (b'{"clips":[{"points":[' + b"[]," * 1_600_000 + b"[]]}]}", JSON, "too_many_values"),
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
def test_hostile_body_needs_little_memory_in_addition_to_its_size(name):
    body, kind, code = REFUSED[name]
    with pytest.raises(InputError):
        decode(b"{}", JSON, LAYOUT, Limits())  # create objects that are created only once
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


def test_memory_does_not_depend_on_the_maximum_number_of_clips():
    body = json.dumps({"points": [[[0.5, 0.5]] * 54]}).encode()
    decode(body, JSON, LAYOUT, Limits())  # create objects that are created only once
    tracemalloc.start()
    try:
        decode(body, JSON, LAYOUT, dataclasses.replace(clip_files.LIMITS, max_clips=100_001))  # not used by other tests
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_largest_honest_body_is_decoded():
    point = b'{"x":0.1,"y":0.1,"z":0.1,"visibility":1,"presence":1}'
    parts = {"pose": 33, "face": 478, "left_hand": 21, "right_hand": 21, "pose_world": 33}
    frame = b",".join(b'"%s_landmarks":[%s]' % (p.encode(), b",".join([point] * n)) for p, n in parts.items())
    body = b'{"keypoints":[' + b",".join([b"{%s}" % frame] * 512) + b"]}"
    for layout in ("54", "71"):  # layout 71 uses face landmarks
        assert len(decode(body, JSON, load_layout(layout), Limits(max_bytes=len(body))).clips[0]) == 512


LONG = [f"0.{'0' * 305}123", f"123{'0' * 305}", f"{'7310462859' * 21}e98"]  # runs of 200 digits or more


@pytest.mark.parametrize("number", ["1e-310", "2E-308", "1.7976931348623157e308", "0.1e-00310", *LONG])
def test_numbers_that_are_slow_to_parse_are_counted(number):
    for kind, before, item, after in (
        (JSON, '{"points":[[', f"[{number},0]", "]]}"),
        (LINES, '{"points":[[', f"[{number},0]", "]]}"),
        (CSV, 'wrist_left_X,b\n"[', number, ']",0'),
    ):
        body = (before + ",".join([item] * 50_001) + after).encode()
        with pytest.raises(InputError) as refused:
            decode(body, kind, load_layout("spoter54"), Limits())
        assert (refused.value.code, refused.value.where) == ("out_of_range", None)


def test_a_few_slow_numbers_are_accepted():
    points = [[[1e-310, 0.5]] * 54] * 3
    assert len(decode(json.dumps({"points": points, "layout": 54}).encode(), JSON, LAYOUT, Limits()).clips[0]) == 3


def test_line_numbers_include_blank_lines():
    [first, second] = decode(b"\n \n{}\n\r\n\n {}", LINES, LAYOUT, Limits()).clips
    assert (first.where, second.where) == ("line 3", "line 6")


@pytest.mark.parametrize("length", [5, (1 << 20) - 1, (1 << 20) + 3, 1 << 21])
def test_invalid_utf8_is_located(length):
    valid = "é".encode() * (length // 2) + b"a" * (length % 2)
    check_utf8(valid)
    with pytest.raises(UnicodeDecodeError) as error:
        check_utf8(valid + b"\xff" + b"a" * 1000)
    assert error.value.start == length
    with pytest.raises(UnicodeDecodeError) as error:
        check_utf8(valid + b"\xc3")
    assert error.value.start == length


def test_missing_glosses_of_a_huge_config_need_no_memory(tmp_path):
    (tmp_path / "meaning.json").write_text('{"0":"A"}')
    tracemalloc.start()
    with pytest.raises(ModelFolderError, match=r"meaning\.json.* 1 .*2000000"):
        read_glosses(tmp_path / "meaning.json", 2_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_hostile_bodies_respect_the_requested_size():
    for body in hostile_bodies(LAYOUT)[1:]:
        request = body.make(100_000)
        assert len(request.body) <= 100_000 + 16_000, body.name


def test_cost_above_the_limits_is_too_high():
    cheap = Cost("a", 26_000_000, 400, "x", 0.1, 10_000_000, False)
    assert not cheap.is_too_high
    assert Cost("a", 26_000_000, 400, "x", 0.7, 0, False).is_too_high
    assert Cost("a", 26_000_000, 400, "x", 0.1, 140_000_000, False).is_too_high
    assert not Cost("a", 26_000_000, 200, None, 0.7, 140_000_000, True).is_too_high


def test_slow_measurement_is_repeated():
    def measure(*seconds: float) -> tuple[Cost, int]:
        costs = [Cost("a", 26_000_000, 400, "x", each, 0, False) for each in seconds]
        return lowest_cost(lambda: costs.pop(0)), len(seconds) - len(costs)

    for seconds, expected in (((0.1, 0.9), (0.1, 1)), ((0.9, 0.7, 0.5), (0.5, 3)), ((0.9,) * 4, (0.9, TRIES))):
        cost, tries = measure(*seconds)
        assert (cost.seconds, tries) == expected
