"""Videos out of S3: handler/video_bucket.py against moto's server, and against one that breaks off."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
import video_bucket

from spoter.errors import InputError
from spoter.ops.ports import LOOPBACK, free_port
from tests.aws.deploy.cloud import Cloud

BUCKET, KEY, CONTENT = "videos-of-people", "0.123.webm", bytes(range(256)) * 1000
LATER = 60.0


@pytest.fixture
def videos(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """An account with a bucket of one video, which the environment names."""
    monkeypatch.setenv("SPOTER_VIDEO_BUCKET", BUCKET)
    monkeypatch.delenv("SPOTER_VIDEO_PREFIX", raising=False)
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket=BUCKET, Key=f"uploads/{KEY}", Body=CONTENT)
    cloud.calls.clear()
    return cloud


def fetch(folder: Path, key: str = f"uploads/{KEY}", most: int = len(CONTENT), seconds: float = LATER) -> bytes:
    path = folder / "video"
    video_bucket.from_environment().fetch(key, path, most, time.monotonic() + seconds)
    return path.read_bytes()


def refused(folder: Path, *arguments, **options) -> tuple[str, int, str]:
    with pytest.raises(InputError) as caught:
        fetch(folder, *arguments, **options)
    assert caught.value.where == "uniqueName"
    return caught.value.code, caught.value.status, caught.value.message


def test_a_video_is_fetched_by_its_key(videos, tmp_path, monkeypatch):
    assert fetch(tmp_path) == CONTENT
    monkeypatch.setenv("SPOTER_VIDEO_PREFIX", "uploads/")
    assert fetch(tmp_path, KEY) == CONTENT
    assert videos.called("GET") == [{"Bucket": BUCKET, "Key": f"uploads/{KEY}"}] * 2


def test_without_a_bucket_there_are_no_stored_videos(videos, monkeypatch):
    monkeypatch.setenv("SPOTER_VIDEO_BUCKET", "")
    assert video_bucket.from_environment() is None


def test_a_key_that_is_not_there_is_named_to_the_client_and_not_to_the_log(videos, tmp_path, caplog):
    with caplog.at_level(logging.DEBUG, "video_bucket"):
        assert refused(tmp_path, "secret.webm")[:2] == ("unknown_video", 404)
    assert "'secret.webm'" in refused(tmp_path, "secret.webm")[2] and caplog.text == ""


@pytest.mark.parametrize(
    "key",
    ["", "/", "/0.webm", "a//0.webm", "uploads/", ".", "../0.webm", "a/../0.webm", "0\n.webm", "\ud800", "x" * 1025],
)
def test_a_key_that_is_none_is_refused_before_s3_is_asked(videos, tmp_path, key):
    code, status, message = refused(tmp_path, key)
    assert (code, status) == ("bad_key", 400) and len(message) < 300 and "\n" not in message
    assert videos.calls == []


def test_a_video_that_is_too_large_is_not_read(videos, tmp_path):
    found = refused(tmp_path, most=len(CONTENT) - 1)
    assert found == (
        "body_too_large",
        413,
        f"found a video of {len(CONTENT)} bytes, expected at most {len(CONTENT) - 1}",
    )
    assert (tmp_path / "video").read_bytes() == b""


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId"])
def test_what_the_server_may_not_read_is_its_own_fault(videos, tmp_path, caplog, code):
    videos.refuse("GET", code)
    assert refused(tmp_path)[:2] == ("bucket_refused", 502)
    assert code in caplog.text and BUCKET in caplog.text and KEY not in caplog.text
    assert ("s3:ListBucket" in caplog.text) == (code == "AccessDenied")


def test_a_bucket_that_is_not_there_is_the_servers_fault(videos, tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("SPOTER_VIDEO_BUCKET", "no-such-bucket")
    assert refused(tmp_path)[:2] == ("bucket_refused", 502)
    assert "no-such-bucket cannot be read: NoSuchBucket" in caplog.text


def test_s3_is_asked_again_where_it_is_overburdened(videos, tmp_path):
    videos.refuse("GET", "SlowDown", times=1)
    assert fetch(tmp_path) == CONTENT and len(videos.called("GET")) == 2
    videos.refuse("GET", "SlowDown")
    assert refused(tmp_path)[:2] == ("bucket_busy", 503)
    assert len(videos.called("GET")) == 2 + video_bucket.TRIES


def test_s3_that_is_not_reached_or_too_slow_may_be_asked_later(videos, tmp_path, monkeypatch):
    assert refused(tmp_path, seconds=0)[:2] == ("bucket_busy", 503)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{LOOPBACK}:{free_port()}")
    assert refused(tmp_path)[:2] == ("bucket_busy", 503)


def test_an_answer_that_breaks_off_is_no_video(videos, tmp_path, monkeypatch):
    with socket.create_server((LOOPBACK, 0)) as listener:

        def break_off() -> None:
            with listener.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes.")

        thread = threading.Thread(target=break_off)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{LOOPBACK}:{listener.getsockname()[1]}")
        assert refused(tmp_path)[:2] == ("bucket_busy", 503)
        thread.join()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda patch: patch.setitem(sys.modules, "boto3", None), "boto3 is not installed"),
        (lambda patch: patch.setenv("AWS_ENDPOINT_URL", "nonsense"), "no way to S3"),
        (lambda patch: patch.setenv("AWS_PROFILE", "nobody"), "no way to S3"),
    ],
)
def test_a_set_up_that_is_wrong_is_said_at_the_start_and_to_who_asks(
    videos, tmp_path, monkeypatch, caplog, spoil, said
):
    spoil(monkeypatch)
    assert refused(tmp_path)[:2] == ("bucket_refused", 502)
    assert caplog.text.count(said) == 1
