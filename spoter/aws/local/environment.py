"""The Python environment that replaces AWS's image: pip installs it once, and again when its requirements change."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import venv
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from spoter.files import atomic_write_bytes
from spoter.resources import RESOURCES, WORK_FOLDER
from spoter.torchserve.process import StartError

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
CONSTRAINTS = RESOURCES / "constraints.txt"  # pins the same torch as this environment
FOLDER = WORK_FOLDER / ".local-container"
# Unix only, as are TorchServe's scripts and the process groups of `--local`.
_PYTHON = Path("env", "bin", "python")


@contextmanager
def locked_environment(folder: Path = FOLDER, report: Callable[[str], None] = lambda line: None) -> Iterator[Path]:
    """Yield the environment's interpreter; install the environment first if it is missing or out of date.

    The block holds an exclusive lock, because the container's start-up code installs packages into the environment. The
    folder holds the environment, the lock and a stamp. PIP_ARGS holds options for pip, as in the Makefile.

    Raises
    ------
    StartError
        With the last lines of pip, if the environment cannot be installed.
    """
    import fcntl  # Unix only

    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")  # never part of a repository
    with (folder / "lock").open("w") as lock:  # released when the process ends for any reason
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"waiting for another process that uses {folder}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        stamp, expected = folder / "stamp", stamp_content()
        # The interpreter is a link to the system's Python, which may have been moved or removed.
        if not stamp.is_file() or stamp.read_bytes() != expected or not (folder / _PYTHON).is_file():
            stamp.unlink(missing_ok=True)  # an interrupted installation must not count as complete
            _install(folder, report)
            atomic_write_bytes(stamp, expected)
        yield folder / _PYTHON


def stamp_content() -> bytes:
    """Return the inputs of the environment, Python and requirements; a change of these needs a new environment."""
    return b"\n".join([sys.version.encode(), REQUIREMENTS.read_bytes(), CONSTRAINTS.read_bytes()])


def _install(folder: Path, report: Callable[[str], None]) -> None:
    report(f"installing the container's environment in {folder}; only once, but torch is large")
    shutil.rmtree(folder / "env", ignore_errors=True)
    try:
        venv.create(folder / "env", symlinks=True)
    except OSError as error:
        raise StartError(f"cannot create {folder / 'env'}: {error}") from None
    # Not through venv, which kills ensurepip upon Ctrl-C and so leaves a temporary folder behind.
    hint = f"cannot install pip in {folder / 'env'}; on Debian: apt install python3-venv"
    _run_module(folder, ["ensurepip", "--default-pip"], report, hint)
    command = ["pip", "install", *shlex.split(os.environ.get("PIP_ARGS", "")), "--progress-bar", "off"]
    command += ["--constraint", str(CONSTRAINTS), "--requirement", str(REQUIREMENTS), "torch"]
    _run_module(folder, command, report, "pip could not install the container's packages:")


def _run_module(folder: Path, module: Sequence[str], report: Callable[[str], None], failure: str) -> None:
    """Run a module of the environment, isolated from other packages; raise `StartError` if it fails."""
    process = subprocess.Popen(
        [folder / _PYTHON, "-I", "-m", *module],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # so that Ctrl-C reaches it once, from this process
    )
    tail: deque[str] = deque(maxlen=15)
    try:
        for line in process.stdout or ():
            tail.append(line.rstrip())
            if line.startswith(("Collecting", "Installing")):
                report(f"installing the container's environment: {line.strip()[:100]}")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)  # then pip removes its temporary folders
        process.wait()
    if process.returncode:
        raise StartError("\n".join([failure, *tail]))


if __name__ == "__main__":  # install before the tests, so that they need not wait for each other
    with locked_environment(report=print):
        pass
