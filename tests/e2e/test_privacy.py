"""Nothing of a person's landmarks is written anywhere: a planted coordinate is sent in every form, and looked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spoter.landmarks.estimators import MEDIAPIPE
from spoter.landmarks.layouts import load_layout
from tests.e2e.live import RunningServer, send
from tests.generate import figure_clip
from tests.wire import FRAME_FORMS, by_name, csv, dumps, long, nested, npy, spoter_table, wide

JSON, CSV, NPY, JSONL = "application/json", "text/csv", "application/x-npy", "application/jsonlines"
# Its digits, also where a number is rounded, scaled to pixels (640 x 480) or in the wrong place.
PLANTED = 0.7391825
DIGITS = (b"739182", b"7391.8", b"473.0768", b"354.8076")
# As it lies in memory, should any of that be written.
RAW = (np.float32(PLANTED).tobytes(), np.float64(PLANTED).tobytes())
FAR = 7391825.0  # farther from the picture than anything may be


def clip(estimator: str = "mediapipe", value: float = PLANTED):
    made = figure_clip(estimator, 6, gaps=False)
    made.points[2] = value
    return made


def layout_points(value: float = PLANTED) -> np.ndarray:
    return load_layout("54").select(clip(value=value)).astype(np.float32)


def bodies(value: float, embedding: list) -> Iterator[tuple[str, bytes, str]]:
    """Yield a clip with the value in each form that is read."""
    table = load_layout("54")
    for estimator, form in FRAME_FORMS.items():
        yield estimator, dumps(form(clip(estimator, value))), JSON
    points = nested(layout_points(value))
    yield "compact", dumps({"layout": 54, "points": points}), JSON
    yield "by name", dumps({"points": by_name(layout_points(value), table.names)}), JSON
    yield "clips", dumps({"clips": [{"layout": 54, "points": points}] * 2}), JSON
    yield "lines", dumps({"layout": 54, "points": points}) + b"\n" + dumps({"points": points}), JSONL
    yield "array", npy(layout_points(value)), NPY
    yield "wide", csv(wide(clip(value=value).points, MEDIAPIPE.names)), CSV
    yield "long", csv(long(clip(value=value))), CSV
    yield "lists", csv(spoter_table(load_layout("spoter54").select(clip(value=value))[None])), CSV
    yield "enrolling", dumps({"enroll": f"SIGN {value}", "clips": [{"layout": 54, "points": points}]}), JSON
    yield "enrolled", dumps({"layout": 54, "points": points, "enrolled": embedding}), JSON
    yield "named", dumps({"uniqueName": f"{value}.mp4"}), JSON


def spoiled(body: bytes) -> Iterator[bytes]:
    """Yield what is wrong with a body in ways that errors like to quote."""
    yield body[: len(body) * 2 // 3]
    yield body.replace(b"0.739182", b'"0.739182"')
    yield body.replace(b"0.739182", b"0.739182x")
    yield b"\xff" + body


def everything_written(server: RunningServer) -> dict[str, bytes]:
    """Return what stands in logs, standard output and every other file that the server has, temporary ones included."""
    found = {"said": server.logs().encode()}
    for path in server.folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found[str(path.relative_to(server.folder))] = path.read_bytes()
    for name in ("/metrics", "/metrics?name[]=Frames"):
        found[name] = send(server.metrics, "GET", name).body
    found["described"] = send(server.management, "GET", "/models/spoter?customized=true").body
    return found


def test_a_planted_coordinate_is_nowhere_but_in_the_answer(server, dgs11: Path):
    description = server.predict(b'{"describe":true}', JSON).json
    learned = server.predict(
        dumps({"enroll": "SIGN", "clips": [{"layout": 54, "points": nested(layout_points())}]}), JSON
    ).json["enrolled"]
    statuses: dict[str, list[int]] = {}
    for value in (PLANTED, FAR):
        for name, body, kind in bodies(value, learned):
            statuses.setdefault(name, []).append(server.predict(body, kind).status)
            for wrong in spoiled(body) if value == PLANTED else ():
                assert server.predict(wrong, kind).status in range(200, 500)
    good = {name for name, (first, _) in statuses.items() if first == 200}
    assert good == set(statuses) - {"named"} and all(far in range(400, 500) for _, far in statuses.values()), statuses
    # A prototype that holds the value; a batch of good and bad; headers, query strings, forms, paths.
    assert f"{PLANTED}"[:8].encode() not in dumps(description)
    spoilt = json.loads(json.dumps(learned))
    vector = next(value for value in _lists(spoilt) if len(value) > 100)
    vector[0] = PLANTED
    server.predict(dumps({"layout": 54, "points": nested(layout_points()), "enrolled": spoilt}), JSON)
    body = dumps({"layout": 54, "points": nested(layout_points())})
    planted = str(PLANTED)
    for headers in ({"X_Amzn_SageMaker_Custom_Attributes": f"top_k={planted}"}, {"Accept": f"x/{planted}"}):
        assert server.predict(body, JSON, **headers).status in (400, 406)
    server.predict(body, f"application/{planted}")
    server.predict(body, JSON, X_Person=planted, Cookie=f"clip={planted}", User_Agent=planted, Authorization=planted)
    for path in (f"?x={planted}", f"/1.0?data={planted}"):  # a path itself is logged, without its query
        send(server.port, "POST", f"/predictions/spoter{path}", body, {"Content-Type": JSON})
    send(server.port, "GET", f"/predictions/spoter?data={planted}")
    for size in (1, 40_000):  # Netty puts a part above 16 KB into a file
        part = f'--b\r\nContent-Disposition: form-data; name="data"; filename="{planted}.json"\r\nContent-Type: {JSON}'
        form = part.encode() + b"\r\n\r\n" + body + b" " * size + b"\r\n--b--\r\n"
        assert server.predict(form, "multipart/form-data; boundary=b").status == 200
    server.predict(f"data={planted}%".encode(), "application/x-www-form-urlencoded")
    written = everything_written(server)
    assert b"predictions/spoter" in written["said"] and "logs/model_log.log" in written  # it is looked at
    for place, content in written.items():
        found = [mark for mark in (*DIGITS, *RAW) if mark in content]
        assert not found, (place, [line for line in content.split(b"\n") if any(mark in line for mark in found)][:5])


def _lists(value: object) -> Iterator[list]:
    """Yield every list of numbers inside."""
    if isinstance(value, list) and value and all(isinstance(each, float) for each in value):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _lists(each)


def test_the_search_would_find_it(server):
    """The same search, for what is written on purpose."""
    place = server.folder / "logs" / "planted.log"
    place.write_text(f"x={PLANTED}")
    try:
        found = everything_written(server)
        assert [name for name, content in found.items() if any(mark in content for mark in DIGITS)]
    finally:
        place.unlink()
