"""The command `spoter pack`."""

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from spoter.cli import Runtime
from spoter.resources import RESOURCES, WORK_FOLDER


def pack(
    model: Annotated[Path, typer.Option(help="Model folder to pack.", show_default="models/dgs11")] = RESOURCES
    / "models"
    / "dgs11",
    name: Annotated[str, typer.Option(help="Endpoint name: requests go to /predictions/NAME.")] = "spoter",
    version: Annotated[
        str | None, typer.Option(help="Version of the archive.", show_default="the model's version")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.", show_default="model_store")] = WORK_FOLDER
    / "model_store",
    runtime: Runtime = None,
) -> None:
    """Pack a model folder for TorchServe (NAME.mar) and SageMaker (model.tar.gz)."""
    from spoter.model.config import CONFIG, choose_runtime
    from spoter.model.folder import MEANING, RUNTIME_FILES
    from spoter.torchserve.pack import MAYBE, build

    for path in build(model, name, version, out, runtime):
        content = path.read_bytes()
        typer.echo(f"{path}  {len(content):,} bytes  sha256 {hashlib.sha256(content).hexdigest()}")
    used = RUNTIME_FILES[choose_runtime(model, runtime)]
    unused = sorted(name for name in RUNTIME_FILES.values() if name != used and (model / name).exists())
    if unused:
        typer.echo(f"left out, because the archive runs {used}: {', '.join(unused)}")
    packed = {*RUNTIME_FILES.values(), CONFIG, MEANING, *MAYBE}
    others = sorted(path.name for path in model.iterdir() if path.name not in packed and path.suffix != ".csv")
    if others:
        typer.echo(f"left out, because no server reads them: {', '.join(others)}")
