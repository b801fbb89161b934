"""`make demo`: what `spoter demo` prints, refuses, finds, and leaves server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from spoter.cli.demo import ModelServer, max_request_bytes
from spoter.ops.ports import LOOPBACK, port_is_free
from spoter.webpage.npm import installed
from tests import ROOT
from tests.webpage.conftest import Demo, living


@pytest.fixture(autouse=True)
def _packages(demo) -> None:
    """They are installed by the first `spoter demo`."""


def post(url: str, body: bytes) -> dict:
    request = urllib.request.Request(f"{url}/predictions/spoter", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def refused(running: Demo) -> tuple[int, str]:
    """Start a `spoter demo` that ends by itself; return its status and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "spoter", "demo"],
        cwd=ROOT,
        env=running.environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "" and "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_serves_the_page_and_hands_requests_on(demo, samples):
    assert installed(ROOT / "web")
    assert f"{demo.url}/" in demo.said[-2]
    with urllib.request.urlopen(demo.url, timeout=60) as answer:
        assert b"<html" in answer.read()
    assert post(demo.url, (samples / "hallo.json").read_bytes())["instances"][0]["gloss"] == "HALLO"
    assert "HALLO" in post(demo.url, b'{"describe": true}')["glosses"]


def test_uses_a_torchserve_that_runs_and_leaves_it_running(demo, short_folder):
    second = Demo(short_folder, {"SPOTER_PORT": str(demo.torchserve)}).start()
    assert any("using the running TorchServe" in line for line in second.said)
    assert psutil.Process(second.process.pid).children() == []
    assert "HALLO" in post(second.url, b'{"describe": true}')["glosses"]
    status, errors = second.end(signal.SIGINT)
    assert (status, errors.strip().splitlines()[-1]) == (0, "stopping")
    assert port_is_free(LOOPBACK, second.port)
    assert "HALLO" in post(demo.url, b'{"describe": true}')["glosses"]


def test_speaks_to_a_torchserve_with_its_token_and_ends_where_that_ends(short_folder, samples):
    folder = short_folder / "own"
    folder.mkdir()
    # An address of this machine that `spoter serve` does not take for loopback's: it asks for tokens then.
    running = Demo(folder, {"SPOTER_HOST": "0.0.0.0"}).start()
    family = running.family()
    assert len(family) >= 4
    assert post(running.url, (samples / "hallo.json").read_bytes())["instances"][0]["gloss"] == "HALLO"
    direct = f"http://{LOOPBACK}:{running.torchserve}"
    with pytest.raises(urllib.error.HTTPError) as error:
        post(direct, b"{}")
    assert b"token" in error.value.read().lower()
    status, text = refused(Demo(folder, {"SPOTER_PORT": str(running.torchserve)}))
    assert status == 2 and "SPOTER_TOKEN" in text
    psutil.Process(running.process.pid).children()[0].terminate()
    errors = running.process.communicate(timeout=60)[1]
    assert running.process.returncode == 1 and "TorchServe ended" in errors
    assert living(family) == [] and port_is_free(LOOPBACK, running.port)


def test_a_busy_port_of_the_page_is_named(short_folder):
    running = Demo(short_folder)
    with socket.socket() as taken:
        taken.bind((LOOPBACK, running.port))
        taken.listen()
        status, text = refused(running)
    assert status == 2
    assert f"port {running.port} of 127.0.0.1 is in use by process {os.getpid()} (" in text
    assert "SPOTER_DEMO_PORT=" in text


class _Stranger(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_error(404)

    def log_message(self, *_) -> None:
        pass


def test_a_stranger_on_torchserves_port_is_named(short_folder):
    server = ThreadingHTTPServer((LOOPBACK, 0), _Stranger)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        status, text = refused(Demo(short_folder, {"SPOTER_PORT": str(server.server_port)}))
    finally:
        server.shutdown()
        server.server_close()
    assert status == 2 and "status 404" in text and "SPOTER_PORT=" in text


def test_a_torchserve_that_does_not_start_ends_it(short_folder, tmp_path):
    status, text = refused(Demo(short_folder, {"SPOTER_MODEL": str(tmp_path)}))
    assert status != 0 and "config.json" in text and "spoter serve did not start" in text


def test_the_token_is_read_anew_each_time(tmp_path: Path):
    file = tmp_path / "key_file.json"
    server = ModelServer("http://127.0.0.1:1/x", key_file=file)
    assert server.token() is None
    for key in ("one", "two"):
        file.write_text(json.dumps({"inference": {"key": key}}))
        assert server.token() == key
    file.write_text('{"inference": {"ke')
    assert server.token() is None
    assert ModelServer("x", "told").token() == "told" and ModelServer("x").token() is None


def test_the_longest_body_is_torchserves(monkeypatch):
    assert f"max_request_size={max_request_bytes()}\n" in (ROOT / "config.properties").read_text()
    monkeypatch.setenv("TS_MAX_REQUEST_SIZE", "1234")
    assert max_request_bytes() == 1234
