"""`spoter doctor --server` tells what /ping does not: of workers that die at each start, and at each request."""

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
    """Return the exit status, and each check's word and advice by its name."""
    done = CliRunner().invoke(app, ["doctor", "--server", url, *options])
    found: dict[str, list[str]] = {}
    for line in done.output.splitlines():
        if not line.startswith(" "):
            word, name, rest = line.split(maxsplit=2)
            found[name] = [word, rest]
        else:
            found[name].append(line.split("-> ")[1])
    return done.exit_code, found


@pytest.fixture(scope="module")
def dying(scratch: Path, model_store: Path, bare_python: Path) -> Iterator[RunningServer]:
    """TorchServe with a model that cannot be loaded, and one whose worker dies of every request."""
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
    status, found = doctor(f"http://127.0.0.1:{server.port}", "--management", f"http://127.0.0.1:{server.management}")
    assert [word for word, *_ in found.values()] == ["ok"] * 4 and status == 0, found
    assert found["workers"][1] == "1 of 1 READY" and "dgs11" in found["prediction"][1]


@pytest.mark.parametrize("model", ["unloadable", "deadly"])
def test_ping_is_healthy_while_workers_die_and_the_doctor_is_not_fooled(dying, model):
    assert send(dying.port, "GET", "/ping").json == {"status": "Healthy"}
    url, management = f"http://127.0.0.1:{dying.port}/predictions/{model}", f"http://127.0.0.1:{dying.management}"
    status, found = doctor(url, "--management", management, "--timeout", "2")
    assert status == 1
    assert found["ping"][0] == "ok" and "Healthy" in found["ping"][1]
    assert found["prediction"][0] == "FAIL" and "model_log.log" in found["prediction"][2], found
    if model == "unloadable":
        assert found["workers"] == ["FAIL", "0 of 1 READY", found["workers"][2]] and "speed" not in found
    assert send(dying.port, "GET", "/ping").json == {"status": "Healthy"}


def test_a_wrong_path_a_wrong_port_and_nobody(server):
    root = f"http://127.0.0.1:{server.port}"
    status, found = doctor(f"{root}/predictions/other")
    assert status == 1 and "404" in found["prediction"][1] and "is the model named so" in found["prediction"][2]
    status, found = doctor(f"{root}/nowhere")
    assert status == 1 and "is http" in found["prediction"][2]
    status, found = doctor(f"http://127.0.0.1:{server.metrics}/metrics")  # another server
    assert status == 1 and found["prediction"][0] == "FAIL"
    status, found = doctor(root, "--management", f"http://127.0.0.1:{server.metrics}")
    assert status == 1 and found["workers"][0] == "FAIL" and found["prediction"][0] == "ok"
    status, found = doctor(f"http://127.0.0.1:{free_port()}")
    assert status == 1 and {each[1] for each in found.values()} == {"nobody listens"}


def test_by_config_properties_all_five_ports_are_loopbacks(server):
    """8080 to 8082 and gRPC's two, whatever numbers they have here."""
    listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    (java,) = {each.pid for each in listening if each.laddr.port == server.management}
    ours = {each.laddr.port: each.laddr.ip.removeprefix("::ffff:") for each in listening if each.pid == java}
    assert {server.port, server.management, server.metrics} < ours.keys() and len(ours) == 5
    assert set(ours.values()) == {"127.0.0.1"}
