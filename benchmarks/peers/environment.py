"""The Python environment of the other servers, `.venv/peers`, created by `python -m benchmarks.peers.environment`.

BentoML pins packages to versions that are too old for this project, so the other servers have a separate virtual
environment. It can also import the packages of the environment that created it, with lower priority. So torch is not
installed twice, and the recognizer uses the same libraries behind every server.
"""

import contextlib
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from benchmarks import ROOT
from spoter.errors import SpoterError
from spoter.files import atomic_write_bytes

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
FOLDER = Path(sys.prefix) / "peers"
_MARK = "whole"  # a file that is written last, so an incomplete environment lacks it


def find_environment(folder: Path = FOLDER) -> Path:
    """Return the interpreter of a complete environment with the present requirements, or raise `SpoterError`."""
    mark, python = folder / _MARK, folder / "bin" / "python"
    if not (python.exists() and mark.exists() and mark.read_bytes() == describe_requirements()):
        fix = "create it with `python -m benchmarks.peers.environment` or `make bench-peers`"
        raise SpoterError(f"{folder}: found no up-to-date environment for the other servers; {fix}")
    return python


def make_environment(folder: Path = FOLDER, pip_options: Sequence[str] = ()) -> Path:
    """Create the environment unless it is complete; return its interpreter. May raise `CalledProcessError`."""
    with contextlib.suppress(SpoterError):  # missing, incomplete or out of date
        return find_environment(folder)
    (folder / _MARK).unlink(missing_ok=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    python = folder / "bin" / "python"
    # Paths in a .pth file follow the environment's packages; for pip, the packages there are installed.
    paths = f"{sysconfig.get_path('purelib')}\n{ROOT}\n"
    atomic_write_bytes(packages_folder(folder) / "made_from.pth", paths.encode())
    install = [python, "-m", "pip", "install", "--no-input", "--requirement", REQUIREMENTS, *pip_options]
    subprocess.run(install, check=True, stdin=subprocess.DEVNULL)
    atomic_write_bytes(folder / _MARK, describe_requirements())
    return python


def packages_folder(environment: Path = FOLDER) -> Path:
    """Return the folder of an environment's packages; the environment must have this Python version."""
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))


def describe_requirements() -> bytes:
    """Return the Python version, its packages folder and the requirements; a change needs a new environment."""
    return b"\n".join([sys.version.encode(), sysconfig.get_path("purelib").encode(), REQUIREMENTS.read_bytes()])


if __name__ == "__main__":  # arguments are passed to pip
    try:
        print(make_environment(pip_options=sys.argv[1:]))
    except (subprocess.CalledProcessError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
