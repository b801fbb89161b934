"""Videos from S3: handler/video_bucket.py with moto's server, and with a server that closes the connection."""

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
    """An account with a bucket that holds one video; environment variables name the bucket."""
    monkeypatch.setenv("SPOTER_VIDEO_BUCKET", BUCKET)
    monkeypatch.delenv("SPOTER_VIDEO_PREFIX", raising=False)
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket=BUCKET, Key=f"uploads/{KEY}", Body=CONTENT)
    cloud.calls.clear()
    return cloud


def fetch(folder: Path, key: str = f"uploads/{KEY}", limit: int = len(CONTENT), seconds: float = LATER) -> bytes:
    path = folder / "video"
    video_bucket.from_environment().fetch(key, path, limit, time.monotonic() + seconds)
    return path.read_bytes()


def refused(folder: Path, *arguments, **options) -> tuple[str, int, str]:
    with pytest.raises(InputError) as caught:
        fetch(folder, *arguments, **options)
    assert caught.value.where == "uniqueName"
    return caught.value.code, caught.value.status, caught.value.message


def test_video_is_fetched_by_its_key(videos, tmp_path, monkeypatch):
    assert fetch(tmp_path) == CONTENT
    monkeypatch.setenv("SPOTER_VIDEO_PREFIX", "uploads/")
    assert fetch(tmp_path, KEY) == CONTENT
    assert videos.called("GET") == [{"Bucket": BUCKET, "Key": f"uploads/{KEY}"}] * 2


def test_no_bucket_disables_stored_videos(videos, monkeypatch):
    monkeypatch.setenv("SPOTER_VIDEO_BUCKET", "")
    assert video_bucket.from_environment() is None


def test_missing_key_is_reported_to_the_client_but_not_logged(videos, tmp_path, caplog):
    with caplog.at_level(logging.DEBUG, "video_bucket"):
        assert refused(tmp_path, "secret.webm")[:2] == ("unknown_video", 404)
    assert "'secret.webm'" in refused(tmp_path, "secret.webm")[2] and caplog.text == ""


@pytest.mark.parametrize(
    "key",
    ["", "/", "/0.webm", "a//0.webm", "uploads/", ".", "../0.webm", "a/../0.webm", "0\n.webm", "\ud800", "x" * 1025],
)
def test_invalid_key_is_refused_without_a_request_to_s3(videos, tmp_path, key):
    code, status, message = refused(tmp_path, key)
    assert (code, status) == ("bad_key", 400) and len(message) < 300 and "\n" not in message
    assert videos.calls == []


def test_too_large_video_is_not_read(videos, tmp_path):
    code, status, message = refused(tmp_path, limit=len(CONTENT) - 1)
    assert (code, status) == ("body_too_large", 413)
    assert f"{len(CONTENT)} bytes" in message and f"at most {len(CONTENT) - 1}" in message
    assert (tmp_path / "video").read_bytes() == b""


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId"])
def test_missing_permission_is_an_error_of_the_server(videos, tmp_path, caplog, code):
    videos.refuse("GET", code)
    assert refused(tmp_path)[:2] == ("bucket_refused", 502)
    assert code in caplog.text and BUCKET in caplog.text and KEY not in caplog.text
    assert ("s3:ListBucket" in caplog.text) == (code == "AccessDenied")


def test_missing_bucket_is_an_error_of_the_server(videos, tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("SPOTER_VIDEO_BUCKET", "no-such-bucket")
    assert refused(tmp_path)[:2] == ("bucket_refused", 502)
    assert "no-such-bucket" in caplog.text and "NoSuchBucket" in caplog.text


def test_overloaded_s3_is_retried(videos, tmp_path):
    videos.refuse("GET", "SlowDown", times=1)
    assert fetch(tmp_path) == CONTENT and len(videos.called("GET")) == 2
    videos.refuse("GET", "SlowDown")
    assert refused(tmp_path)[:2] == ("bucket_busy", 503)
    assert len(videos.called("GET")) == 2 + video_bucket.TRIES


def test_unreachable_or_slow_s3_gives_503(videos, tmp_path, monkeypatch):
    assert refused(tmp_path, seconds=0)[:2] == ("bucket_busy", 503)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{LOOPBACK}:{free_port()}")
    assert refused(tmp_path)[:2] == ("bucket_busy", 503)


def test_interrupted_answer_gives_503(videos, tmp_path, monkeypatch):
    with socket.create_server((LOOPBACK, 0)) as listener:

        def answer_partly() -> None:
            with listener.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes.")

        thread = threading.Thread(target=answer_partly)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{LOOPBACK}:{listener.getsockname()[1]}")
        assert refused(tmp_path)[:2] == ("bucket_busy", 503)
        thread.join()


@pytest.mark.parametrize(
    ("misconfigure", "log"),
    [
        (lambda patch: patch.setitem(sys.modules, "boto3", None), "boto3"),
        (lambda patch: patch.setenv("AWS_ENDPOINT_URL", "nonsense"), "nonsense"),
        (lambda patch: patch.setenv("AWS_PROFILE", "nobody"), "nobody"),
    ],
)
def test_wrong_configuration_is_logged_and_reported_to_clients(
    videos, tmp_path, monkeypatch, caplog, misconfigure, log
):
    misconfigure(monkeypatch)
    assert refused(tmp_path)[:2] == ("bucket_refused", 502)
    assert log in caplog.text and len(caplog.records) == 1
