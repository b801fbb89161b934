"""`spoter replace` on real servers: every request is answered, by the old or the new version."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.serving.server import change_archive
from spoter.cli.main import app
from spoter.errors import SpoterError
from spoter.ops.ports import LOOPBACK, free_port
from spoter.torchserve import replace as command
from spoter.torchserve.pack import build
from tests import ROOT
from tests.e2e.live import send, server_environment, wait_ready
from tests.e2e.test_serve import Serve

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("kill_program")]

BODY = next(iter(sorted((ROOT / "samples").glob("*.json")))).read_bytes()
JSON = {"Content-Type": "application/json"}
MODEL_API = {"TS_ENABLE_MODEL_API": "true"}
# Seconds that a batch may take on the server started by hand.
RESPONSE_TIMEOUT = 12
# Replaces the handler of an archive: it starts, and fails on each request.
FAILING = b"""
class SpoterHandler:
    def initialize(self, context): pass
    def handle(self, data, context): raise RuntimeError("no")
"""


@dataclass
class Load:
    """Threads that send requests one after another, with the statuses and versions they got, and the longest time."""

    port: int
    answers: list[tuple[int, str]] = field(default_factory=list)
    longest: float = 0.0
    _finished: threading.Event = field(default_factory=threading.Event)

    def run(self, kept_alive: bool) -> None:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=120)
        while not self._finished.is_set():
            began = time.monotonic()
            try:
                connection.request("POST", "/predictions/spoter", BODY, JSON)
                response = connection.getresponse()
                document = json.loads(response.read())
                self.answers.append((response.status, document.get("model", {}).get("version")))
            except (OSError, http.client.HTTPException) as error:
                self.answers.append((0, repr(error)))
                connection.close()
            self.longest = max(self.longest, time.monotonic() - began)
            if not kept_alive:
                connection.close()
            time.sleep(0.01)
        connection.close()

    def wait_for_more(self, number: int = 20) -> None:
        """Wait until `number` more requests are answered."""
        target, deadline = len(self.answers) + number, time.monotonic() + 120
        while len(self.answers) < target and time.monotonic() < deadline:
            time.sleep(0.05)


@contextmanager
def load(port: int, *kept_alive: bool) -> Iterator[Load]:
    """Send requests during the block, with one thread per value of `kept_alive`."""
    running = Load(port)
    threads = [threading.Thread(target=running.run, args=(each,)) for each in kept_alive]
    for thread in threads:
        thread.start()
    try:
        running.wait_for_more()
        yield running
        running.wait_for_more()
    finally:
        running._finished.set()
        for thread in threads:
            thread.join()


@dataclass
class ByHand:
    """A TorchServe started by the command in docs/operations.md, with the model API on."""

    folder: Path
    ports: tuple[int, int, int]
    environ: dict[str, str]

    @property
    def management(self) -> str:
        return f"http://{LOOPBACK}:{self.ports[1]}"

    @property
    def store(self) -> Path:
        return self.folder / "model_store"

    def versions(self) -> list[str]:
        return [each["modelVersion"] for each in send(self.ports[1], "GET", "/models/spoter/all").json]

    def default(self) -> dict:
        return send(self.ports[1], "GET", "/models/spoter").json[0]


@pytest.fixture(scope="module")
def by_hand(scratch: Path, dgs11: Path) -> Iterator[ByHand]:
    folder = scratch / "replace-by-hand"
    folder.mkdir()
    ports = (free_port(), free_port(), free_port())
    running = ByHand(folder, ports, server_environment(folder, ports) | MODEL_API)
    build(dgs11, "spoter", None, running.store)
    timeouts = {"responseTimeout": RESPONSE_TIMEOUT, "handler": {"videoTimeout": 1}}
    change_archive(running.store / "spoter.mar", timeouts, {})
    torchserve = [sys.executable, "-m", "ts.model_server"]
    options = ["--model-store", running.store, "--ts-config", "config.properties", "--models", "spoter=spoter.mar"]
    try:
        with (folder / "out").open("w") as out:  # the server still writes after the command has ended
            subprocess.run(
                [*torchserve, "--start", *options], cwd=ROOT, env=running.environ, stdout=out, stderr=out, check=True
            )
        wait_ready(ports[1])
        yield running
    finally:
        stop = [*torchserve, "--stop", "--foreground"]
        subprocess.run(stop, cwd=ROOT, env=running.environ, capture_output=True, timeout=90)


def versioned(model: Path, to: Path, version: str) -> Path:
    """Copy a model folder, with another version in its config.json."""
    shutil.copytree(model, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | {"version": version}))
    return to


def version_in(archive: Path) -> str:
    with zipfile.ZipFile(archive) as opened:
        return json.loads(opened.read("MAR-INF/MANIFEST.json"))["model"]["modelVersion"]


def run(model: Path, management: str) -> tuple[int, str]:
    """Run the command in another folder than the checkout; return its exit status and output."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SPOTER_")}
    line = [sys.executable, "-m", "spoter", "replace", "--model", model, "--management", management]
    done = subprocess.run(line, cwd=model.parent, env=environ, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def assert_unchanged(server: ByHand, version: str) -> None:
    assert server.versions() == [version] and server.default()["modelVersion"] == version
    assert [path.name for path in server.store.glob("*.mar")] == ["spoter.mar"]
    assert version_in(server.store / "spoter.mar") == version
    assert send(server.ports[0], "POST", "/predictions/spoter", BODY, JSON).status == 200


def test_an_impossible_replacement_is_refused_without_a_change(by_hand, dgs11, tmp_path, monkeypatch):
    monkeypatch.delenv("SPOTER_RUNTIME", raising=False)
    served = by_hand.default()["modelVersion"]
    other = versioned(dgs11, tmp_path / "other", "7.0")
    (tmp_path / "empty").mkdir()
    nameless = versioned(dgs11, tmp_path / "nameless", "7/../0")
    for model, management, words in (
        (dgs11, by_hand.management, ("config.json", "version", repr(served))),
        (tmp_path / "empty", by_hand.management, ("config.json",)),
        (nameless, by_hand.management, ("version", "7/../0")),
        (other, f"http://{LOOPBACK}:{by_hand.ports[2]}", ("management API",)),  # metrics
        (other, f"http://{LOOPBACK}:{by_hand.ports[0]}", ("management API",)),
        (other, f"http://{LOOPBACK}:{free_port()}", ("this machine",)),
        (other, f"http://203.0.113.1:{by_hand.ports[1]}", ("this machine",)),  # an address that no machine has
        (other, "nonsense", ("nonsense", "http://127.0.0.1:8081")),
    ):
        status, output = run(model, management)
        assert status == 2 and output.splitlines()[-1].startswith("error: "), output
        assert all(word in output for word in words) and "Traceback" not in output, output
        assert_unchanged(by_hand, served)
    monkeypatch.setattr(command.shutil, "which", lambda *_, **__: None)
    with pytest.raises(SpoterError, match=r"`kill`.*procps"):
        command.replace(other, by_hand.management)
    assert_unchanged(by_hand, served)


def test_a_server_without_the_model_api_is_reported(server, dgs11, tmp_path):
    status, output = run(versioned(dgs11, tmp_path / "next", "7.0"), f"http://{LOOPBACK}:{server.management}")
    assert status == 2 and "TS_ENABLE_MODEL_API=true" in output


def test_a_leftover_version_is_reported(by_hand, dgs11, tmp_path):
    served = by_hand.default()["modelVersion"]
    left = versioned(dgs11, tmp_path / "left", "8.0")
    (archive, _) = build(left, "left", None, tmp_path / "built")
    shutil.copy(archive, by_hand.store)
    assert send(by_hand.ports[1], "POST", "/models?url=left.mar&model_name=spoter").status == 200
    (by_hand.store / archive.name).unlink()
    status, output = run(left, by_hand.management)
    assert status == 2 and f"curl -X DELETE {by_hand.management}/models/spoter/8.0" in output
    assert by_hand.versions() == [served, "8.0"]
    assert send(by_hand.ports[1], "DELETE", "/models/spoter/8.0").status == 200


@pytest.mark.parametrize(
    ("files", "words"),
    [({"model.onnx": b"no graph"}, "does not start"), ({"spoter_handler.py": FAILING}, "does not answer")],
    ids=["start", "sample"],
)
def test_a_new_version_that_fails_is_removed_and_the_old_one_keeps_serving(
    by_hand, dgs11, tmp_path, monkeypatch, files, words
):
    def broken(*arguments: object, **options: object) -> dict[str, bytes]:
        return archive_files(*arguments, **options) | files

    archive_files, served = command.archive_files, by_hand.default()["modelVersion"]
    monkeypatch.setattr(command, "archive_files", broken)
    lines: list[str] = []
    with load(by_hand.ports[0], False, True) as clients, pytest.raises(SpoterError, match=words) as error:
        command.replace(versioned(dgs11, tmp_path / "next", "9.0"), by_hand.management, say=lines.append)
    assert error.value.exit_code == 1 and "9.0" in lines[-1]
    assert set(clients.answers) == {(200, served)}
    assert_unchanged(by_hand, served)


def test_torchserve_by_hand_answers_every_request(by_hand, dgs11, tmp_path, monkeypatch):
    """Also requests that the old worker holds, here for seconds, when the new version becomes the default."""
    old = by_hand.default()
    (worker,) = [each["pid"] for each in old["workers"]]
    resumed, ask, drain = threading.Timer(3.0, os.kill, (worker, signal.SIGCONT)), command.prediction, command._drain
    drained: list[float] = []

    def ask_and_pause(*arguments):
        answer = ask(*arguments)
        os.kill(worker, signal.SIGSTOP)
        time.sleep(0.5)  # so that the paused worker holds requests before the new version is the default
        resumed.start()
        return answer

    def drain_timed(*arguments):
        began = time.monotonic()
        drain(*arguments)
        drained.append(time.monotonic() - began)

    monkeypatch.setattr(command, "prediction", ask_and_pause)
    monkeypatch.setattr(command, "_drain", drain_timed)
    try:
        with load(by_hand.ports[0], False, False, True) as clients:
            command.replace(versioned(dgs11, tmp_path / "next", "2.0"), by_hand.management)
    finally:
        resumed.join()
    assert set(clients.answers) == {(200, old["modelVersion"]), (200, "2.0")}
    assert {version for _, version in clients.answers[-10:]} == {"2.0"}
    assert clients.longest > 2  # the request that the paused worker held
    assert drained[0] >= RESPONSE_TIMEOUT  # the connection that is kept alive may hold a request until then
    assert len(by_hand.default()["workers"]) == 1
    assert_unchanged(by_hand, "2.0")  # spoter.mar also holds the new version, so a restart serves it


def test_the_doctor_recognizes_a_server_started_by_hand(by_hand, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(by_hand.folder))
    monkeypatch.delenv("TEMP", raising=False)
    ports = [option for port in by_hand.ports for option in ("--port", str(port))]
    done = CliRunner().invoke(app, ["doctor", "--model", str(ROOT / "models" / "dgs11"), *ports])
    lines = [line for line in done.output.splitlines() if "server of this project" in line]
    assert done.exit_code == 0 and len(lines) == 4, done.output  # its three ports and its pid file
    assert all(line.startswith("ok") for line in lines) and "dgs11" in lines[0]


def test_make_serve_answers_every_request(scratch, dgs11, tmp_path):
    folder = scratch / "replace-serve"
    folder.mkdir()
    running = Serve(folder, environ=os.environ | MODEL_API | {"TMPDIR": str(folder)})
    try:
        running.read_greeting()
        inference, management, _ = running.ports
        served = send(management, "GET", "/models/spoter").json[0]["modelVersion"]
        with load(inference, False, False) as clients:
            status, output = run(versioned(dgs11, tmp_path / "next", "2.0"), f"http://{LOOPBACK}:{management}")
            clients.wait_for_more()
        assert status == 0, output
        assert set(clients.answers) == {(200, served), (200, "2.0")}
        assert {version for _, version in clients.answers[-10:]} == {"2.0"}
        assert [each["modelVersion"] for each in send(management, "GET", "/models/spoter/all").json] == ["2.0"]
        assert version_in(folder / "store" / "spoter.mar") == served  # a restart packs SPOTER_MODEL again
        assert "SPOTER_MODEL" in output
    finally:
        running.process.send_signal(signal.SIGTERM)
        assert running.end()[0] == 0


def test_expired_keys_are_renewed(scratch, dgs11, tmp_path):
    folder = scratch / "replace-tokens"
    folder.mkdir()
    running = Serve(folder, "--tokens", environ=os.environ | MODEL_API | {"TMPDIR": str(folder)})
    try:
        running.read_greeting()
        (keys,) = folder.glob("spoter-*/key_file.json")
        entries = json.loads(keys.read_text())
        for kind in ("inference", "management"):
            entries[kind]["key"] = "12345678"  # refused like an expired key
        keys.write_text(json.dumps(entries))
        status, output = run(versioned(dgs11, tmp_path / "next", "2.0"), f"http://{LOOPBACK}:{running.ports[1]}")
        assert status == 0, output
        new_keys = json.loads(keys.read_text())
        headers = JSON | {"Authorization": f"Bearer {new_keys['inference']['key']}"}
        reply = send(running.ports[0], "POST", "/predictions/spoter", BODY, headers)
        assert reply.status == 200 and reply.json["model"]["version"] == "2.0"
    finally:
        running.process.send_signal(signal.SIGTERM)
        running.end()
