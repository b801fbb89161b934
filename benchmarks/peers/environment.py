"""The Python that the other servers run in: `.venv/peers`, made by `python -m benchmarks.peers.environment`.

BentoML pins versions of packages that others of this project want newer, so it has a virtual environment of its own.
That one looks into the environment it was made from after its own packages: torch is not installed twice, and the
recognizer computes with the very same libraries behind every server.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from benchmarks import ROOT
from spoter.errors import SpoterError
from spoter.files import atomic_write_bytes, exclusive_lock

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
FOLDER = Path(sys.prefix) / "peers"
HOW = "make bench-peers, or python -m benchmarks.peers.environment, makes it"

_MARK = "whole"  # written last: an environment without it was not finished


def find(folder: Path = FOLDER) -> Path:
    """Return the interpreter of an environment that `make` finished; `SpoterError` where there is none."""
    try:
        fits = (folder / _MARK).read_bytes() == _wanted()
    except OSError:
        fits = False
    python = folder / "bin" / "python"
    if not (fits and python.exists()):
        raise SpoterError(f"{folder}: found no environment of the present requirements for the other servers; {HOW}")
    return python


def make(folder: Path = FOLDER, pip_options: Sequence[str] = ()) -> Path:
    """Make the environment where `find` finds none, and return its interpreter; pip tells its steps itself.

    Raises
    ------
    SpoterError
        Where venv or pip failed, after their own words.
    """
    with exclusive_lock(folder.parent):
        try:
            return find(folder)
        except SpoterError:
            pass  # absent, not finished, or of other requirements
        (folder / _MARK).unlink(missing_ok=True)
        _run([sys.executable, "-m", "venv", "--clear", folder])
        python = folder / "bin" / "python"
        asked = [python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        own = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
        # Paths of a .pth file come after the environment's own; pip counts what it finds there as installed.
        atomic_write_bytes(own / "made_from.pth", f"{sysconfig.get_path('purelib')}\n{ROOT}\n".encode())
        _run([python, "-m", "pip", "install", "--no-input", "--requirement", REQUIREMENTS, *pip_options])
        atomic_write_bytes(folder / _MARK, _wanted())
        return python


def _wanted() -> bytes:
    """Return what the environment is made from; another Python or other requirements need another one."""
    return b"\n".join([sys.version.encode(), sysconfig.get_path("purelib").encode(), REQUIREMENTS.read_bytes()])


def _run(command: list[str | Path]) -> None:
    status = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
    if status:
        raise SpoterError(f"{' '.join(map(str, command[1:4]))} failed with status {status}, for the reason above")


def main() -> None:
    """Make the environment; what follows on the command line is for pip."""
    try:
        print(make(pip_options=sys.argv[1:]))
    except (SpoterError, OSError) as error:
        raise SystemExit(f"python -m benchmarks.peers.environment: {error}") from None


if __name__ == "__main__":
    main()
