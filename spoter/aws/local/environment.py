"""The Python environment that stands in for AWS's image: made once, by pip, and finished or made anew."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import venv
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spoter.files import atomic_write_bytes
from spoter.resources import RESOURCES, WORK_FOLDER
from spoter.torchserve.process import StartError

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
CONSTRAINTS = RESOURCES / "constraints.txt"  # its torch is this environment's too
FOLDER = WORK_FOLDER / ".local-container"
# Not Windows: TorchServe's own scripts and the process groups that `--local` ends by are Unix's.
_PYTHON = Path("env", "bin", "python")


@contextmanager
def environment(folder: Path = FOLDER, say: Callable[[str], None] = lambda line: None) -> Iterator[Path]:
    """Hand out the environment's interpreter, made where it is not there or no longer what is asked for.

    Nobody else uses the environment inside the block: the container's start-up code installs packages into it.

    Parameters
    ----------
    folder : Path
        Where it lies, with its lock and its stamp. The variable PIP_ARGS holds options for pip, as in the Makefile.
    say : callable
        Is given a line for each step.

    Raises
    ------
    StartError
        Where it cannot be made, with what pip said last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")  # wherever it lies, it belongs to nobody's repository
    with _alone(folder / "lock", say):
        stamp, wanted = folder / "stamp", _wanted()
        # Without an interpreter: that of the system, to which it is a link, has been moved or removed.
        if not stamp.is_file() or stamp.read_bytes() != wanted or not (folder / _PYTHON).is_file():
            stamp.unlink(missing_ok=True)  # what is left half done shall be nobody's
            _make(folder, say)
            atomic_write_bytes(stamp, wanted)
        yield folder / _PYTHON


def _wanted() -> bytes:
    """Return what the environment is made from; another Python or other requirements need another one."""
    return b"\n".join([sys.version.encode(), REQUIREMENTS.read_bytes(), CONSTRAINTS.read_bytes()])


def _make(folder: Path, say: Callable[[str], None]) -> None:
    say(f"making the container's environment in {folder}, once; torch is large")
    shutil.rmtree(folder / "env", ignore_errors=True)
    try:
        venv.create(folder / "env", symlinks=True)
    except OSError as error:
        raise StartError(f"cannot make {folder / 'env'}: {error}") from None
    # Not by way of venv, which would kill it upon a Ctrl-C, and so leave its temporary folder behind.
    status, said = _run(folder, ["ensurepip", "--default-pip"], say)
    if status:
        raise StartError(f"cannot put pip into {folder / 'env'}; on Debian: apt install python3-venv\n{said}")
    command = ["pip", "install", *shlex.split(os.environ.get("PIP_ARGS", ""))]
    command += ["--progress-bar", "off", "--constraint", CONSTRAINTS, "--requirement", REQUIREMENTS, "torch"]
    status, said = _run(folder, command, say)
    if status:
        raise StartError(f"pip could not install the container's packages:\n{said}")


def _run(folder: Path, module: list[str | Path], say: Callable[[str], None]) -> tuple[int, str]:
    """Run a module of the environment, away from what else Python finds; return its status and its last words."""
    process = subprocess.Popen(
        [folder / _PYTHON, "-I", "-m", *module],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # so that a Ctrl-C reaches it by way of this process alone, and once
    )
    said: deque[str] = deque(maxlen=15)
    try:
        for line in process.stdout:
            said.append(line.rstrip())
            if line.startswith(("Collecting", "Installing")):
                say(f"making the container's environment: {line.strip()[:100]}")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)  # upon which pip removes its temporary folders
        status = process.wait()
    return status, "\n".join(said)


@contextmanager
def _alone(lock: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Wait until nobody else holds the lock; it falls with the process, however that ends."""
    import fcntl  # of Unix

    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another start in {lock.parent}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":  # before the tests, several of which would wait for it at once
    with environment(say=print):
        pass
