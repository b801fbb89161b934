"""The command `spoter doctor`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from spoter.errors import SpoterError
from spoter.ops.ports import LOOPBACK
from spoter.resources import RESOURCES


def doctor(
    model: Annotated[
        Path, typer.Option(envvar="SPOTER_MODEL", help="Model folder to check.", show_default="models/dgs11")
    ] = RESOURCES / "models" / "dgs11",
    host: Annotated[str, typer.Option(envvar="SPOTER_HOST", help="Host of the ports.")] = LOOPBACK,
    ports: Annotated[
        list[int] | None,
        typer.Option("--port", min=1, max=65535, help="Port that must be free.", show_default="those of spoter serve"),
    ] = None,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Check that this running server answers predictions, instead.")
    ] = None,
    token: Annotated[str | None, typer.Option(envvar="SPOTER_TOKEN", help="Token of --server.")] = None,
    management: Annotated[
        str | None, typer.Option(metavar="URL", help="Management API of --server, to check its workers.")
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(envvar="SPOTER_KEY_FILE", metavar="FILE", help="key_file.json of --server, instead of --token."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for each answer of --server.")] = 10.0,
) -> None:
    """Check that this machine can serve, or that a server answers; print fixes."""
    from spoter.ops.doctor import PORTS, checks, server_checks, show

    if server is not None:
        results = server_checks(server, token, management, keys, timeout)
    else:
        results = checks(model, ports or [_port(name, port) for name, port in PORTS.items()], host)
    if not show(results):
        raise typer.Exit(1)


def _port(variable: str, default: int) -> int:
    value = os.environ.get(variable, str(default))
    if not (value.isascii() and value.isdigit()):
        raise SpoterError(f"found {variable}={value}, expected a port number")
    return int(value)
