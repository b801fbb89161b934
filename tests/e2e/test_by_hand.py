"""TorchServe started and stopped by hand: it answers predictions, shows our metrics, and ends."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from spoter.ops.ports import free_port
from tests import ROOT
from tests.e2e.live import send, server_environment, wait_ready

pytestmark = pytest.mark.server


def test_it_starts_answers_and_stops(scratch):
    folder = scratch / "by-hand"
    folder.mkdir()
    ports = (free_port(), free_port(), free_port())
    environ = server_environment(folder, ports)
    del environ["TS_METRICS_CONFIG"]  # config.properties has its path, from the repository's root
    store = folder / "model_store"
    built = subprocess.run(
        [sys.executable, "build_mar.py", "--out", store], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "spoter.mar" in built.stdout and "sha256" in built.stdout
    torchserve = [sys.executable, "-m", "ts.model_server"]
    options = ["--model-store", store, "--ts-config", "config.properties", "--models", "spoter=spoter.mar"]
    try:
        with (folder / "out").open("w") as out:  # the server writes to it after the command has ended
            command = [*torchserve, "--start", *options]
            subprocess.run(command, cwd=ROOT, env=environ, stdout=out, stderr=out, check=True, timeout=60)
        assert wait_ready(ports[1])["workers"][0]["status"] == "READY"
        sample = next(iter(sorted((ROOT / "samples").glob("*.json"))))
        headers = {"Content-Type": "application/json"}
        assert send(ports[0], "PUT", "/predictions/spoter", sample.read_bytes(), headers).status == 200
        assert b"DecodeTime" in send(ports[2], "GET", "/metrics").body
    finally:
        stopped = subprocess.run(
            [*torchserve, "--stop", "--foreground"], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=90
        )
    assert stopped.returncode == 0, stopped.stdout
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            send(ports[0], "GET", "/ping")
        except ConnectionError:
            return
        time.sleep(0.2)
    raise AssertionError("TorchServe still answers after torchserve --stop")
