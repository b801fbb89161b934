"""The command `spoter replace`."""

from pathlib import Path
from typing import Annotated

import typer


def replace(
    model: Annotated[Path, typer.Option(help="Model folder; its config.json has another version than the server's.")],
    management: Annotated[
        str, typer.Option(metavar="URL", help="The management API of the server, on this machine.")
    ] = "http://127.0.0.1:8081",
    runtime: Annotated[
        str | None, typer.Option(envvar="SPOTER_RUNTIME", help="torch, onnx or onnx-int8. Default: config.json's.")
    ] = None,
) -> None:
    """Replace the model of a running TorchServe by another version, with every request answered meanwhile."""
    from spoter.torchserve.replace import replace as run

    run(model, management, runtime, lambda line: print(line, flush=True))
