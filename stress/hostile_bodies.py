"""Bodies as large as a request may be, made to cost the server far more than they cost their sender."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.load.bodies import full_request
from spoter.formats.json_format import BRACKET_BYTES, COMMA_BYTES, MAX_EXPANSION
from spoter.formats.request import CSV, JSON, JSONLINES, NPY
from spoter.formats.spoter_csv import NAMES
from spoter.landmarks.layouts import Layout
from spoter.limits import Limits
from spoter.messages import RawRequest

Make = Callable[[int], RawRequest]
# Enough of a data set's points to be taken for one, and all that layout spoter54 needs.
_DATA_SET = ",".join(
    f"{name}_{axis}"
    for name in NAMES
    for axis in "XY"
    if not name.endswith(("_0", "_1", "_Left", "_Right"))
)  # fmt: skip


@dataclass(frozen=True)
class Hostile:
    """A request of at most so many bytes, made when it is asked for.

    Attributes
    ----------
    name : str
    make : callable
        The number of bytes -> the request.
    honest : bool
        Whether people send such: it may cost what it costs.
    """

    name: str
    make: Make
    honest: bool = False


def hostile(layout: Layout) -> list[Hostile]:
    """Return all such requests for a model of `layout`, and first what an honest one of as many bytes costs."""
    honest = Hostile("full Holistic, 512 frames", lambda size: RawRequest(full_request(512), JSON), honest=True)
    makers = (*_json(), *_names(), *_nested(), *_numbers(), *_slow(), *_words(), *_tables(layout), *_others())
    return [honest, *(Hostile(name, make) for name, make in makers)]


def _filled(before: str, item: str, after: str, size: int, separator: str = ",", most: int | None = None) -> bytes:
    """Return `before`, as many of `item` as there is room for, `most` at most, and `after`."""
    count = (size - len(before) - len(after)) // (len(item) + len(separator))
    count = count if most is None else min(count, most)
    return f"{before}{(item + separator) * (count - 1)}{item}{after}".encode()


def _json() -> Iterator[tuple[str, Make]]:
    """Yield small things in great numbers, where a list or an object is expected; and just as many as are decoded."""
    lists = {
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
        "enrolled: glosses": (
            '{"keypoints":[{}],"enrolled":{"space":"","glosses":[', '{"gloss":"","clips":1,"prototype":[]}', "]}}",
        ),
        "enrolled: prototype of [0, …]": (
            '{"clips":[{}],"enrolled":{"space":"","glosses":[{"gloss":"","clips":1,"prototype":[', "0", "]}]}}",
        ),
        "the same key again: top_k": ("{", '"top_k":1', "}"),
        "the same key again: keypoints": ("{", '"keypoints":[{}]', "}"),
        "faces: [], …": ('{"keypoints":[{', '"face_landmarks":[]', "}]}"),
        "faces without an end": ('{"keypoints":[{', '"face_landmarks":[', "}]}"),
        "faces within faces": ('{"keypoints":[{', '"face_landmarks":[[]', "}]}"),
        "nothing known: [{}, …]": ('{"a":[', "{}", "]}"),
    }  # fmt: skip
    for name, (before, item, after) in lists.items():
        yield name, _json_of(before, item, after)
        made = BRACKET_BYTES * (item.count("{") + item.count("[")) + COMMA_BYTES * (item.count(",") + 1)
        yield (
            f"{name}, as many as are read",
            _json_of(before, item, after, MAX_EXPANSION * Limits.max_bytes // made - 1),
        )


def _json_of(before: str, item: str, after: str, most: int | None = None) -> Make:
    return lambda size: RawRequest(_filled(before, item, after, size, most=most).ljust(size), JSON)


def _names() -> Iterator[tuple[str, Make]]:
    """Yield objects of millions of names, all different."""
    for name, before, after in (
        ("unknown keys", "{", "}"),
        ("unknown keys beside describe", '{"describe":true,', "}"),
        ("points by unknown names", '{"points":{', "}}"),
    ):
        yield (
            name,
            lambda size, before=before, after=after: RawRequest(
                (before + ",".join(f'"{i:07}":0' for i in range(size // 12 - 3)) + after).encode(), JSON
            ),
        )


def _nested() -> Iterator[tuple[str, Make]]:
    yield "nested lists", lambda size: RawRequest(b"[" * size, JSON)
    yield "nested lists in points", lambda size: RawRequest(b'{"points":' + b"[" * (size - 10), JSON)
    yield "nested objects, unknown", lambda size: RawRequest(b'{"a":' * (size // 5), JSON)
    yield (
        "nested objects, closed",
        lambda size: RawRequest(b'{"a":' * (size // 6) + b"0" + b"}" * (size // 6 - 1), JSON),
    )


def _numbers() -> Iterator[tuple[str, Make]]:
    """Yield numbers that take long to read."""
    for key in ("fps", "top_k", "layout", "unknown"):
        yield (
            f"{key}: an integer of all digits",
            lambda size, key=key: RawRequest(f'{{"{key}":{"1" * (size - len(key) - 5)}}}'.encode(), JSON),
        )
    yield "fps: 0.111…", lambda size: RawRequest(b'{"fps":0.' + b"1" * (size - 10) + b"}", JSON)
    numbers = {
        "integers of 4,000 digits": "1" * 4000,
        "numbers 1e400": "1e400",
        "numbers 1e-310": "1e-310",
        "numbers 1e-400": "1e-400",
        "numbers -0": "-0",
        "numbers of 700 digits": f"0.{'1' * 700}",
        "the least normal number": "2.2250738585072014e-308",
        "the greatest number": "1.7976931348623157e308",
        "halves between two numbers": "9007199254740993.0",
        "300 zeros": f"0.{'0' * 305}123",
        "300 zeros before the point": f"123{'0' * 305}",
        "200 zeros and an exponent": f"2{'0' * 205}2e98",
        "200 digits and an exponent": f"{'7310462859' * 21}e98",
    }
    for name, number in numbers.items():
        yield name, _json_of('{"points":[[', f"[{number},0]", "]]}", 1_000_000)


def _slow() -> Iterator[tuple[str, Make]]:
    """Yield numbers that take long to read, in as many places as a request has."""
    yield (
        "clips of 1e-310",
        lambda size: RawRequest(
            b'{"clips":[' + b",".join([b'{"points":[[%s]]}' % b",".join([b"[1e-310,0]"] * (size // 720))] * 64) + b"]}",
            JSON,
        ),
    )
    yield (
        "lines of 1e-310",
        lambda size: RawRequest(
            b"\n".join([b'{"points":[[%s]]}' % b",".join([b"[1e-310,0]"] * (size // 720))] * 64), JSONLINES
        ),
    )
    yield "a data set of 1e-310", lambda size: RawRequest(
        "\n".join([_DATA_SET, *[",".join(['"[' + "1e-310," * 449 + '0]"'] * (1 + _DATA_SET.count(",")))] * 64])[
            : size
        ].encode(), CSV
    )  # fmt: skip


def _words() -> Iterator[tuple[str, Make]]:
    """Yield words as long as a body, and letters that make every letter beside them take four bytes."""
    for key in ("enroll", "estimator", "layout", "uniqueName", "unknown"):
        yield f"{key}: a long word", lambda size, key=key: RawRequest(
            b'{"%s":"%s"%s}' % (
                key.encode(), b"a" * (size - 40), b"" if key == "uniqueName" else b',"keypoints":[{}]'
            ), JSON
        )  # fmt: skip
    yield (
        "enroll: 👋 and a long word",
        lambda size: RawRequest('{"keypoints":[{}],"enroll":"👋'.encode() + b"a" * (size - 40) + b'"}', JSON),
    )
    yield (
        "estimator: \\u0000…",
        lambda size: RawRequest(b'{"keypoints":[{}],"estimator":"' + rb"\u0000" * (size // 6 - 10) + b'"}', JSON),
    )
    yield "a key as long as the body", lambda size: RawRequest(b'{"' + b"a" * (size - 6) + b'":0}', JSON)
    yield "white space", lambda size: RawRequest(b"{" + b" " * (size - 2) + b"}", JSON)


def _tables(layout: Layout) -> Iterator[tuple[str, Make]]:
    """Yield tables with more columns, rows, clips and cells than anybody has."""
    wide = ",".join(f"{name}_{axis}" for name in layout.names for axis in "xy")
    cells = "," * (2 * len(layout) - 1)
    long = "frame,type,landmark_index,x,y"
    tables = {
        "wide table, empty rows": (wide, cells),
        "wide table, rows of 0": (wide, "0" + cells.replace(",", ",0")),
        "wide table, rows of quotes": (wide, '""' + cells),
        "wide table, a clip a row": (f"clip,{wide}", "1," + cells),
        "wide table, as many rows as are read": (wide, cells.ljust(800)),
        "wide table with clips, as many rows as are read": (f"clip,{wide}", "1," + cells.ljust(800)),
        "long table": (long, "0,pose,0,,"),
        "long table with clips": (f"clip,{long}", "1,0,pose,0,,"),
        "long table of words": (long, "a,b,c,d,e"),
        "long table, as many rows as are read": (long, "0,pose,0,0.50000,0.5000000".ljust(50, "0")),
        "long table with clips, as many rows as are read": (f"clip,{long}", "1,0,pose,0,0.5000,0.50000".ljust(50, "0")),
        "long table of words, as many rows as are read": (long, "a,b,c,d,e".ljust(50, "e")),
        "table of two columns": ("frame_x,b", "0,"),
        "blank lines": (wide, ""),
        "data set, empty rows": (_DATA_SET, "," * _DATA_SET.count(",")),
    }
    for name, (header, row) in tables.items():
        yield name, lambda size, header=header, row=row: RawRequest(_filled(header + "\n", row, "", size, "\n"), CSV)
    yield (
        "long table, a clip a row",
        lambda size: RawRequest(
            "\n".join(
                [f"clip,{long}", *(f"{i:07},0,pose,0,0.5000,0.5".ljust(50, "0") for i in range(size // 51 - 3))]
            ).encode(),
            CSV,
        ),
    )
    yield "1,000,000 columns", lambda size: RawRequest(",".join(f"a{i}_x" for i in range(10**6))[:size].encode(), CSV)
    yield "columns of commas alone", lambda size: RawRequest(b"," * size, CSV)
    yield "a quoted cell of all bytes", lambda size: RawRequest(b'"' + b"a" * (size - 2) + b'"', CSV)
    yield (
        "data set, a cell of 10 MB",
        lambda size: RawRequest(
            f'{_DATA_SET}\n"[{"0," * min(5 * 10**6, size // 3)}0]"{"," * _DATA_SET.count(",")}'.encode(), CSV
        ),
    )
    yield "👋 and a table", lambda size: RawRequest("👋,b_x\n".encode() + b"0,0\n" * (size // 4 - 8), CSV)


def _others() -> Iterator[tuple[str, Make]]:
    """Yield lines of JSON, NumPy headers that lie, and headers of HTTP."""
    yield "JSON lines {}", lambda size: RawRequest(b"{}\n" * (size // 3), JSONLINES)
    yield "JSON lines, blank", lambda size: RawRequest(b"{}" + b"\n" * (size - 2), JSONLINES)
    yield "JSON line of frames {}", lambda size: RawRequest(_filled('{"keypoints":[', "{}", "]}", size), JSONLINES)
    for shape in ("(1000000000000, 54, 2)", "(0, 1000000000000, 2)", "(3000000, 1, 2)"):
        yield f"npy of {shape}", lambda size, shape=shape: RawRequest(_npy(shape, size), NPY)
    yield (
        "npy, a header of all bytes",
        lambda size: RawRequest(b"\x93NUMPY\x02\x00" + (size - 12).to_bytes(4, "little") + b"(" * (size - 12), NPY),
    )
    body = b'{"describe":true}'
    yield "100,000 attributes", lambda size: RawRequest(body, JSON, attributes=",".join(["top_k=1"] * 100_000))
    yield "1,000,000 commas for attributes", lambda size: RawRequest(body, JSON, attributes="," * 1_000_000)
    yield "100,000 types in Accept", lambda size: RawRequest(body, JSON, accept=",".join(["a/b;q=0.1"] * 100_000))


def _npy(shape: str, size: int) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    head = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    return head + bytes(size - len(head))
