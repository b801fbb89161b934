"""Pack a model folder into a Lambda function without SageMaker: `python -m spoter.aws.functions.build_standalone`.

model_store/lambda.zip holds the model as an ONNX graph, the parts of the spoter package that serve, and ONNX Runtime
with NumPy and msgspec, for Lambda's platform, not this one's. The same input, Python and pip give the same bytes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from spoter.aws.functions.build_proxy import report_zip
from spoter.errors import SpoterError
from spoter.files import atomic_write_bytes, file_sha256
from spoter.model.folder import GRAPH, WEIGHTS, load_model_folder
from spoter.resources import PACKAGE, RESOURCES, WORK_FOLDER
from spoter.torchserve.pack import SERVED, model_files, package_files, zipped

NAME = "lambda.zip"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
# Lambda's runtimes from this one on are made of Amazon Linux 2023, with glibc 2.34; that of Python 3.11 is Amazon Linux
# 2, with 2.26, which ONNX Runtime's wheels do not run on (AWS Lambda Developer Guide, "Lambda runtimes"; PEP 600).
PYTHON = "3.12"
GLIBC_MINOR = 34
# Where Lambda unpacks a function (AWS Lambda Developer Guide, "Working with .zip file archives for Python").
TASK_ROOT = "/var/task"

# What `import onnxruntime` and `import numpy` do not import, found with these versions by trying. Most of it is tests,
# and a second copy of ONNX Runtime, libonnxruntime.so, for programs in C.
_LEFT_OUT = re.compile(
    r"bin/.*|(.*/)?(tests|__pycache__|include)/.*"
    r"|numpy/(f2py|random/lib)/.*"
    r"|onnxruntime/(backend|datasets|quantization|tools|transformers)/.*|onnxruntime/capi/libonnxruntime\.so.*"
    r"|.*\.(pyi|pyx|pxd|h|a)|[^/]*\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json)"
)  # fmt: skip
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


class PackagesError(SpoterError):
    """The packages cannot be installed or compiled."""

    exit_code = 1


class Architecture(StrEnum):
    """What Lambda calls a processor's architecture."""

    x86_64 = "x86_64"
    arm64 = "arm64"

    @property
    def machine(self) -> str:
        """What wheels and `platform.machine` call it."""
        return "aarch64" if self is Architecture.arm64 else self.value


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
    """Write ``out/lambda.zip`` from a model folder, whole or not at all; the folder is created if missing.

    `python`, of the function's version (`find_python`), compiles byte code: without it Lambda compiles again at each
    cold start. `report` gets the name of each step as it begins.

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


def install(architecture: Architecture, tree: Path) -> None:
    """Install the packages into an empty folder, laid out as in the function: `TASK_ROOT` is on Python's path there.

    Raises
    ------
    PackagesError
        Where pip does not find them, or no index; with pip's reason.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    # onnxruntime declares flatbuffers, packaging and protobuf, of which its inference imports none: no dependencies.
    command += ["--no-deps", "--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON]
    for minor in range(GLIBC_MINOR, 16, -1):
        command += ["--platform", f"manylinux_2_{minor}_{architecture.machine}"]
    command += ["--target", str(tree), "--requirement", str(REQUIREMENTS)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reasons = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        raise PackagesError(f"pip: {reasons[-1] if reasons else f'exit status {done.returncode}'}")
    for path in sorted(tree.rglob("*"), reverse=True):  # a folder after what is in it
        if path.is_file() and _LEFT_OUT.fullmatch(path.relative_to(tree).as_posix()):
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def find_python(asked: str | None) -> str | None:
    """Return a Python of the function's version: `asked` if given, the running one, that of PATH, pyenv's, or None.

    Raises
    ------
    SpoterError
        Where `asked` is not a Python, or another version.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    of_pyenv = sorted(pyenv.glob(f"versions/{PYTHON}.*/bin/python{PYTHON}"))
    for python in [asked] if asked else [sys.executable, shutil.which(f"python{PYTHON}"), *of_pyenv]:
        if python is None:
            continue
        program = "import sys; print('%d.%d' % sys.version_info[:2])"
        try:
            version = subprocess.run([python, "-c", program], capture_output=True, text=True).stdout.strip()
        except OSError as error:
            version = error.strerror or str(error)
        if version == PYTHON:
            return str(python)
        if asked:
            raise SpoterError(f"--python {asked}: found {version or 'no Python'}, expected Python {PYTHON}")
    return None


def compile_all(python: str, tree: Path) -> None:
    """Write the byte code of all modules in `tree` next to them: Lambda could not keep what it compiles.

    The code is not compared with its source, whose times Lambda may change, and names paths of the function.
    """
    command = [python, "-P", "-S", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(tree), "-p", TASK_ROOT, str(tree)]
    # The order of a set's members in byte code follows the seed: the same input must give the same bytes.
    done = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "0"}, capture_output=True, text=True)
    if done.returncode:
        raise PackagesError(f"{python} -m compileall: {(done.stdout or done.stderr).strip().splitlines()[-1:]}")


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
