"""Finds the Python environment that MediaPipe runs in; `spoter.video.install` makes it.

MediaPipe 0.10.21 needs numpy below 2, torch and pandas bring numpy 2. So it has a virtual environment to itself: the
folder `video` of the environment that this code runs in, or else of the user's cache.
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
INSTALL_HINT = "`spoter extract` makes it at first use, and so does `python -m spoter.video.install`"
MARKER = ".whole"  # written last, with the digest of the requirements


def cache_folder() -> Path:
    """Return the user's folder for results that can be computed again; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spoter"


def find_python() -> Path | None:
    """Return the interpreter that reads videos, or None if there is none yet.

    It is that of `PYTHON_VARIABLE`; or this one if MediaPipe 0.10.21 is installed next to spoter; or that of an
    environment that was completed for the present requirements. Raise `SpoterError` if `PYTHON_VARIABLE` names no
    program.
    """
    if named := os.environ.get(PYTHON_VARIABLE):
        if program := shutil.which(named):
            return Path(program)
        raise SpoterError(
            f"found {PYTHON_VARIABLE}={named}, expected a Python interpreter with MediaPipe {MEDIAPIPE_VERSION}"
        )
    with contextlib.suppress(metadata.PackageNotFoundError):
        if metadata.version("mediapipe") == MEDIAPIPE_VERSION:
            return Path(sys.executable)
    return next((python_path(folder) for folder in environment_folders() if is_complete(folder)), None)


def environment_folders() -> list[Path]:
    """Return where the environment may be, the preferred folder first."""
    own = [Path(sys.prefix) / "video"] if sys.prefix != sys.base_prefix else []
    return [*own, cache_folder() / "video"]


def python_path(folder: Path) -> Path:
    """Return the interpreter of the virtual environment in `folder`."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def requirements_digest() -> bytes:
    """Return the SHA-256 of the requirements, in hexadecimal."""
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest().encode()


def is_complete(folder: Path) -> bool:
    """Tell whether the environment in `folder` was completed, for the present requirements."""
    try:
        return (folder / MARKER).read_bytes() == requirements_digest() and python_path(folder).exists()
    except OSError:
        return False
