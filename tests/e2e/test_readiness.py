"""`spoter doctor --server` reports workers that die at each start or at each request; /ping does not."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from spoter.cli.main import app
from spoter.ops.ports import free_port
from spoter.torchserve.pack import zipped
from tests.e2e.live import RunningServer, send, torchserve

pytestmark = pytest.mark.server

DYING = b"""
import os
class SpoterHandler:
    def initialize(self, context): pass
    def handle(self, data, context): os._exit(3)
"""


def doctor(url: str, *options: str) -> tuple[int, dict[str, list[str]]]:
    """Return the exit status, and by the name of each check: ok or FAIL, the finding, and the advice."""
    done = CliRunner().invoke(app, ["doctor", "--server", url, *options])
    results: dict[str, list[str]] = {}
    for line in done.output.splitlines():
        if not line.startswith(" "):
            word, name, rest = line.split(maxsplit=2)
            results[name] = [word, rest]
        else:
            results[name].append(line.split("-> ")[1])
    return done.exit_code, results


@pytest.fixture(scope="module")
def dying(scratch: Path, model_store: Path, bare_python: Path) -> Iterator[RunningServer]:
    """Run TorchServe with a model that cannot be loaded, and a model whose worker dies at every request."""
    with zipfile.ZipFile(model_store / "spoter.mar") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files["MAR-INF/MANIFEST.json"])
    store = scratch / "dying-store"
    store.mkdir()
    for name, changes in {"unloadable": {"model.onnx": b"no weights"}, "deadly": {"spoter_handler.py": DYING}}.items():
        manifest["model"]["modelName"] = name
        content = files | changes | {"MAR-INF/MANIFEST.json": json.dumps(manifest).encode()}
        (store / f"{name}.mar").write_bytes(zipped(content))
    with torchserve(scratch / "dying", store, bare_python, "unloadable", "deadly", wait_for=["deadly"]) as running:
        yield running


def test_a_server_that_answers_is_ready(server):
    status, results = doctor(f"http://127.0.0.1:{server.port}", "--management", f"http://127.0.0.1:{server.management}")
    assert [word for word, *_ in results.values()] == ["ok"] * 4 and status == 0, results
    assert results["workers"][1] == "1 of 1 READY" and "dgs11" in results["prediction"][1]


@pytest.mark.parametrize("model", ["unloadable", "deadly"])
def test_the_doctor_reports_dying_workers_while_ping_is_healthy(dying, model):
    assert send(dying.port, "GET", "/ping").json == {"status": "Healthy"}
    url, management = f"http://127.0.0.1:{dying.port}/predictions/{model}", f"http://127.0.0.1:{dying.management}"
    status, results = doctor(url, "--management", management, "--timeout", "2")
    assert status == 1
    assert results["ping"][0] == "ok" and "Healthy" in results["ping"][1]
    assert results["prediction"][0] == "FAIL" and "model_log.log" in results["prediction"][2], results
    if model == "unloadable":
        assert results["workers"][:2] == ["FAIL", "0 of 1 READY"] and "speed" not in results
    assert send(dying.port, "GET", "/ping").json == {"status": "Healthy"}


def test_wrong_paths_and_ports_are_reported(server):
    root = f"http://127.0.0.1:{server.port}"
    status, results = doctor(f"{root}/predictions/other")
    assert status == 1 and "404" in results["prediction"][1] and ":8081/models" in results["prediction"][2]
    status, results = doctor(f"{root}/nowhere")
    assert status == 1 and f"{root}/nowhere" in results["prediction"][2]
    status, results = doctor(f"http://127.0.0.1:{server.metrics}/metrics")  # another server
    assert status == 1 and results["prediction"][0] == "FAIL"
    status, results = doctor(root, "--management", f"http://127.0.0.1:{server.metrics}")
    assert status == 1 and results["workers"][0] == "FAIL" and results["prediction"][0] == "ok"
    status, results = doctor(f"http://127.0.0.1:{free_port()}")
    assert status == 1 and {each[1] for each in results.values()} == {"connection refused"}


def test_config_properties_binds_all_five_ports_to_loopback(server):
    """Ports 8080 to 8082 and the two of gRPC; the numbers differ in tests."""
    listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    (java,) = {each.pid for each in listening if each.laddr.port == server.management}
    addresses = {each.laddr.port: each.laddr.ip.removeprefix("::ffff:") for each in listening if each.pid == java}
    assert {server.port, server.management, server.metrics} < addresses.keys() and len(addresses) == 5
    assert set(addresses.values()) == {"127.0.0.1"}
