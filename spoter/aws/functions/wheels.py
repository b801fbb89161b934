"""The Python packages inside the function: wheels for Lambda's platform, without what is never imported there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from enum import StrEnum
from pathlib import Path

from spoter.errors import SpoterError

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
