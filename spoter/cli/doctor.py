"""The command `spoter doctor`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from spoter.errors import SpoterError
from spoter.resources import RESOURCES


def doctor(
    model: Annotated[Path, typer.Option(envvar="SPOTER_MODEL", help="Model folder to check.")] = RESOURCES
    / "models"
    / "dgs11",
    host: Annotated[str, typer.Option(envvar="SPOTER_HOST")] = "127.0.0.1",
    ports: Annotated[
        list[int] | None, typer.Option("--port", min=1, max=65535, help="A port the server will want.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Check this running server instead: does it really answer?")
    ] = None,
    token: Annotated[str | None, typer.Option(envvar="SPOTER_TOKEN", help="With --server: its token.")] = None,
    management: Annotated[
        str | None, typer.Option(metavar="URL", help="With --server: http://127.0.0.1:8081, to look at the workers.")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --server: TorchServe's key_file.json, in place of tokens.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="With --server: seconds to wait for each answer.")] = 10.0,
) -> None:
    """Check what serving needs, or a server that runs, and say what to do about each thing that fails."""
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
        raise SpoterError(f"found {variable}={value}, expected the number of a port")
    return int(value)
