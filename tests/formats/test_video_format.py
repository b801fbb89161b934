"""Videos as requests, in process: what is refused before anything is read, and what a deadline ends."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import spoter_handler

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats import Options, content_types
from spoter.formats.request import Video
from spoter.formats.video_format import read_videos, videos_supported
from spoter.messages import RawRequest
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond, to_record
from tests.generate import figure_clip
from tests.videos import children, draw, find_python

JSON, MP4 = "application/json", "video/mp4"
KEY = json.dumps({"uniqueName": "0.123.webm", "top_k": 2}).encode()


@pytest.fixture(scope="module")
def recognizer(dgs11: Path) -> Recognizer:
    return Recognizer.load(dgs11)


@pytest.fixture(params=["no environment", "no such interpreter", "packed without"])
def without(request, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No environment with MediaPipe anywhere, one named that is not there, or a Lambda function's part of spoter."""
    monkeypatch.delenv("SPOTER_VIDEO_PYTHON", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if request.param == "no such interpreter":
        monkeypatch.setenv("SPOTER_VIDEO_PYTHON", str(tmp_path / "none"))
    if request.param == "packed without":
        monkeypatch.setenv("SPOTER_VIDEO_PYTHON", sys.executable)
        monkeypatch.setitem(sys.modules, "spoter.video.environment", None)
    assert not videos_supported()


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment with MediaPipe, and a temporary folder for what is read."""
    python = find_python()
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    assert python.exists() and videos_supported()
    return folder


def ask(recognizer: Recognizer, *incoming: RawRequest, **options) -> list[tuple[int, dict]]:
    responses, _ = respond(recognizer, incoming, **options)
    return [(response.status, json.loads(response.body)) for response in responses]


def codes(answers: list[tuple[int, dict]]) -> list[tuple[int, str]]:
    return [(status, answer["error"]["code"]) for status, answer in answers]


@pytest.mark.parametrize("kind", [MP4, "video/webm;codecs=vp9", "VIDEO/QUICKTIME", "video/x-matroska", "video/x-m4v"])
def test_without_mediapipe_a_video_is_answered_415_with_what_is_missing(recognizer, without, kind):
    ((status, answer),) = ask(recognizer, RawRequest(b"\0\0\0\x18ftypmp42", kind))
    assert (status, answer["error"]["code"]) == (415, "unsupported_content_type")
    assert answer["error"]["where"] == "header Content-Type"
    assert "no environment with MediaPipe" in answer["error"]["message"]


def test_without_mediapipe_a_stored_video_is_answered_415(recognizer, without):
    ((status, answer),) = ask(recognizer, RawRequest(KEY, JSON))
    assert (status, answer["error"]["code"]) == (415, "unsupported_content_type")
    assert answer["error"]["where"] == "uniqueName"


def test_without_mediapipe_videos_are_not_offered(recognizer, without):
    assert not [kind for kind in content_types() if kind.startswith("video/")]
    ((_, answer),) = ask(recognizer, RawRequest(b"x", "text/plain"))
    assert "video/" not in answer["error"]["message"]


def test_an_environment_that_lacks_mediapipe_is_told_to_the_log(recognizer, monkeypatch, caplog):
    """Whoever runs the server is told which; who asks is told that there is none."""
    monkeypatch.setenv("SPOTER_VIDEO_PYTHON", sys.executable)
    ((status, answer),) = ask(recognizer, RawRequest(b"\0\0\0\x18ftypmp42", MP4))
    assert (status, answer["error"]["code"]) == (415, "unsupported_content_type")
    assert sys.executable in caplog.text and sys.executable not in answer["error"]["message"]


BEGINNINGS = [
    *(b"\0\0\0\x18" + box for box in (b"ftypmp42", b"ftypqt  ", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
    b"\x1aE\xdf\xa3",
    b"RIFF\xff\xff\xff\x7fAVI ",
]


@pytest.mark.parametrize("kind", [MP4, "video/webm", "video/quicktime"])
def test_what_begins_as_any_video_is_handed_to_the_child_whatever_it_is_called(recognizer, monkeypatch, kind):
    """By an interpreter without MediaPipe, so that it is the child that answers, and that is 415."""
    monkeypatch.setenv("SPOTER_VIDEO_PYTHON", sys.executable)
    answers = ask(recognizer, *[RawRequest(head + bytes(8), kind) for head in BEGINNINGS])
    assert codes(answers) == [(415, "unsupported_content_type")] * len(BEGINNINGS)


@pytest.mark.parametrize("kind", [MP4, "video/webm", "video/quicktime"])
def test_what_does_not_begin_as_a_video_starts_no_child(recognizer, monkeypatch, kind):
    def start(*_: object, **__: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setenv("SPOTER_VIDEO_PYTHON", sys.executable)
    monkeypatch.setattr("spoter.video.child.subprocess.Popen", start)
    noise = b"\x8c\xf5\x02\xd1\x7e\x90\x4b\x33\xa8\x0c\xe6\x59"
    others = (noise, b"x", b"ftyp", b"#EXTM3U\n", b"{}", b"RIFF\xff\xff\xff\x7fWAVE", b"\x1aE\xdf")
    answers = ask(recognizer, *[RawRequest(body, kind) for body in others])
    assert codes(answers) == [(400, "bad_video")] * len(others)
    assert all("MP4, MOV, WebM, MKV or AVI" in answer["error"]["message"] for _, answer in answers)


def test_what_is_wrong_before_it_is_read(recognizer, reading):
    """Wrong options and headers cost no process."""
    video = draw(reading / "drawn.mp4").read_bytes()
    clips = b'{"clips":[%s,%s]}' % (b'{"uniqueName":"a"}', b'{"uniqueName":"a","keypoints":[]}')
    answers = ask(
        recognizer,
        RawRequest(video, MP4, attributes="estimator=openpose"),
        RawRequest(video, MP4, accept="image/png"),
        RawRequest(b"", MP4),
        RawRequest(b'{"uniqueName":"a","keypoints":[]}', JSON),
        RawRequest(b'{"uniqueName":7}', JSON),
        RawRequest(clips, JSON),
        deadline=time.monotonic(),
    )
    assert codes(answers[:-1]) == [
        (400, "wrong_estimator"),
        (406, "not_acceptable"),
        (400, "empty_body"),
        (400, "ambiguous_form"),
        (400, "wrong_type"),
    ]
    assert [clip["error"]["code"] for clip in answers[-1][1]["answers"]] == ["unknown_form", "ambiguous_form"]


def test_a_stored_video_needs_a_bucket(recognizer, reading):
    [response], _ = respond(recognizer, [RawRequest(KEY, JSON)])
    assert json.loads(response.body)["error"]["code"] == "no_stored_videos"
    assert response.status == to_record(response).status == 400  # of a batch job, all would be wrong alike


def test_what_fetching_says_is_answered_as_it_is(recognizer, reading):
    asked = []

    def fetch(key: str, path: Path, most: int, deadline: float) -> None:
        asked.append((key, most, path.parent.parent))
        raise InputError(ErrorCode.BUCKET_BUSY, "later", "uniqueName")

    [response], costs = respond(recognizer, [RawRequest(KEY, JSON)], fetch)
    assert asked == [("0.123.webm", recognizer.limits.max_bytes, reading)]
    assert response.status == 503 and (costs.videos, costs.bad_inputs) == (1, 0)
    assert os.listdir(reading) == []


def test_the_frame_rate_that_a_request_says_goes_before_the_videos(recognizer, monkeypatch):
    """A double in the place of MediaPipe: no answer of a server shows the frame rate."""
    clip = replace(figure_clip(), fps=30.0)
    monkeypatch.setattr("spoter.video.reader.read", lambda *_, **__: SimpleNamespace(clip=clip))
    videos = [Video(b"x", Options()), Video(b"x", Options(fps=12.5))]
    found = read_videos(videos, recognizer.layout, recognizer.limits, None, time.monotonic() + 60)
    assert [one.fps for one in found] == [30.0, 12.5]


@pytest.mark.slow
def test_what_is_not_read_by_the_deadline_is_killed(recognizer, reading, tmp_path):
    """Each of a batch's, side by side; one that never got its turn may come again; nothing is left of any."""
    video = draw(tmp_path / "long.mp4", 640, 480, 400).read_bytes()
    started = time.monotonic()
    answers = ask(recognizer, *[RawRequest(video, MP4)] * 2, deadline=started + 2)
    assert set(codes(answers)) <= {(400, "video_timeout"), (503, "video_busy")}
    assert (400, "video_timeout") in codes(answers)
    assert codes(ask(recognizer, RawRequest(video, MP4), deadline=started)) == [(503, "video_busy")]
    assert children() == [] and os.listdir(reading) == []


@pytest.mark.slow
def test_videos_among_landmarks_in_a_batch(recognizer, reading, samples, tmp_path):
    """A video without a person, one that is broken, and landmarks, each answered in its place."""
    landmarks = RawRequest((samples / "hallo.json").read_bytes(), JSON)
    drawn = draw(tmp_path / "drawn.webm").read_bytes()
    broken = RawRequest(b"\0\0\0\x18ftypmp42" + drawn, MP4)
    incoming = [landmarks, RawRequest(drawn, "video/webm;codecs=vp8"), broken, RawRequest(b"#EXTM3U\n", MP4), landmarks]
    responses, costs = respond(recognizer, incoming)
    assert [response.error_code for response in responses] == [None, "no_person", "bad_video", "bad_video", None]
    assert responses[0] == responses[-1] and (costs.videos, costs.bad_inputs) == (3, 3)
    assert costs.video_ms > costs.decode_ms


@pytest.mark.parametrize(
    ("config", "seconds"),
    [
        ({}, 40),
        ({"responseTimeout": 30}, 20),
        ({"responseTimeout": 60, "handler": None}, 40),
        ({"responseTimeout": 300, "handler": {"videoTimeout": 250}}, 250),
    ],
)
def test_the_time_for_videos(config, seconds):
    assert spoter_handler.video_seconds(config) == seconds


@pytest.mark.parametrize("wrong", [51, 0, -1, "40", None, float("nan")])
def test_a_time_for_videos_that_would_cost_the_worker_is_refused(wrong):
    with pytest.raises(ValueError, match="at least 10 below responseTimeout, 60"):
        spoter_handler.video_seconds({"responseTimeout": 60, "handler": {"videoTimeout": wrong}})
