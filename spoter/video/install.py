"""Makes the Python environment that MediaPipe runs in: `python -m spoter.video.install`."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from spoter.errors import SpoterError
from spoter.files import atomic_write_bytes, exclusive_lock
from spoter.video.child import run_job
from spoter.video.environment import (
    MARKER,
    MEDIAPIPE_VERSION,
    PYTHON_VARIABLE,
    REQUIREMENTS,
    environment_folders,
    find_python,
    is_complete,
    python_path,
    requirements_digest,
)

SIZE = "about 120 MB to fetch, 400 MB on disk"
NEWEST_PYTHON = (3, 12)  # that MediaPipe 0.10.21 has a wheel for


class InstallError(SpoterError):
    """The environment could not be made, by no fault of the user."""

    exit_code = 1


def install_environment(progress: Callable[[str], None] = lambda text: None, pip_options: Sequence[str] = ()) -> Path:
    """Make the environment if `find_python` finds none, and return its interpreter; `progress` gets a line for a step.

    `pip_options` are those of ``pip install``, by default those in the variable PIP_ARGS; pip reads its usual settings
    (PIP_INDEX_URL and the like). Raise `SpoterError` if no Python fits, the folder cannot be written, pip fails, or
    what it installed does not start.
    """
    existing = find_python()
    if existing is not None:
        return existing
    folder = next((folder for folder in environment_folders() if _is_writable(folder.parent)), None)
    if folder is None:
        raise SpoterError(
            f"no environment for videos can be made in {' or '.join(map(str, environment_folders()))}: not writable"
        )
    python = python_path(folder)
    with exclusive_lock(folder.parent):
        if is_complete(folder):  # another command has just made it
            return python
        state = "replacing the incomplete or outdated" if folder.exists() else "making the"
        progress(f"{state} environment for videos, MediaPipe {MEDIAPIPE_VERSION}, in {folder} ({SIZE})")
        _remove(folder)
        _run([_base_python(), "-I", "-m", "venv", folder], "venv", progress)
        options = pip_options or shlex.split(os.environ.get("PIP_ARGS", ""))
        pip = ["-I", "-m", "pip", "install", "--no-input", "--no-deps", "--progress-bar=off"]
        _run([python, *pip, "--requirement", REQUIREMENTS, *options], "pip", progress)
        check_mediapipe(python)
        atomic_write_bytes(folder / MARKER, requirements_digest())
        progress(f"made: {folder}")
    return python


def check_mediapipe(python: Path) -> None:
    """Raise `SpoterError` if MediaPipe does not start in an interpreter."""
    run_job(python, {"check": True})


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _remove(folder: Path) -> None:
    """Remove an incomplete virtual environment, and nothing else."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        raise SpoterError(
            f"{folder}: found a folder that is no virtual environment, expected none; remove or rename it"
        )
    shutil.rmtree(folder, ignore_errors=True)


def _base_python() -> str:
    """Return a Python that MediaPipe has wheels for: this one, or an older one on the PATH."""
    if sys.version_info[:2] <= NEWEST_PYTHON:
        return sys.executable
    names = ("python3.12", "python3.11")
    # pyenv's shims of other versions do not run, and Debian's Python may lack venv.
    for python in filter(None, map(shutil.which, names)):
        if subprocess.run([python, "-I", "-c", "import ensurepip, venv"], capture_output=True).returncode == 0:
            return python
    raise SpoterError(
        f"found Python {sys.version.split()[0]}, and no {' or '.join(names)} with venv on the PATH, expected one "
        f"that MediaPipe {MEDIAPIPE_VERSION} has wheels for; install one, or name its interpreter in {PYTHON_VARIABLE}"
    )


def _run(command: Sequence[str | Path], name: str, progress: Callable[[str], None]) -> None:
    """Run a command, report its steps, and raise `InstallError` with its last lines if it fails."""
    lines: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            lines = [*lines[-9:], line.rstrip()]
            if line.startswith("Collecting"):
                progress(" ".join(line.split()[:2]))
            elif line.startswith("Installing"):
                progress("Installing")
    if process.returncode:
        errors = [line for line in lines if "rror" in line] or lines[-1:]
        raise InstallError(f"{name} failed with status {process.returncode}: {' '.join(errors)[:400]}")


def main() -> None:
    """Make the environment, with a line for each step; the command line's options go to pip."""
    try:
        python = install_environment(lambda text: print(text, file=sys.stderr), sys.argv[1:])
    except (SpoterError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(python)


if __name__ == "__main__":
    main()
