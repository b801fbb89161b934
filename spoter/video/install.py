"""Makes the Python environment that MediaPipe runs in: `python -m spoter.video.install`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from spoter.errors import SpoterError
from spoter.files import atomic_write_bytes, exclusive_lock
from spoter.video.environment import (
    MARKER,
    MEDIAPIPE,
    NEWEST_PYTHON,
    REQUIREMENTS,
    SIZE,
    VARIABLE,
    environment_folders,
    find,
    interpreter,
    is_complete,
    makes_environments,
    requirements_digest,
)


class MakingFailed(SpoterError):
    """The environment could not be made, by no fault of whoever wanted it."""

    exit_code = 1


def make(progress: Callable[[str], None] = lambda text: None, pip_options: Sequence[str] = ()) -> Path:
    """Make the environment where `find` finds none, and return its interpreter.

    pip's own settings (PIP_INDEX_URL and the like) hold as always.

    Parameters
    ----------
    progress : callable
        Is told in a line each what is being done.
    pip_options : sequence of str
        Handed to ``pip install``; those of the variable PIP_ARGS, as ``make`` has it, unless given.

    Raises
    ------
    SpoterError
        Where no Python fits, the folder cannot be written, pip fails, or what it installed does not start.
    """
    found = find()
    if found is not None:
        return found
    folder = next((folder for folder in environment_folders() if _can_be_made(folder)), None)
    if folder is None:
        raise SpoterError(
            f"no environment for videos can be made in {' or '.join(map(str, environment_folders()))}: not writable"
        )
    with exclusive_lock(folder.parent):
        if is_complete(folder):  # another command has just made it
            return interpreter(folder)
        state = "making anew what was not finished or is of other requirements" if folder.exists() else "making"
        progress(f"{state}: the environment for videos, MediaPipe {MEDIAPIPE}, in {folder} ({SIZE})")
        _remove(folder)
        _run([_base_python(), "-I", "-m", "venv", folder], "venv", progress)
        options = pip_options or shlex.split(os.environ.get("PIP_ARGS", ""))
        pip = [interpreter(folder), "-I", "-m", "pip", "install", "--no-input", "--no-deps", "--progress-bar=off"]
        _run([*pip, "--requirement", REQUIREMENTS, *options], "pip", progress)
        check(interpreter(folder))
        atomic_write_bytes(folder / MARKER, requirements_digest())
        progress(f"made: {folder}")
    return interpreter(folder)


def check(python: Path) -> None:
    """Raise `SpoterError` where MediaPipe does not start in an interpreter."""
    from spoter.video.reader import ask

    ask(python, {"check": True})


def _can_be_made(folder: Path) -> bool:
    try:
        folder.parent.mkdir(0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder.parent, os.W_OK)


def _remove(folder: Path) -> None:
    """Remove an environment that was not finished, and nothing else."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        raise SpoterError(
            f"{folder}: found a folder that is no virtual environment, expected none; remove or rename it"
        )
    shutil.rmtree(folder, ignore_errors=True)


def _base_python() -> str:
    """Return a Python that MediaPipe has wheels for: this one, or an older one on the PATH."""
    if sys.version_info[:2] <= NEWEST_PYTHON:
        return sys.executable
    names = [f"python3.{minor}" for minor in (12, 11)]
    found = next(filter(makes_environments, filter(None, map(shutil.which, names))), None)
    if found is None:
        raise SpoterError(
            f"found Python {sys.version.split()[0]}, and no {' or '.join(names)} with venv on the PATH, expected one "
            f"that MediaPipe {MEDIAPIPE} has wheels for; install one, or name its interpreter in {VARIABLE}"
        )
    return found


def _run(command: list, name: str, progress: Callable[[str], None]) -> None:
    """Run a command, tell its steps, and raise `MakingFailed` with its last words where it fails."""
    said: list[str] = []
    with subprocess.Popen(
        list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout:
            said = [*said[-9:], line.rstrip()]
            if line.startswith(("Collecting", "Installing")):
                progress(" ".join(line.split()[:2]) if line[0] == "C" else "Installing")
    if process.returncode:
        errors = [line for line in said if "rror" in line] or said[-1:]
        raise MakingFailed(f"{name} failed with status {process.returncode}: {' '.join(errors)[:400]}")


def main() -> None:
    """Make the environment, with a line for each step; what follows on the command line is for pip."""
    try:
        python = make(lambda text: print(text, file=sys.stderr), sys.argv[1:])
    except (SpoterError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(python)


if __name__ == "__main__":
    main()
