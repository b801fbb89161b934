"""The Python environment of the other servers, `.venv/peers`, made by `python -m benchmarks.peers.environment`.

BentoML pins versions of packages that others of this project need newer, so it has a separate virtual environment. That
one also sees the packages of the environment that it was made from, after its own: torch is not installed twice, and
the recognizer computes with the very same libraries behind every server.
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
_MARK = "whole"  # written last: an environment without it was not finished


def find_environment(folder: Path = FOLDER) -> Path:
    """Return the interpreter of a finished environment of today's requirements; raise `SpoterError` without one."""
    mark, python = folder / _MARK, folder / "bin" / "python"
    if not (python.exists() and mark.exists() and mark.read_bytes() == describe_requirements()):
        how = "`make bench-peers` or `python -m benchmarks.peers.environment` makes it"
        raise SpoterError(f"{folder}: found no environment of the present requirements for the other servers; {how}")
    return python


def make_environment(folder: Path = FOLDER, pip_options: Sequence[str] = ()) -> Path:
    """Make the environment unless it is finished; return its interpreter. May raise `CalledProcessError`."""
    with contextlib.suppress(SpoterError):  # absent, not finished, or of other requirements
        return find_environment(folder)
    (folder / _MARK).unlink(missing_ok=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    python = folder / "bin" / "python"
    # Paths of a .pth file come after the environment's own; pip counts the packages there as installed.
    paths = f"{sysconfig.get_path('purelib')}\n{ROOT}\n"
    atomic_write_bytes(packages_folder(folder) / "made_from.pth", paths.encode())
    install = [python, "-m", "pip", "install", "--no-input", "--requirement", REQUIREMENTS, *pip_options]
    subprocess.run(install, check=True, stdin=subprocess.DEVNULL)
    atomic_write_bytes(folder / _MARK, describe_requirements())
    return python


def packages_folder(environment: Path = FOLDER) -> Path:
    """Return the folder of an environment's own packages; its Python is the one that runs this."""
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))


def describe_requirements() -> bytes:
    """Return all that the environment depends on; another Python or other requirements need another environment."""
    return b"\n".join([sys.version.encode(), sysconfig.get_path("purelib").encode(), REQUIREMENTS.read_bytes()])


if __name__ == "__main__":  # further arguments are pip's
    try:
        print(make_environment(pip_options=sys.argv[1:]))
    except (subprocess.CalledProcessError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
