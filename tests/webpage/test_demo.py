"""`spoter demo`: starts, reuses and stops TorchServe, and reports errors."""

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
from tests.webpage.conftest import Demo, running


@pytest.fixture(autouse=True)
def _packages(demo) -> None:
    """The first `spoter demo` installs the page's packages."""


def post(url: str, body: bytes) -> dict:
    request = urllib.request.Request(f"{url}/predictions/spoter", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def run_to_failure(demo: Demo) -> tuple[int, str]:
    """Run a `spoter demo` that fails; return its exit status and stderr."""
    result = subprocess.run(
        [sys.executable, "-m", "spoter", "demo"],
        cwd=ROOT,
        env=demo.environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout == "" and "Traceback" not in result.stderr
    return result.returncode, result.stderr


def test_serves_the_page_and_forwards_requests(demo, samples):
    assert installed(ROOT / "web")
    assert f"{demo.url}/" in demo.output[-2]
    with urllib.request.urlopen(demo.url, timeout=60) as answer:
        assert b"<html" in answer.read()
    assert post(demo.url, (samples / "hallo.json").read_bytes())["instances"][0]["gloss"] == "HALLO"
    assert "HALLO" in post(demo.url, b'{"describe": true}')["glosses"]


def test_reuses_a_running_torchserve_and_does_not_stop_it(demo, short_folder):
    second = Demo(short_folder, {"SPOTER_PORT": str(demo.torchserve)}).start()
    assert any(str(demo.torchserve) in line for line in second.output)
    assert psutil.Process(second.process.pid).children() == []
    assert "HALLO" in post(second.url, b'{"describe": true}')["glosses"]
    status, errors = second.stop(signal.SIGINT)
    assert status == 0 and "Traceback" not in errors
    assert port_is_free(LOOPBACK, second.port)
    assert "HALLO" in post(demo.url, b'{"describe": true}')["glosses"]


def test_sends_torchserves_token_and_ends_with_torchserve(short_folder, samples):
    folder = short_folder / "token"
    folder.mkdir()
    # `spoter serve` requires tokens on addresses other than the loopback address.
    started = Demo(folder, {"SPOTER_HOST": "0.0.0.0"}).start()
    processes = started.descendants()
    assert len(processes) >= 4
    assert post(started.url, (samples / "hallo.json").read_bytes())["instances"][0]["gloss"] == "HALLO"
    direct = f"http://{LOOPBACK}:{started.torchserve}"
    with pytest.raises(urllib.error.HTTPError) as error:
        post(direct, b"{}")
    assert b"token" in error.value.read().lower()
    status, text = run_to_failure(Demo(folder, {"SPOTER_PORT": str(started.torchserve)}))
    assert status == 2 and "SPOTER_TOKEN" in text
    psutil.Process(started.process.pid).children()[0].terminate()
    errors = started.process.communicate(timeout=60)[1]
    assert started.process.returncode == 1 and "TorchServe" in errors
    assert running(processes) == [] and port_is_free(LOOPBACK, started.port)


def test_a_busy_port_of_the_page_is_reported(short_folder):
    blocked = Demo(short_folder)
    with socket.socket() as listener:
        listener.bind((LOOPBACK, blocked.port))
        listener.listen()
        status, text = run_to_failure(blocked)
    assert status == 2
    assert all(part in text for part in (str(blocked.port), str(os.getpid()), "SPOTER_DEMO_PORT="))


class _OtherServer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_error(404)

    def log_message(self, *_) -> None:
        pass


def test_another_server_on_torchserves_port_is_reported(short_folder):
    server = ThreadingHTTPServer((LOOPBACK, 0), _OtherServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        status, text = run_to_failure(Demo(short_folder, {"SPOTER_PORT": str(server.server_port)}))
    finally:
        server.shutdown()
        server.server_close()
    assert status == 2 and "404" in text and "SPOTER_PORT=" in text


def test_a_torchserve_that_does_not_start_ends_the_demo(short_folder, tmp_path):
    status, text = run_to_failure(Demo(short_folder, {"SPOTER_MODEL": str(tmp_path)}))
    assert status != 0 and "config.json" in text and "spoter serve" in text


def test_the_token_file_is_read_for_each_request(tmp_path: Path):
    file = tmp_path / "key_file.json"
    server = ModelServer("http://127.0.0.1:1/x", key_file=file)
    assert server.token() is None
    for key in ("one", "two"):
        file.write_text(json.dumps({"inference": {"key": key}}))
        assert server.token() == key
    file.write_text('{"inference": {"ke')
    assert server.token() is None
    assert ModelServer("x", "fixed").token() == "fixed" and ModelServer("x").token() is None


def test_the_size_limit_is_torchserves(monkeypatch):
    assert f"max_request_size={max_request_bytes()}\n" in (ROOT / "config.properties").read_text()
    monkeypatch.setenv("TS_MAX_REQUEST_SIZE", "1234")
    assert max_request_bytes() == 1234
