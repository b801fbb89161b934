"""Videos in requests to a real TorchServe and in a bucket of moto: answers, refusals and timeouts.

Without MediaPipe the tests that need it are skipped, and without ../shared those with a real person.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from spoter.torchserve import pack as build_mar
from tests import ROOT
from tests.aws.deploy.cloud import Cloud
from tests.e2e.live import Reply, RunningServer, send, torchserve
from tests.videos import clip_of_a_person, draw, find_python, sign

pytestmark = [pytest.mark.server, pytest.mark.video]

JSON, MP4 = "application/json", "video/mp4"
BUCKET, PREFIX, KEY = "videos-of-people", "uploads/", "0.123.webm"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Cloud]:
    """Run an S3 with an empty bucket."""
    cloud = Cloud()
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    yield cloud
    cloud.close()


@pytest.fixture(scope="module")
def reader(scratch: Path, dgs11: Path, bucket: Cloud) -> Iterator[RunningServer]:
    """Run a TorchServe for small videos with two models: `spoter`, and `hasty`, which times out after 2 s."""
    python = find_python()
    store, model, handler = scratch / "videos_store", scratch / "small", scratch / "hasty_handler"
    shutil.copytree(dgs11, model)
    config = json.loads((model / "config.json").read_bytes())
    limits = {"max_video_seconds": 21, "max_video_pixels": 640 * 480, "max_bytes": 2_000_000}
    (model / "config.json").write_text(json.dumps(config | limits))
    build_mar.build(model, "spoter", None, store)
    shutil.copytree(ROOT / "handler", handler, ignore=shutil.ignore_patterns("__pycache__"))
    settings = (handler / "model-config.yaml").read_text()
    assert "\n  videoTimeout: 40\n" in settings
    (handler / "model-config.yaml").write_text(settings.replace("videoTimeout: 40", "videoTimeout: 2"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_mar, "HANDLER", handler)
        build_mar.build(model, "hasty", None, store)
    environ = bucket.environment | {"SPOTER_VIDEO_PYTHON": str(python)}
    environ |= {"SPOTER_VIDEO_BUCKET": BUCKET, "SPOTER_VIDEO_PREFIX": PREFIX}
    with torchserve(scratch / "reader", store, Path(sys.executable), "spoter", "hasty", **environ) as running:
        yield running


def error(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json["error"]["code"]


def workers(server: RunningServer) -> dict[str, int]:
    return {model: server.describe(model)["workers"][0]["pid"] for model in ("spoter", "hasty")}


def test_a_server_without_mediapipe_refuses_videos(server):
    for body, kind in ((b"\0\0\0\x18ftypmp42", MP4), (json.dumps({"uniqueName": KEY}).encode(), JSON)):
        reply = server.predict(body, kind)
        assert error(reply) == (415, "unsupported_content_type")
        assert "MediaPipe" in reply.json["error"]["message"]
    about = server.predict(b'{"describe":true}', JSON).json
    assert about["video"] is False and not [kind for kind in about["content_types"] if kind.startswith("video")]
    assert "videos are not read here" in server.logs()


@pytest.mark.parametrize("film", [sign, lambda path: clip_of_a_person()], ids=["drawn", "person"])
def test_a_video_gets_the_answer_of_its_extracted_landmarks(reader, tmp_path, film):
    video, extracted = film(tmp_path / "hallo.mp4"), tmp_path / "out"
    command = [sys.executable, "-m", "spoter", "extract", str(video), "--out", str(extracted)]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = extracted.glob("*.json")
    replies = [reader.predict(video.read_bytes(), MP4), reader.predict(file.read_bytes(), JSON)]
    assert replies[0].status == 200 and replies[0].json == replies[1].json
    assert len(replies[0].json["instances"]) == 5 and replies[0].json["frames"] > 10
    if video.name == "hallo.mp4":
        assert replies[0].json["instances"][0]["gloss"] == "HALLO"


def test_a_video_in_the_bucket_gets_the_answer_of_a_sent_video(reader, bucket, tmp_path):
    content = sign(tmp_path / "hallo.webm").read_bytes()
    bucket.client("s3").put_object(Bucket=BUCKET, Key=PREFIX + KEY, Body=content)
    reply = reader.predict(json.dumps({"uniqueName": KEY}).encode(), JSON)
    assert reply.status == 200 and reply.json == reader.predict(content, "video/webm;codecs=vp8").json


def test_bad_videos_are_refused_and_the_workers_stay(reader, bucket, tmp_path):
    before = workers(reader)
    drawn = draw(tmp_path / "drawn.webm").read_bytes()
    large = draw(tmp_path / "large.mp4", 1280, 720).read_bytes()
    long = draw(tmp_path / "long.mp4", frames=550).read_bytes()
    cut = draw(tmp_path / "cut.mp4").read_bytes()
    head = bytearray(draw(tmp_path / "liar.mp4").read_bytes())
    place = head.index(b"mvhd") + 4
    head[place + 12 : place + 20] = b"\0\0\x03\xe8" + b"\x7f\xff\xff\xff"  # a duration of 24 days
    for body, expected in {
        drawn: (400, "no_person"),
        bytes(head): (400, "no_person"),
        drawn[: len(drawn) // 3]: (400, "bad_video"),
        cut[: len(cut) // 2]: (400, "bad_video"),
        b"\0\0\0\x18ftypmp42" + b"\xff" * 4000: (400, "bad_video"),
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n": (400, "bad_video"),
        b"x": (400, "bad_video"),
        large: (413, "video_too_large"),
        long: (413, "video_too_long"),
        b"\0\0\0\x18ftypmp42" + b"\0" * 2_000_000: (413, "body_too_large"),
    }.items():
        assert error(reader.predict(body, "video/webm;codecs=vp9")) == expected
    s3 = bucket.client("s3")
    s3.put_object(Bucket=BUCKET, Key=PREFIX + "large", Body=b"x" * 2_000_001)
    s3.put_object(Bucket=BUCKET, Key=PREFIX + "none", Body=drawn)
    for key, expected in {
        "large": (413, "body_too_large"),
        "none": (400, "no_person"),
        "absent.webm": (404, "unknown_video"),
        "../none": (400, "bad_key"),
    }.items():
        assert error(reader.predict(json.dumps({"uniqueName": key}).encode(), JSON)) == expected
    assert workers(reader) == before


def test_a_video_that_takes_too_long_is_killed_while_others_are_answered(reader, samples, tmp_path):
    """Its worker survives, and another worker answers landmarks meanwhile."""
    before = workers(reader)
    endless = draw(tmp_path / "endless.mp4", 640, 480, 500).read_bytes()
    landmarks = (samples / "hallo.json").read_bytes()
    with ThreadPoolExecutor() as pool:
        videos = [pool.submit(reader.predict, endless, MP4, "hasty") for _ in range(3)]
        assert reader.predict(landmarks, JSON).status == 200
        errors = {error(video.result()) for video in videos}
    assert (400, "video_timeout") in errors and errors <= {(400, "video_timeout"), (503, "video_busy")}
    assert reader.predict(landmarks, JSON, "hasty").status == 200
    assert workers(reader) == before
    assert [child for pid in before.values() for child in psutil.Process(pid).children(recursive=True)] == []
    assert list(reader.folder.rglob("spoter-video-*")) == []


def test_videos_are_in_the_description_and_the_metrics(reader):
    about = reader.predict(b'{"describe":true}', JSON).json
    assert about["video"] and {MP4, "video/webm", "video/quicktime"} <= set(about["content_types"])
    limits = about["limits"]
    assert (limits["max_video_seconds"], limits["max_video_pixels"]) == (21, 640 * 480)
    reader.predict(b"x", MP4)
    expected, metrics, deadline = ("VideoTime_count{", "Videos{"), "", time.monotonic() + 30
    while not all(name in metrics for name in expected) and time.monotonic() < deadline:  # TorchServe adds them later
        metrics = send(reader.metrics, "GET", "/metrics").body.decode()
    assert all(name in metrics for name in expected)


def test_the_log_contains_no_data_of_a_video(reader):
    reader.predict(json.dumps({"uniqueName": "of-a-person.webm"}).encode(), JSON)
    logs = reader.logs()
    assert "videos are read here" in logs and "videos-of-people" in logs
    assert "of-a-person" not in logs and KEY not in logs and "ftyp" not in logs
