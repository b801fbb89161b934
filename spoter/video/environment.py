"""Search for the Python environment that MediaPipe runs in; `spoter.video.install` creates it.

MediaPipe 0.10.21 needs NumPy below 2, but torch and pandas bring NumPy 2. MediaPipe therefore has a separate virtual
environment: the folder `video` in the virtual environment of this code, or else in the user's cache.
"""

import contextlib
import hashlib
import os
import shutil
import sys
from importlib import metadata
from pathlib import Path

from spoter.errors import SpoterError

PYTHON_VARIABLE = "SPOTER_VIDEO_PYTHON"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
MEDIAPIPE_VERSION = "0.10.21"
INSTALL_HINT = "create it with `python -m spoter.video.install`; `spoter extract` also does so at first use"
MARKER = ".whole"  # written when the environment is complete; holds the digest of the requirements


def cache_folder() -> Path:
    """Return spoter's folder in the user's cache; it may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spoter"


def find_python() -> Path | None:
    """Return the interpreter that reads videos, or None if there is none yet.

    The candidates, in this order: the interpreter named in `PYTHON_VARIABLE`; this interpreter if it has MediaPipe
    0.10.21; a complete environment with the current requirements. Raise `SpoterError` if `PYTHON_VARIABLE` does not
    name a program.
    """
    if named := os.environ.get(PYTHON_VARIABLE):
        if program := shutil.which(named):
            return Path(program)
        raise SpoterError(f"{PYTHON_VARIABLE}={named}: not found, expected a Python with MediaPipe {MEDIAPIPE_VERSION}")
    with contextlib.suppress(metadata.PackageNotFoundError):
        if metadata.version("mediapipe") == MEDIAPIPE_VERSION:
            return Path(sys.executable)
    return next((python_path(folder) for folder in environment_folders() if is_complete(folder)), None)


def environment_folders() -> list[Path]:
    """Return the folders that may hold the environment, the preferred one first."""
    local = [Path(sys.prefix) / "video"] if sys.prefix != sys.base_prefix else []
    return [*local, cache_folder() / "video"]


def python_path(folder: Path) -> Path:
    """Return the interpreter of the virtual environment in `folder`."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def requirements_digest() -> bytes:
    """Return the SHA-256 of the requirements, in hexadecimal."""
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest().encode()


def is_complete(folder: Path) -> bool:
    """Return whether the environment in `folder` is complete and has the current requirements."""
    try:
        return (folder / MARKER).read_bytes() == requirements_digest() and python_path(folder).exists()
    except OSError:
        return False
