"""docker/start.py and docker/health.py outside a container."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests import ROOT
from tests.http_double import ANSWER, serving

DOCKER = ROOT / "docker"


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"docker_{name}", DOCKER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


start, health = load("start"), load("health")


def test_torchserve_requires_tokens_and_exposes_only_predictions():
    chosen = start.settings("torchserve", {})
    assert Path(chosen["PYTHONPATH"], "sitecustomize.py").is_file()
    assert chosen["TS_DISABLE_TOKEN_AUTHORIZATION"] == "false"
    assert chosen["TS_INFERENCE_ADDRESS"] == "http://0.0.0.0:8080"
    assert chosen["TS_MANAGEMENT_ADDRESS"] == "http://127.0.0.1:8081"
    assert chosen["TS_METRICS_ADDRESS"] == "http://127.0.0.1:8082"
    assert "TS_DEFAULT_WORKERS_PER_MODEL" not in chosen


def test_torchserves_variables_override_all_but_the_folders():
    environ = {"TS_DISABLE_TOKEN_AUTHORIZATION": "true", "TS_JOB_QUEUE_SIZE": "7", "TEMP": "/elsewhere", "PATH": "/bin"}
    chosen = start.settings("torchserve", environ)
    assert chosen["TS_DISABLE_TOKEN_AUTHORIZATION"] == "true"
    assert chosen["TS_JOB_QUEUE_SIZE"] == "7"
    assert chosen["TEMP"] == chosen["TMPDIR"] == "/tmp/spoter"
    assert "PATH" not in chosen


def test_only_serve_uses_sagemakers_variables():
    environ = {
        "SAGEMAKER_BIND_TO_PORT": "9001",
        "SAGEMAKER_SAFE_PORT_RANGE": "9000-9005",
        "SAGEMAKER_MODEL_SERVER_WORKERS": "3",
    }
    chosen = start.settings("serve", environ)
    assert chosen["TS_INFERENCE_ADDRESS"] == "http://0.0.0.0:9001"
    assert chosen["TS_MANAGEMENT_ADDRESS"] == "http://127.0.0.1:9000"
    assert chosen["TS_METRICS_ADDRESS"] == "http://127.0.0.1:9002"  # 9001 is in use
    assert (chosen["TS_GRPC_INFERENCE_PORT"], chosen["TS_GRPC_MANAGEMENT_PORT"]) == ("9003", "9004")
    assert chosen["TS_DEFAULT_WORKERS_PER_MODEL"] == "3"
    assert chosen["TS_DISABLE_TOKEN_AUTHORIZATION"] == "true"
    assert start.settings("torchserve", environ) == start.settings("torchserve", {})


@pytest.mark.parametrize(
    "environ",
    [
        {"SAGEMAKER_BIND_TO_PORT": "http"},
        {"SAGEMAKER_BIND_TO_PORT": "70000"},
        {"SAGEMAKER_MODEL_SERVER_WORKERS": "0"},
        {"SAGEMAKER_SAFE_PORT_RANGE": "9000"},
        {"SAGEMAKER_SAFE_PORT_RANGE": "9000-9002"},
        {"SAGEMAKER_SAFE_PORT_RANGE": "a-b"},
    ],
)
def test_invalid_variable_is_named(environ):
    with pytest.raises(start.StartError, match=next(iter(environ))) as caught:
        start.settings("serve", environ)
    assert caught.value.status == 2


def test_java_gets_the_options_of_config_properties_and_one_logging_option():
    lines = (DOCKER.parent / "config.properties").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("vmargs=")]
    logging, *options = line.removeprefix("vmargs=").split()
    command = start.command(Path("/model-store/spoter.mar"))
    assert logging.startswith("-Dlog4j.") and set(options) <= set(command[: command.index("-cp")])
    assert sum(option.startswith("-Dlog4j.") for option in command) == 1


def test_process_that_ignores_sigterm_is_killed_with_its_children(tmp_path):
    """The process ignores SIGTERM and has a child, like a TorchServe with hanging workers."""
    stubborn = "import signal, subprocess, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    stubborn += "print('up', subprocess.Popen(['sleep', '600']).pid, flush=True)\ntime.sleep(600)"
    outer = f"""
import importlib.util, pathlib, signal, sys
spec = importlib.util.spec_from_file_location("start", {str(DOCKER / "start.py")!r})
start = importlib.util.module_from_spec(spec)
spec.loader.exec_module(start)
start.WORK, start.DRAIN = pathlib.Path({str(tmp_path)!r}), 0.2
signal.signal(signal.SIGTERM, start._interrupt)
sys.exit(start.run([sys.executable, "-c", {stubborn!r}], {{}}))
"""
    process = subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(process.stdout.readline().split()[1]))
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    deadline = time.monotonic() + 60
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("program", "status"), [("sys.exit(0)", 1), ("sys.exit(3)", 3), ("os.abort()", 1)])
def test_unexpected_exit_of_the_server_is_a_failure(program, status, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(start, "WORK", tmp_path)
    monkeypatch.setattr(start.signal, "signal", lambda *_: None)  # so that Ctrl-C still ends the tests
    assert start.run([sys.executable, "-c", f"import os, sys; {program}"], {}) == status
    assert "TorchServe" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["bash"], ["serve", "--now"]])
def test_other_commands_are_refused(arguments):
    done = subprocess.run([sys.executable, DOCKER / "start.py", *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "serve or torchserve" in done.stderr


def test_health_check_fails_before_the_start(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(health, "WORK", tmp_path)
    assert health.main() == 1
    assert capsys.readouterr().out.startswith("not healthy: ")


def test_health_check_requests_a_prediction_and_replaces_an_expired_token(tmp_path, monkeypatch, capsys):
    """With a fake server, because a real token expires only after a minute."""
    monkeypatch.setattr(health, "WORK", tmp_path)
    refused = (400, {"code": 400, "type": "InvalidKeyException", "message": "…"}, {})
    described = (200, {"layout": {"name": "54", "landmarks": ["a"] * 54}, "limits": {"max_frames": 9}}, {})
    (tmp_path / "key_file.json").write_text('{"inference": {"key": "old"}, "API": {"key": "api"}}')
    with serving() as double:
        (tmp_path / "addresses.json").write_text(f'{{"inference": "{double.url}", "management": "{double.url}"}}')
        double.answers = [refused, (200, b"", {}), described, (200, ANSWER, {})]
        assert health.main() == 0 and capsys.readouterr().out.startswith("healthy: answered")
        assert [request.url.path for request in double.requests] == ["/ping", "/token", *["/predictions/spoter"] * 2]
        assert [request.headers["authorization"] for request in double.requests[:2]] == ["Bearer old", "Bearer api"]
        double.answers = [(200, {"status": "Healthy"}, {}), (503, {"code": 503, "message": "no worker"}, {})]
        assert health.main() == 1 and "no worker" in capsys.readouterr().out
