"""No landmarks of a person are written to any file: a planted coordinate is sent in every form and searched for."""

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
PLANTED = 0.7391825
# Digits of the coordinate: as it is, in another scale, and scaled to pixels (640 x 480).
DIGITS = (b"739182", b"7391.8", b"473.0768", b"354.8076")
# Its bytes in memory, in case memory is written to a file.
RAW = (np.float32(PLANTED).tobytes(), np.float64(PLANTED).tobytes())
FAR = 7391825.0  # out of the range of coordinates


def clip(estimator: str = "mediapipe", value: float = PLANTED):
    planted = figure_clip(estimator, 6, gaps=False)
    planted.points[2] = value
    return planted


def layout_points(value: float = PLANTED) -> np.ndarray:
    return load_layout("54").select(clip(value=value)).astype(np.float32)


def bodies(value: float, embedding: list) -> Iterator[tuple[str, bytes, str]]:
    """Yield a clip with the value in each wire format: name, body and content type."""
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
    """Yield broken forms of a body that error messages might quote."""
    yield body[: len(body) * 2 // 3]
    yield body.replace(b"0.739182", b'"0.739182"')
    yield body.replace(b"0.739182", b"0.739182x")
    yield b"\xff" + body


def everything_written(server: RunningServer) -> dict[str, bytes]:
    """Return the server's output, all its files, including temporary ones, its metrics and its description."""
    contents = {"output": server.logs().encode()}
    for path in server.folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            contents[str(path.relative_to(server.folder))] = path.read_bytes()
    for name in ("/metrics", "/metrics?name[]=Frames"):
        contents[name] = send(server.metrics, "GET", name).body
    contents["description"] = send(server.management, "GET", "/models/spoter?customized=true").body
    return contents


def test_a_planted_coordinate_is_only_in_answers(server, dgs11: Path):
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
    # A prototype that contains the value, then headers, query strings, forms and paths.
    assert f"{PLANTED}"[:8].encode() not in dumps(description)
    changed = json.loads(json.dumps(learned))
    vector = next(value for value in _lists(changed) if len(value) > 100)
    vector[0] = PLANTED
    server.predict(dumps({"layout": 54, "points": nested(layout_points()), "enrolled": changed}), JSON)
    body = dumps({"layout": 54, "points": nested(layout_points())})
    planted = str(PLANTED)
    for headers in ({"X_Amzn_SageMaker_Custom_Attributes": f"top_k={planted}"}, {"Accept": f"x/{planted}"}):
        assert server.predict(body, JSON, **headers).status in (400, 406)
    server.predict(body, f"application/{planted}")
    server.predict(body, JSON, X_Person=planted, Cookie=f"clip={planted}", User_Agent=planted, Authorization=planted)
    for path in (f"?x={planted}", f"/1.0?data={planted}"):  # the log contains paths, without their queries
        send(server.port, "POST", f"/predictions/spoter{path}", body, {"Content-Type": JSON})
    send(server.port, "GET", f"/predictions/spoter?data={planted}")
    for size in (1, 40_000):  # Netty writes a part above 16 KB to a file
        part = f'--b\r\nContent-Disposition: form-data; name="data"; filename="{planted}.json"\r\nContent-Type: {JSON}'
        form = part.encode() + b"\r\n\r\n" + body + b" " * size + b"\r\n--b--\r\n"
        assert server.predict(form, "multipart/form-data; boundary=b").status == 200
    server.predict(f"data={planted}%".encode(), "application/x-www-form-urlencoded")
    written = everything_written(server)
    assert b"predictions/spoter" in written["output"] and "logs/model_log.log" in written  # the search sees the logs
    for place, content in written.items():
        leaks = [mark for mark in (*DIGITS, *RAW) if mark in content]
        assert not leaks, (place, [line for line in content.split(b"\n") if any(mark in line for mark in leaks)][:5])


def _lists(value: object) -> Iterator[list]:
    """Yield every list of numbers inside a document."""
    if isinstance(value, list) and value and all(isinstance(each, float) for each in value):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _lists(each)


def test_the_search_finds_a_coordinate_in_a_log(server):
    log = server.folder / "logs" / "planted.log"
    log.write_text(f"x={PLANTED}")
    try:
        written = everything_written(server)
        assert [name for name, content in written.items() if any(mark in content for mark in DIGITS)]
    finally:
        log.unlink()
