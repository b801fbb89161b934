"""Request bodies of the maximum size that cost the server much more than their sender."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load.bodies import full_request
from spoter.formats.json_format import BRACKET_BYTES, COMMA_BYTES, MAX_EXPANSION
from spoter.formats.request import CSV, JSON, JSONLINES, NPY
from spoter.formats.spoter_csv import NAMES
from spoter.landmarks.layouts import Layout
from spoter.limits import Limits
from spoter.messages import RawRequest

MakeBody = Callable[[int], bytes]  # returns a body, given the maximum number of bytes


@dataclass(frozen=True)
class HostileBody:
    """A hostile request of a given maximum size."""

    name: str
    content_type: str
    make_body: MakeBody
    options: dict[str, Any] = field(default_factory=dict)  # other fields of the `RawRequest`
    honest: bool = False  # whether real clients send such requests, whose cost has no limit

    def make(self, size: int) -> RawRequest:
        """Return a request of at most `size` bytes; a JSON body is padded to `size` with spaces."""
        body = self.make_body(size)
        return RawRequest(body.ljust(size) if self.content_type == JSON else body, self.content_type, **self.options)


def hostile_bodies(layout: Layout) -> list[HostileBody]:
    """Return an honest request of the maximum size, then all hostile requests for a model with `layout`."""
    honest = HostileBody("full Holistic, 512 frames", JSON, lambda size: full_request(512), honest=True)
    bodies = {JSON: _json_bodies(), JSONLINES: _JSON_LINES, CSV: _tables(layout), NPY: _NPY}
    headers = {
        "100,000 attributes": {"attributes": ",".join(["top_k=1"] * 100_000)},
        "1,000,000 commas for attributes": {"attributes": "," * 1_000_000},
        "100,000 types in Accept": {"accept": ",".join(["a/b;q=0.1"] * 100_000)},
    }
    return [
        honest,
        *(HostileBody(name, kind, make) for kind, makers in bodies.items() for name, make in makers.items()),
        *(HostileBody(name, JSON, lambda size: b'{"describe":true}', options) for name, options in headers.items()),
    ]


def _repeat(before: str, item: str, after: str = "", most: int = sys.maxsize) -> MakeBody:
    """Return a maker of bodies: `before`, as many `item` as fit (at most `most`), and `after`."""

    def make(size: int) -> bytes:
        count = (size - len(f"{before}{after}".encode())) // len(item)
        return f"{before}{item * min(count, most)}{after}".encode()

    return make


def _list(before: str, item: str, after: str, most: int = sys.maxsize) -> MakeBody:
    """Return the same as `_repeat`, with commas between the items."""
    return _repeat(before, f"{item},", f"{item}{after}", most - 1)


_ENROLLED = '{"clips":[{}],"enrolled":{"space":"","glosses":['
# Millions of small items in a list or an object.
_LISTS = {
    "clips: [{}, …]": ('{"clips":[', "{}", "]}"),
    "clips: [null, …]": ('{"clips":[', "null", "]}"),
    "clips: [0, …]": ('{"clips":[', "0", "]}"),
    "one clip of frames {}": ('{"clips":[{"keypoints":[', "{}", "]}]}"),
    "keypoints: [{}, …]": ('{"keypoints":[', "{}", "]}"),
    "keypoints: [null, …]": ('{"keypoints":[', "null", "]}"),
    "frames: [{people: [{}]}, …]": ('{"frames":[', '{"people":[{}]}', "]}"),
    "people of a frame: [{}, …]": ('{"keypoints":[{"people":[', "{}", "]}]}"),
    "numbers of a person: [0, …]": ('{"keypoints":[{"people":[{"pose_keypoints_2d":[', "0", "]}]}]}"),
    "instances: [{keypoints: [[0,0]]}, …]": ('{"frames":[{"instances":[', '{"keypoints":[[0,0]]}', "]}]}"),
    "pose_landmarks: [{}, …]": ('{"keypoints":[{"pose_landmarks":[', "{}", "]}]}"),
    "points: [[], …]": ('{"points":[', "[]", "]}"),
    "points: [[[0,0], …]]": ('{"points":[[', "[0,0]", "]]}"),
    "points: [null, …]": ('{"points":[', "null", "]}"),
    "a track of [0,0], …": ('{"points":{"pose_nose":[', "[0,0]", "]}}"),
    "enrolled: glosses": (_ENROLLED, '{"gloss":"","clips":1,"prototype":[]}', "]}}"),
    "enrolled: prototype of [0, …]": (_ENROLLED + '{"gloss":"","clips":1,"prototype":[', "0", "]}]}}"),
    "repeated key: top_k": ("{", '"top_k":1', "}"),
    "repeated key: keypoints": ("{", '"keypoints":[{}]', "}"),
    "face_landmarks: [], …": ('{"keypoints":[{', '"face_landmarks":[]', "}]}"),
    "unclosed face_landmarks": ('{"keypoints":[{', '"face_landmarks":[', "}]}"),
    "nested face_landmarks": ('{"keypoints":[{', '"face_landmarks":[[]', "}]}"),
    "unknown key: [{}, …]": ('{"a":[', "{}", "]}"),
}  # fmt: skip
# Numbers that are slow to parse.
_NUMBERS = {
    "integers of 4,000 digits": "1" * 4000,
    "numbers 1e400": "1e400",
    "numbers 1e-310": "1e-310",
    "numbers 1e-400": "1e-400",
    "numbers -0": "-0",
    "numbers of 700 digits": f"0.{'1' * 700}",
    "the smallest normal number": "2.2250738585072014e-308",
    "the largest number": "1.7976931348623157e308",
    "midpoints between two doubles": "9007199254740993.0",
    "305 zeros after the point": f"0.{'0' * 305}123",
    "305 zeros before the point": f"123{'0' * 305}",
    "200 zeros and an exponent": f"2{'0' * 205}2e98",
    "200 digits and an exponent": f"{'7310462859' * 21}e98",
}
# Deep nesting, long strings, and a letter with which Python stores every letter of the body in four bytes.
_LONG = {
    "nested lists": ("", "["),
    "nested lists in points": ('{"points":', "["),
    "nested objects, unknown": ("", '{"a":'),
    "fps: 0.111…": ('{"fps":0.', "1", "}"),
    "enroll: 👋 and a long string": ('{"keypoints":[{}],"enroll":"👋', "a", '"}'),
    "estimator: \\u0000…": ('{"keypoints":[{}],"estimator":"', r"\u0000", '"}'),
    "a key as long as the body": ('{"', "a", '":0}'),
    "white space": ("{", " ", "}"),
    "uniqueName: a long string": ('{"uniqueName":"', "a", '"}'),
} | {
    f"{key}: a long string": (f'{{"{key}":"', "a", '","keypoints":[{}]}')
    for key in ("enroll", "estimator", "layout", "unknown")
} | {
    f"{key}: an integer as long as the body": (f'{{"{key}":', "1", "}") for key in ("fps", "top_k", "layout", "unknown")
}  # fmt: skip


def _json_bodies() -> dict[str, MakeBody]:
    bodies = {name: _repeat(*parts) for name, parts in _LONG.items()}
    for name, (before, item, after) in _LISTS.items():
        item_cost = BRACKET_BYTES * (item.count("{") + item.count("[")) + COMMA_BYTES * (item.count(",") + 1)
        most = MAX_EXPANSION * Limits.max_bytes // item_cost - 1
        bodies |= {name: _list(before, item, after), f"{name}, accepted number": _list(before, item, after, most)}
    for name, number in _NUMBERS.items():
        bodies[name] = _list('{"points":[[', f"[{number},0]", "]]}", 1_000_000)
    return bodies | {
        # Millions of different names.
        "unknown keys": _numbered("{", '"{:07}":0', "}", ","),
        "unknown keys after describe": _numbered('{"describe":true,', '"{:07}":0', "}", ","),
        "points with unknown names": _numbered('{"points":{', '"{:07}":0', "}}", ","),
        "nested objects, closed": lambda size: b'{"a":' * (size // 6) + b"0" + b"}" * (size // 6 - 1),
        "clips of 1e-310": lambda size: b'{"clips":[' + b",".join(_slow_clips(size)) + b"]}",
    }


def _numbered(before: str, item: str, after: str, separator: str) -> MakeBody:
    """Return a maker of bodies: `before`, as many items as fit, each formatted with its number, and `after`."""

    def make(size: int) -> bytes:
        count = size // (len(item.format(0)) + len(separator)) - 3
        return (before + separator.join(map(item.format, range(count))) + after).encode()

    return make


def _slow_clips(size: int) -> list[bytes]:
    return [b'{"points":[[%s]]}' % b",".join([b"[1e-310,0]"] * (size // 720))] * 64


_JSON_LINES = {
    "lines of 1e-310": lambda size: b"\n".join(_slow_clips(size)),
    "JSON lines {}": _repeat("", "{}\n"),
    "JSON lines, blank": _repeat("{}", "\n"),
    "JSON line of frames {}": _list('{"keypoints":[', "{}", "]}"),
}
# Enough columns to be recognized as a data set, with all columns that layout spoter54 needs.
_DATA_SET = ",".join(
    f"{name}_{axis}" for name in NAMES for axis in "XY" if not name.endswith(("_0", "_1", "_Left", "_Right"))
)
_DATA_SET_COMMAS = "," * _DATA_SET.count(",")


def _tables(layout: Layout) -> dict[str, MakeBody]:
    """Return CSV tables with more columns, rows, clips and cells than real ones."""
    wide = ",".join(f"{name}_{axis}" for name in layout.names for axis in "xy")
    cells = "," * (2 * len(layout) - 1)
    long = "frame,type,landmark_index,x,y"
    rows = {
        "wide table, empty rows": (wide, cells),
        "wide table, rows of 0": (wide, "0" + cells.replace(",", ",0")),
        "wide table, rows of quotes": (wide, '""' + cells),
        "wide table with clips": (f"clip,{wide}", "1," + cells),
        "wide table, accepted number of rows": (wide, cells.ljust(800)),
        "wide table with clips, accepted number of rows": (f"clip,{wide}", "1," + cells.ljust(800)),
        "long table": (long, "0,pose,0,,"),
        "long table with clips": (f"clip,{long}", "1,0,pose,0,,"),
        "long table of words": (long, "a,b,c,d,e"),
        "long table, accepted number of rows": (long, "0,pose,0,0.50000,0.5000000".ljust(50, "0")),
        "long table with clips, accepted number of rows": (f"clip,{long}", "1,0,pose,0,0.5000,0.50000".ljust(50, "0")),
        "long table of words, accepted number of rows": (long, "a,b,c,d,e".ljust(50, "e")),
        "table of two columns": ("frame_x,b", "0,"),
        "blank lines": (wide, ""),
        "data set, empty rows": (_DATA_SET, _DATA_SET_COMMAS),
        "👋 and a table": ("👋,b_x", "0,0"),
    }
    slow_row = ",".join(['"[' + "1e-310," * 449 + '0]"'] * (1 + len(_DATA_SET_COMMAS)))
    bodies = {name: _repeat(f"{header}\n", f"{row}\n", row) for name, (header, row) in rows.items()}
    return bodies | {
        "long table of clips": _numbered(f"clip,{long}\n", "{:07},0,pose,0,0.5000,0.5".ljust(48, "0"), "", "\n"),
        "1,000,000 columns": lambda size: ",".join(f"a{i}_x" for i in range(10**6))[:size].encode(),
        "only commas": _repeat("", ","),
        "a quoted cell as long as the body": _repeat('"', "a", '"'),
        "data set, a cell of 10 MB": _repeat(f'{_DATA_SET}\n"[', "0,", f'0]"{_DATA_SET_COMMAS}', 5 * 10**6),
        "a data set of 1e-310": lambda size: "\n".join([_DATA_SET, *[slow_row] * 64])[:size].encode(),
    }


def _npy(shape: str) -> MakeBody:
    """Return a maker of zeros with a header that claims another shape."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    head = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    return lambda size: head.ljust(size, b"\0")


_NPY = {
    f"npy of {shape}": _npy(shape) for shape in ("(1000000000000, 54, 2)", "(0, 1000000000000, 2)", "(3000000, 1, 2)")
} | {
    "npy, a header as long as the body": lambda size: (
        b"\x93NUMPY\x02\x00" + (size - 12).to_bytes(4, "little") + b"(" * (size - 12)
    )
}
