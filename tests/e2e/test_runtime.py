"""A real TorchServe whose workers run without torch, with the bundled model; and its answer while it is busy."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.load.usage import measure_usage
from benchmarks.serving.server import running_server
from spoter.messages import RawRequest
from spoter.ops.ports import LOOPBACK, free_port
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond
from spoter.torchserve.server import TorchServe
from tests.e2e.live import send

pytestmark = pytest.mark.server

JSON, CSV = "application/json", "text/csv"


@pytest.fixture(scope="module")
def onnx_server(dgs11: Path) -> Iterator[TorchServe]:
    """Run a server whose S3 address refuses connections."""
    videos = {"SPOTER_VIDEO_BUCKET": "videos", "SPOTER_VIDEO_PYTHON": sys.executable}
    nowhere = {"AWS_ENDPOINT_URL": f"http://{LOOPBACK}:{free_port()}", "AWS_DEFAULT_REGION": "eu-central-1"}
    keys = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
    with running_server(dgs11, settings=videos | nowhere | keys) as server:
        yield server


def ask(server: TorchServe, body: bytes, content_type: str = JSON):
    return send(server.ports[0], "POST", "/predictions/spoter", body, {"Content-Type": content_type})


def test_answers_equal_those_in_process(onnx_server, dgs11, samples):
    recognizer = Recognizer.load(dgs11, runtime="onnx")
    for name, kind in (("zeigen-compact.json", JSON), ("deutschland.csv", CSV)):
        body = (samples / name).read_bytes()
        (expected,), _ = respond(recognizer, [RawRequest(body, kind)])
        reply = ask(onnx_server, body, kind)
        assert reply.status == 200 and reply.body == expected.body


@pytest.mark.skipif(sys.platform != "linux", reason="the memory map of a process is read from /proc")
def test_the_worker_does_not_load_torch(onnx_server):
    (worker,) = measure_usage(onnx_server.leader).workers
    loaded = Path(f"/proc/{worker.pid}/maps").read_text()
    assert "onnxruntime" in loaded and "libtorch" not in loaded


def test_a_busy_server_sends_retry_after(onnx_server):
    reply = ask(onnx_server, json.dumps({"uniqueName": "a.webm"}).encode())
    assert (reply.status, reply.json["error"]["code"]) == (503, "bucket_busy")
    assert reply.headers["retry-after"] == "5"
