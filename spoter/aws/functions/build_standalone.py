"""Pack a model folder into a Lambda function without SageMaker: `python -m spoter.aws.functions.build_standalone`.

model_store/lambda.zip holds the model as an ONNX graph, the parts of the spoter package that serving needs, and ONNX
Runtime, NumPy and msgspec for Lambda's platform. The same input, Python and pip give the same bytes.
"""

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
# The first of Lambda's runtimes on Amazon Linux 2023, with glibc 2.34. The runtime of Python 3.11 is Amazon Linux 2
# with glibc 2.26, too old for ONNX Runtime's wheels (AWS Lambda Developer Guide, "Lambda runtimes"; PEP 600).
PYTHON = "3.12"
GLIBC_MINOR = 34
# Folder to which Lambda unpacks a function (AWS Lambda Developer Guide, "Working with .zip file archives for Python").
TASK_ROOT = "/var/task"

# Files that `import onnxruntime` and `import numpy` do not need, found by trial with the pinned versions: mostly tests,
# and libonnxruntime.so, a second copy of ONNX Runtime for C programs.
_EXCLUDED = re.compile(
    r"bin/.*|(.*/)?(tests|__pycache__|include)/.*"
    r"|numpy/(f2py|random/lib)/.*"
    r"|onnxruntime/(backend|datasets|quantization|tools|transformers)/.*|onnxruntime/capi/libonnxruntime\.so.*"
    r"|.*\.(pyi|pyx|pxd|h|a)|[^/]*\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json)"
)  # fmt: skip
# The parts of spoter that serving needs, without the decoding of videos.
IN_FUNCTION = (
    *(part for part in SERVED if part != "video"),
    "aws/__init__.py",
    "aws/functions/__init__.py",
    "aws/functions/events.py",
    "aws/functions/standalone.py",
)
# "Lambda quotas" of the AWS Lambda Developer Guide, where MB means 1024 x 1024 bytes.
MAX_UNZIPPED = 250 * 2**20
MAX_UPLOADED = 50 * 2**20
# Our own target: a cold start reads this many bytes from remote storage before the first answer.
TARGET_UNZIPPED = 120_000_000


class PackagesError(SpoterError):
    """The packages cannot be installed or compiled."""

    exit_code = 1


class Architecture(StrEnum):
    """Processor architectures, with Lambda's names."""

    x86_64 = "x86_64"
    arm64 = "arm64"

    @property
    def machine(self) -> str:
        """The name in wheels and in `platform.machine`."""
        return "aarch64" if self is Architecture.arm64 else self.value


@dataclass(frozen=True)
class FunctionPackage:
    """A function's zip file: its path, and the unzipped size of each part in bytes."""

    path: Path
    parts: dict[str, int]

    @property
    def unzipped(self) -> int:
        """Total unzipped size in bytes."""
        return sum(self.parts.values())


def build(
    model: Path,
    out: Path,
    architecture: Architecture = Architecture.x86_64,
    python: str | None = None,
    report: Callable[[str], object] = lambda step: None,
) -> FunctionPackage:
    """Write ``out/lambda.zip`` from a model folder, atomically; `out` is created if missing.

    `python` is an interpreter of the function's version (`find_python`), which compiles byte code; without it, Lambda
    compiles at each cold start. `report` gets the name of each step when the step starts.

    Raises
    ------
    ModelFolderError
        If the folder cannot be served, or if its graph and its weights give different answers.
    PackagesError
        If pip or `python` fails.
    SpoterError
        If required packages are not installed here, or if the result exceeds Lambda's limit.
    """
    from spoter.runtime.onnx_export import export_graph

    loaded = load_model_folder(model)
    report(f"exporting {model} to ONNX, and comparing its answers with torch …")
    graph = export_graph(loaded, file_sha256(model / WEIGHTS))
    with tempfile.TemporaryDirectory(prefix="spoter-") as scratch:
        tree = Path(scratch)
        report(f"installing packages for Python {PYTHON} on {architecture} …")
        install(architecture, tree)
        shutil.copy(RESOURCES / "NOTICE", tree)
        for path in package_files(IN_FUNCTION):
            target = tree / path.relative_to(PACKAGE.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        (tree / "model").mkdir()
        (tree / "model" / GRAPH).write_bytes(graph)
        for name in model_files(model, loaded.config.layout):
            shutil.copy(model / name, tree / "model")
        if python is not None:
            report("compiling byte code …")
            compile_all(python, tree)
        paths = {path.relative_to(tree).as_posix(): path for path in tree.rglob("*") if path.is_file()}
        files = {name: paths[name].read_bytes() for name in sorted(paths)}
    parts: Counter[str] = Counter()
    for name, content in files.items():
        parts[_part(name)] += len(content)
    package = FunctionPackage(out / NAME, dict(parts.most_common()))
    if package.unzipped > MAX_UNZIPPED:
        raise SpoterError(f"found {_mb(package.unzipped)} unzipped, expected at most {_mb(MAX_UNZIPPED)} for Lambda")
    report("zipping …")
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(package.path, zipped(files))
    return package


def install(architecture: Architecture, tree: Path) -> None:
    """Install the packages into an empty folder, laid out as in the function, where `TASK_ROOT` is on Python's path.

    Raises
    ------
    PackagesError
        With pip's reason, if pip does not find the packages or reaches no index.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    # No dependencies: onnxruntime declares flatbuffers, packaging and protobuf, but inference imports none of them.
    command += ["--no-deps", "--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON]
    for minor in range(GLIBC_MINOR, 16, -1):
        command += ["--platform", f"manylinux_2_{minor}_{architecture.machine}"]
    command += ["--target", str(tree), "--requirement", str(REQUIREMENTS)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reasons = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        raise PackagesError(f"pip: {reasons[-1] if reasons else f'exit status {done.returncode}'}")
    for path in sorted(tree.rglob("*"), reverse=True):  # files before their folder
        if path.is_file() and _EXCLUDED.fullmatch(path.relative_to(tree).as_posix()):
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def find_python(requested: str | None) -> str | None:
    """Return a Python of the function's version: `requested`, or the first of the running one, PATH and pyenv, or None.

    Raises
    ------
    SpoterError
        If `requested` is not a Python or has another version.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    pyenv_pythons = sorted(pyenv.glob(f"versions/{PYTHON}.*/bin/python{PYTHON}"))
    for python in [requested] if requested else [sys.executable, shutil.which(f"python{PYTHON}"), *pyenv_pythons]:
        if python is None:
            continue
        program = "import sys; print('%d.%d' % sys.version_info[:2])"
        try:
            version = subprocess.run([python, "-c", program], capture_output=True, text=True).stdout.strip()
        except OSError as error:
            version = error.strerror or str(error)
        if version == PYTHON:
            return str(python)
        if requested:
            raise SpoterError(f"--python {requested}: found {version or 'no Python'}, expected Python {PYTHON}")
    return None


def compile_all(python: str, tree: Path) -> None:
    """Write the byte code of all modules in `tree` next to them, because Lambda cannot store compiled code.

    Python does not compare the code with its source, whose times Lambda may change. The paths in it are the function's.
    """
    command = [python, "-P", "-S", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(tree), "-p", TASK_ROOT, str(tree)]
    # The seed determines the order of sets in byte code; a fixed seed makes the bytes reproducible.
    done = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "0"}, capture_output=True, text=True)
    if done.returncode:
        raise PackagesError(f"{python} -m compileall: {(done.stdout or done.stderr).strip().splitlines()[-1:]}")


def _part(name: str) -> str:
    """Return the part to which a file belongs: a Python package, the model, or spoter."""
    parts = ("numpy", "onnxruntime", "msgspec", "model/")
    return next((part.rstrip("/") for part in parts if name.startswith(part)), "spoter")


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def main(
    model: Annotated[Path, typer.Option(help="Model folder to pack.")] = RESOURCES / "models" / "dgs11",
    out: Annotated[Path, typer.Option(help="Output folder.")] = WORK_FOLDER / "model_store",
    arch: Annotated[Architecture, typer.Option(help="The function's architecture.")] = Architecture.x86_64,
    python: Annotated[
        str | None, typer.Option(help=f"Python {PYTHON} that compiles byte code [default: from PATH].")
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
        f"function settings: runtime python{PYTHON}, architecture {arch}, handler "
        "spoter.aws.functions.standalone.handler"
    )
    if compiler is None:
        typer.echo(f"no byte code, because no Python {PYTHON} was found: cold starts take longer; pass --python")
    if package.unzipped > TARGET_UNZIPPED:
        typer.echo(f"larger than {_mb(TARGET_UNZIPPED)} unzipped: cold starts may take longer than 1.5 s")
    if report_zip(package.path) > MAX_UPLOADED:
        typer.echo(f"larger than {_mb(MAX_UPLOADED)} zipped: Lambda accepts it only from S3, not with --zip-file")


if __name__ == "__main__":
    typer.run(main)
