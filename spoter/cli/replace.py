"""The command `spoter replace`."""

from pathlib import Path
from typing import Annotated

import typer

from spoter.cli import Runtime


def replace(
    model: Annotated[Path, typer.Option(help="Model folder with another version than the running model.")],
    management: Annotated[
        str, typer.Option(metavar="URL", help="Management API of the server, on this machine.")
    ] = "http://127.0.0.1:8081",
    runtime: Runtime = None,
) -> None:
    """Replace the model of a running TorchServe without losing a request."""
    from spoter.torchserve.replace import replace as run

    run(model, management, runtime, lambda line: print(line, flush=True))
