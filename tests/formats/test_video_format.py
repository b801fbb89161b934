"""Video requests in process: errors before a video is read, and the deadline."""

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
def no_mediapipe(request, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No environment with MediaPipe, a missing interpreter, or a Lambda function's package without the module."""
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
def scratch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment with MediaPipe, and an empty folder for temporary files."""
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
def test_without_mediapipe_a_video_is_answered_415(recognizer, no_mediapipe, kind):
    ((status, answer),) = ask(recognizer, RawRequest(b"\0\0\0\x18ftypmp42", kind))
    assert (status, answer["error"]["code"]) == (415, "unsupported_content_type")
    assert answer["error"]["where"] == "header Content-Type"
    assert "MediaPipe" in answer["error"]["message"]


def test_without_mediapipe_a_stored_video_is_answered_415(recognizer, no_mediapipe):
    ((status, answer),) = ask(recognizer, RawRequest(KEY, JSON))
    assert (status, answer["error"]["code"]) == (415, "unsupported_content_type")
    assert answer["error"]["where"] == "uniqueName"


def test_without_mediapipe_videos_are_not_offered(recognizer, no_mediapipe):
    assert not [kind for kind in content_types() if kind.startswith("video/")]
    ((_, answer),) = ask(recognizer, RawRequest(b"x", "text/plain"))
    assert "video/" not in answer["error"]["message"]


def test_an_interpreter_without_mediapipe_is_named_in_the_log_only(recognizer, monkeypatch, caplog):
    """The operator needs the path of the interpreter; a client must not see it."""
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
def test_the_start_of_any_video_format_is_passed_to_the_child_under_any_content_type(recognizer, monkeypatch, kind):
    """The interpreter lacks MediaPipe, so 415 shows that the child answered."""
    monkeypatch.setenv("SPOTER_VIDEO_PYTHON", sys.executable)
    answers = ask(recognizer, *[RawRequest(start + bytes(8), kind) for start in BEGINNINGS])
    assert codes(answers) == [(415, "unsupported_content_type")] * len(BEGINNINGS)


@pytest.mark.parametrize("kind", [MP4, "video/webm", "video/quicktime"])
def test_other_content_starts_no_child(recognizer, monkeypatch, kind):
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setenv("SPOTER_VIDEO_PYTHON", sys.executable)
    monkeypatch.setattr("spoter.video.child.subprocess.Popen", fail)
    noise = b"\x8c\xf5\x02\xd1\x7e\x90\x4b\x33\xa8\x0c\xe6\x59"
    bodies = (noise, b"x", b"ftyp", b"#EXTM3U\n", b"{}", b"RIFF\xff\xff\xff\x7fWAVE", b"\x1aE\xdf")
    answers = ask(recognizer, *[RawRequest(body, kind) for body in bodies])
    assert codes(answers) == [(400, "bad_video")] * len(bodies)
    assert all("MP4, MOV, WebM, MKV or AVI" in answer["error"]["message"] for _, answer in answers)


def test_wrong_options_are_refused_before_a_video_is_read(recognizer, scratch):
    """Wrong options and headers start no process."""
    video = draw(scratch / "drawn.mp4").read_bytes()
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


def test_a_stored_video_needs_a_bucket(recognizer, scratch):
    [response], _ = respond(recognizer, [RawRequest(KEY, JSON)])
    assert json.loads(response.body)["error"]["code"] == "no_stored_videos"
    assert response.status == to_record(response).status == 400  # in a batch job, every record would fail


def test_an_error_from_fetch_is_the_answer(recognizer, scratch):
    calls = []

    def fetch(key: str, path: Path, max_bytes: int, deadline: float) -> None:
        calls.append((key, max_bytes, path.parent.parent))
        raise InputError(ErrorCode.BUCKET_BUSY, "later", "uniqueName")

    [response], costs = respond(recognizer, [RawRequest(KEY, JSON)], fetch)
    assert calls == [("0.123.webm", recognizer.limits.max_bytes, scratch)]
    assert response.status == 503 and (costs.videos, costs.bad_inputs) == (1, 0)
    assert os.listdir(scratch) == []


def test_the_frame_rate_of_a_request_overrides_the_videos(recognizer, monkeypatch):
    """With a stub instead of MediaPipe, because no answer of a server shows the frame rate."""
    clip = replace(figure_clip(), fps=30.0)
    monkeypatch.setattr("spoter.video.reader.read", lambda *_, **__: SimpleNamespace(clip=clip))
    videos = [Video(b"x", Options()), Video(b"x", Options(fps=12.5))]
    clips = read_videos(videos, recognizer.layout, recognizer.limits, None, time.monotonic() + 60)
    assert [clip.fps for clip in clips] == [30.0, 12.5]


@pytest.mark.slow
def test_videos_are_killed_at_the_deadline(recognizer, scratch, tmp_path):
    """All videos of a batch are killed; a video that never started may be sent again; no process or file remains."""
    video = draw(tmp_path / "long.mp4", 640, 480, 400).read_bytes()
    started = time.monotonic()
    answers = ask(recognizer, *[RawRequest(video, MP4)] * 2, deadline=started + 2)
    assert set(codes(answers)) <= {(400, "video_timeout"), (503, "video_busy")}
    assert (400, "video_timeout") in codes(answers)
    assert codes(ask(recognizer, RawRequest(video, MP4), deadline=started)) == [(503, "video_busy")]
    assert children() == [] and os.listdir(scratch) == []


@pytest.mark.slow
def test_videos_among_landmarks_in_a_batch(recognizer, scratch, samples, tmp_path):
    """A video without a person, a broken video and landmarks are answered in order."""
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
def test_the_time_limit_for_videos(config, seconds):
    assert spoter_handler.video_seconds(config) == seconds


@pytest.mark.parametrize("wrong", [51, 0, -1, "40", None, float("nan")])
def test_a_time_limit_that_would_kill_the_worker_is_refused(wrong):
    with pytest.raises(ValueError, match="responseTimeout"):
        spoter_handler.video_seconds({"responseTimeout": 60, "handler": {"videoTimeout": wrong}})
