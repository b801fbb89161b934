"""A real TorchServe whose model runs in ONNX Runtime, without torch; and what it says while it is too busy."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import send

from bench.server import served
from bench.usage import Usage
from handler.process import LOOPBACK, Server, free_port
from spoter.model_folder import WEIGHTS, digest, load_model_folder
from spoter.onnx_export import export
from spoter.onnx_forward import GRAPHS
from spoter.recognizer import Recognizer
from spoter.service import Incoming, respond

JSON, CSV = "application/json", "text/csv"


@pytest.fixture(scope="module")
def folder(dgs11: Path, tmp_path_factory) -> Path:
    """The default model with its graph."""
    folder = Path(shutil.copytree(dgs11, tmp_path_factory.mktemp("onnx") / "dgs11"))
    (folder / GRAPHS["onnx"]).write_bytes(export(load_model_folder(dgs11), digest(dgs11 / WEIGHTS)))
    return folder


@pytest.fixture(scope="module")
def onnx_server(folder: Path) -> Iterator[Server]:
    """Its bucket of videos is one that nobody answers for."""
    videos = {"SPOTER_VIDEO_BUCKET": "videos", "SPOTER_VIDEO_PYTHON": sys.executable}
    nowhere = {"AWS_ENDPOINT_URL": f"http://{LOOPBACK}:{free_port()}", "AWS_DEFAULT_REGION": "eu-central-1"}
    keys = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
    with served(folder, settings=videos | nowhere | keys, runtime="onnx") as server:
        yield server


def ask(server: Server, body: bytes, content_type: str = JSON):
    return send(server.ports[0], "POST", "/predictions/spoter", body, {"Content-Type": content_type})


def test_it_answers_as_the_graph_does_in_process(onnx_server, folder, samples):
    recognizer = Recognizer.load(folder, runtime="onnx")
    for name, kind in (("zeigen-compact.json", JSON), ("deutschland.csv", CSV)):
        body = (samples / name).read_bytes()
        (expected,), _ = respond(recognizer, [Incoming(body, kind)])
        reply = ask(onnx_server, body, kind)
        assert reply.status == 200 and reply.body == expected.body


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has in memory is read in /proc, of Linux")
def test_its_worker_has_no_torch(onnx_server):
    (worker,) = Usage.of(onnx_server.leader).workers
    loaded = Path(f"/proc/{worker.pid}/maps").read_text()
    assert "onnxruntime" in loaded and "libtorch" not in loaded


def test_a_busy_worker_says_when_to_come_back(onnx_server):
    reply = ask(onnx_server, json.dumps({"uniqueName": "a.webm"}).encode())
    assert (reply.status, reply.json["error"]["code"]) == (503, "bucket_busy")
    assert reply.headers["retry-after"] == "5"
