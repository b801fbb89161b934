"""Installation of the Python environment that MediaPipe runs in: `python -m spoter.video.install`."""

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

SIZE = "about 120 MB to download, 400 MB on disk"
NEWEST_PYTHON = (3, 12)  # newest version with a MediaPipe 0.10.21 wheel


class InstallError(SpoterError):
    """The environment could not be created, although the user made no mistake."""

    exit_code = 1


def install_environment(progress: Callable[[str], None] = lambda text: None, pip_options: Sequence[str] = ()) -> Path:
    """Create the environment if `find_python` finds none, and return its interpreter.

    `progress` is called with one line of text per step. `pip_options` are options of ``pip install``; the default is
    the variable PIP_ARGS. pip also reads its usual settings, such as PIP_INDEX_URL. Raise `SpoterError` if no Python
    fits, the folder cannot be written, pip fails, or MediaPipe does not start.
    """
    existing = find_python()
    if existing is not None:
        return existing
    folder = next((folder for folder in environment_folders() if _is_writable(folder.parent)), None)
    if folder is None:
        raise SpoterError(f"no writable folder for the video environment: {', '.join(map(str, environment_folders()))}")
    python = python_path(folder)
    with exclusive_lock(folder.parent):
        if is_complete(folder):  # another command has just created it
            return python
        action = "replacing the incomplete or outdated" if folder.exists() else "creating the"
        progress(f"{action} video environment with MediaPipe {MEDIAPIPE_VERSION} in {folder} ({SIZE})")
        _remove(folder)
        _run([_base_python(), "-I", "-m", "venv", folder], "venv", progress)
        options = pip_options or shlex.split(os.environ.get("PIP_ARGS", ""))
        pip = ["-I", "-m", "pip", "install", "--no-input", "--no-deps", "--progress-bar=off"]
        _run([python, *pip, "--requirement", REQUIREMENTS, *options], "pip", progress)
        check_mediapipe(python)
        atomic_write_bytes(folder / MARKER, requirements_digest())
        progress(f"created {folder}")
    return python


def check_mediapipe(python: Path) -> None:
    """Raise `SpoterError` if MediaPipe does not start in the interpreter `python`."""
    run_job(python, {"check": True})


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _remove(folder: Path) -> None:
    """Remove an incomplete virtual environment; raise `SpoterError` for any other folder."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        raise SpoterError(f"{folder}: exists but is not a virtual environment; remove or rename it")
    shutil.rmtree(folder, ignore_errors=True)


def _base_python() -> str:
    """Return a Python that MediaPipe has wheels for: this interpreter, or an older one on the PATH."""
    if sys.version_info[:2] <= NEWEST_PYTHON:
        return sys.executable
    names = ("python3.12", "python3.11")
    # pyenv's shims of inactive versions do not run, and Debian's Python may lack venv.
    for python in filter(None, map(shutil.which, names)):
        if subprocess.run([python, "-I", "-c", "import ensurepip, venv"], capture_output=True).returncode == 0:
            return python
    raise SpoterError(
        f"MediaPipe {MEDIAPIPE_VERSION} has no wheel for Python {sys.version.split()[0]}, and there is no "
        f"{' or '.join(names)} with venv on the PATH; install one, or set {PYTHON_VARIABLE} to its interpreter"
    )


def _run(command: Sequence[str | Path], name: str, progress: Callable[[str], None]) -> None:
    """Run a command and report its steps; raise `InstallError` with its last lines if it fails."""
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
    """Create the environment and print one line per step; pass the command-line options to pip."""
    try:
        python = install_environment(lambda text: print(text, file=sys.stderr), sys.argv[1:])
    except (SpoterError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(python)


if __name__ == "__main__":
    main()
