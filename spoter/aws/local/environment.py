"""The Python environment that stands in for AWS's image: installed once, by pip, and completed or installed again."""

from __future__ import annotations

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
CONSTRAINTS = RESOURCES / "constraints.txt"  # its torch is this environment's too
FOLDER = WORK_FOLDER / ".local-container"
# Not Windows: TorchServe's own scripts and the process groups that `--local` ends by are Unix's.
_PYTHON = Path("env", "bin", "python")


@contextmanager
def locked_environment(folder: Path = FOLDER, report: Callable[[str], None] = lambda line: None) -> Iterator[Path]:
    """Yield the environment's interpreter; install it first where it is missing or out of date.

    Inside the block nobody else uses the environment: the container's start-up code installs packages into it. The
    folder holds it with its lock and its stamp. The variable PIP_ARGS holds options for pip, as in the Makefile.

    Raises
    ------
    StartError
        Where it cannot be installed, with the last lines of pip.
    """
    import fcntl  # of Unix

    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")  # wherever it is, it belongs to no repository
    with (folder / "lock").open("w") as lock:  # it falls with the process, however that ends
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"waiting for another start in {folder}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        stamp, expected = folder / "stamp", stamp_content()
        # The interpreter is a link to the system's, which may have been moved or removed.
        if not stamp.is_file() or stamp.read_bytes() != expected or not (folder / _PYTHON).is_file():
            stamp.unlink(missing_ok=True)  # nobody may use what is left half done
            _install(folder, report)
            atomic_write_bytes(stamp, expected)
        yield folder / _PYTHON


def stamp_content() -> bytes:
    """Return what the environment is made from; another Python or other requirements need another one."""
    return b"\n".join([sys.version.encode(), REQUIREMENTS.read_bytes(), CONSTRAINTS.read_bytes()])


def _install(folder: Path, report: Callable[[str], None]) -> None:
    report(f"installing the container's environment in {folder}, once; torch is large")
    shutil.rmtree(folder / "env", ignore_errors=True)
    try:
        venv.create(folder / "env", symlinks=True)
    except OSError as error:
        raise StartError(f"cannot create {folder / 'env'}: {error}") from None
    # Not by venv, which would kill ensurepip upon a Ctrl-C, and so leave its temporary folder behind.
    hint = f"cannot put pip into {folder / 'env'}; on Debian: apt install python3-venv"
    _run_module(folder, ["ensurepip", "--default-pip"], report, hint)
    command = ["pip", "install", *shlex.split(os.environ.get("PIP_ARGS", "")), "--progress-bar", "off"]
    command += ["--constraint", str(CONSTRAINTS), "--requirement", str(REQUIREMENTS), "torch"]
    _run_module(folder, command, report, "pip could not install the container's packages:")


def _run_module(folder: Path, module: Sequence[str], report: Callable[[str], None], failure: str) -> None:
    """Run a module of the environment, isolated from other packages; raise `StartError` where it fails."""
    process = subprocess.Popen(
        [folder / _PYTHON, "-I", "-m", *module],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # so that a Ctrl-C reaches it through this process alone, and once
    )
    last: deque[str] = deque(maxlen=15)
    try:
        for line in process.stdout or ():
            last.append(line.rstrip())
            if line.startswith(("Collecting", "Installing")):
                report(f"installing the container's environment: {line.strip()[:100]}")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)  # upon which pip removes its temporary folders
        process.wait()
    if process.returncode:
        raise StartError("\n".join([failure, *last]))


if __name__ == "__main__":  # before the tests, several of which would wait for it at once
    with locked_environment(report=print):
        pass
