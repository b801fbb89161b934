"""The Python that MediaPipe runs in: found wherever it is, and made where it is not.

MediaPipe 0.10.21 wants numpy below 2, torch and pandas bring numpy 2. So it has a virtual environment of its own, in
the folder `video` of the one this runs in, or else in the user's cache. ``python -m spoter.video.install`` makes
it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from spoter.errors import SpoterError

VARIABLE = "SPOTER_VIDEO_PYTHON"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
MEDIAPIPE = "0.10.21"
SIZE = "about 120 MB to fetch, 400 MB on disk"
HOW = "`spoter extract` makes it at first use, and so does `python -m spoter.video.install`"

MARKER = ".whole"  # written last: an environment without it was not finished
NEWEST_PYTHON = (3, 12)  # that MediaPipe 0.10.21 has a wheel for


def cache_folder() -> Path:
    """Return the folder of the user's that results are kept in; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spoter"


def find() -> Path | None:
    """Return the interpreter that reads videos, or None where there is none yet.

    That of `VARIABLE`; or else this one, where MediaPipe 0.10.21 is installed beside spoter; or else that of an
    environment that `make` finished for the present requirements.

    Raises
    ------
    SpoterError
        Where `VARIABLE` names no program.
    """
    said = os.environ.get(VARIABLE)
    if said:
        program = shutil.which(said)
        if program is None:
            raise SpoterError(f"found {VARIABLE}={said}, expected a Python interpreter with MediaPipe {MEDIAPIPE}")
        return Path(program)
    try:
        if metadata.version("mediapipe") == MEDIAPIPE:
            return Path(sys.executable)
    except metadata.PackageNotFoundError:
        pass
    return next((interpreter(folder) for folder in environment_folders() if is_complete(folder)), None)


def environment_folders() -> list[Path]:
    """Return where the environment may be, the preferred place first."""
    own = [Path(sys.prefix) / "video"] if sys.prefix != sys.base_prefix else []
    return [*own, cache_folder() / "video"]


def interpreter(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def requirements_digest() -> bytes:
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest().encode()


def is_complete(folder: Path) -> bool:
    try:
        return (folder / MARKER).read_bytes() == requirements_digest() and interpreter(folder).exists()
    except OSError:
        return False


def makes_environments(python: str) -> bool:
    """Tell whether an interpreter runs and has venv: pyenv's shims of other versions and Debian's Python may not."""
    return subprocess.run([python, "-I", "-c", "import ensurepip, venv"], capture_output=True).returncode == 0
