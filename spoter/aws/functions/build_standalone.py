"""Pack a model folder into a Lambda function without SageMaker: `python -m spoter.aws.functions.build_standalone`.

model_store/lambda.zip holds the model as an ONNX graph, the parts of the spoter package that serve, and ONNX Runtime
with NumPy and msgspec, for Lambda's platform, not this one's. The same input, Python and pip give the same bytes.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from spoter.aws.functions.build_proxy import report_zip
from spoter.aws.functions.wheels import PYTHON, Architecture, compile_all, find_python, install
from spoter.errors import SpoterError
from spoter.files import atomic_write_bytes
from spoter.model.folder import GRAPH, WEIGHTS, file_sha256, load_model_folder
from spoter.resources import PACKAGE, RESOURCES, WORK_FOLDER
from spoter.torchserve.pack import SERVED, model_files, package_files, zipped

NAME = "lambda.zip"
# What serves; no process in the function decodes videos.
IN_FUNCTION = (
    *(part for part in SERVED if part != "video"),
    "aws/__init__.py",
    "aws/functions/__init__.py",
    "aws/functions/events.py",
    "aws/functions/standalone.py",
)
# "Lambda quotas" of the AWS Lambda Developer Guide, where MB means 1024 x 1024 bytes.
MOST_UNZIPPED = 250 * 2**20
MOST_UPLOADED = 50 * 2**20
# Our own limit: a cold start reads this much from remote storage before the first answer.
WANTED_UNZIPPED = 120_000_000


@dataclass(frozen=True)
class FunctionPackage:
    """A function's zip file: its path, and the unzipped bytes of each part of it."""

    path: Path
    parts: dict[str, int]

    @property
    def unzipped(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())


def build(
    model: Path,
    out: Path,
    architecture: Architecture = Architecture.x86_64,
    python: str | None = None,
    report: Callable[[str], object] = lambda step: None,
) -> FunctionPackage:
    """Write ``out/lambda.zip``, whole or not at all.

    Parameters
    ----------
    model : Path
        Model folder.
    out : Path
        Folder to write in, created if missing.
    architecture : Architecture
        Of the function.
    python : str, optional
        Python of the function's version that compiles byte code (`find_python`). Without byte code Lambda compiles
        again at each cold start.
    report : callable
        Gets the name of each step as it begins.

    Raises
    ------
    ModelFolderError
        Where the folder cannot be served, or its graph answers otherwise than its weights.
    PackagesError
        Where pip or the Python fails.
    SpoterError
        Where packages that this needs are not installed, and where it all is more than Lambda takes.
    """
    from spoter.runtime.onnx_export import export_graph

    loaded = load_model_folder(model)
    report(f"{model}: writing it as a graph, and comparing its answers with torch's …")
    graph = export_graph(loaded, file_sha256(model / WEIGHTS))
    with tempfile.TemporaryDirectory(prefix="spoter-") as scratch:
        tree = Path(scratch)
        report(f"fetching the packages for Python {PYTHON} on {architecture} …")
        install(architecture, tree)
        shutil.copy(RESOURCES / "NOTICE", tree)
        for path in package_files(IN_FUNCTION):
            to = tree / path.relative_to(PACKAGE.parent)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to)
        (tree / "model").mkdir()
        (tree / "model" / GRAPH).write_bytes(graph)
        for name in model_files(model, loaded.config.layout):
            shutil.copy(model / name, tree / "model")
        if python is not None:
            report("compiling …")
            compile_all(python, tree)
        paths = {path.relative_to(tree).as_posix(): path for path in tree.rglob("*") if path.is_file()}
        files = {name: paths[name].read_bytes() for name in sorted(paths)}
    parts: Counter[str] = Counter()
    for name, content in files.items():
        parts[_part(name)] += len(content)
    package = FunctionPackage(out / NAME, dict(parts.most_common()))
    if package.unzipped > MOST_UNZIPPED:
        raise SpoterError(f"found {_mb(package.unzipped)} unzipped, expected at most Lambda's {_mb(MOST_UNZIPPED)}")
    report("zipping …")
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(package.path, zipped(files))
    return package


def _part(name: str) -> str:
    """Return what a file belongs to: a Python package, the model, or the function."""
    parts = ("numpy", "onnxruntime", "msgspec", "model/")
    return next((part.rstrip("/") for part in parts if name.startswith(part)), "spoter")


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def main(
    model: Annotated[Path, typer.Option(help="Model folder to pack.")] = RESOURCES / "models" / "dgs11",
    out: Annotated[Path, typer.Option(help="Folder to write in.")] = WORK_FOLDER / "model_store",
    arch: Annotated[Architecture, typer.Option(help="The function's architecture.")] = Architecture.x86_64,
    python: Annotated[
        str | None, typer.Option(help=f"A Python {PYTHON}, to compile byte code [default: that of PATH].")
    ] = None,
) -> None:
    """Pack a model folder into a Lambda function that answers without SageMaker: lambda.zip."""
    try:
        compiler = find_python(python)
        package = build(model, out, arch, compiler, lambda step: typer.echo(step, err=True))
    except (SpoterError, OSError) as error:
        typer.echo(f"build_standalone: {error}", err=True)
        raise typer.Exit(error.exit_code if isinstance(error, SpoterError) else 2) from None
    parts = ", ".join(f"{part} {size / 1e6:.1f}" for part, size in package.parts.items())
    typer.echo(f"unzipped {_mb(package.unzipped)}: {parts}")
    typer.echo(
        f"for a function with the runtime python{PYTHON}, on {arch}, and the handler "
        "spoter.aws.functions.standalone.handler"
    )
    if compiler is None:
        typer.echo(f"without byte code, because no Python {PYTHON} was found: cold starts take longer (--python PATH)")
    if package.unzipped > WANTED_UNZIPPED:
        typer.echo(f"this is more than {_mb(WANTED_UNZIPPED)}: cold starts may take longer than 1.5 s")
    if report_zip(package.path) > MOST_UPLOADED:
        typer.echo(f"this is more than {_mb(MOST_UPLOADED)}: Lambda takes it only from S3, not by --zip-file")


if __name__ == "__main__":
    typer.run(main)
