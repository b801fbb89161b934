"""Commands that start servers: what ends them, and how one runs another, so that none leaves a server behind."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from spoter.torchserve.server import end_session

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 and the signal's number."""
GRACE = 60.0
"""Seconds that a command has to end its servers once it was told to end."""


def end_on_signals() -> None:
    """Have SIGTERM and SIGHUP end this command as Ctrl-C does, with all that it has started, and the second one wait.

    As Ctrl-C exactly: an event loop that runs takes that one for its own, and cancels what is under way.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have what they start with & ignore it
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has SIGHUP
            signal.signal(number, _as_ctrl_c)


def _as_ctrl_c(*_) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.raise_signal(signal.SIGINT)


def run_to_end(command: Sequence[str], seconds: float | None = None, **options: Any) -> subprocess.CompletedProcess:
    """Run a command that starts servers to its end; where that is not waited for, have it end them first.

    `subprocess.run` would kill it, and its servers, in sessions of their own, would go on.

    Parameters
    ----------
    command : sequence of str
    seconds : float, optional
        After which it is told to end.
    **options
        Of `subprocess.Popen`.

    Raises
    ------
    subprocess.TimeoutExpired
    """
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)
    try:
        said, complained = process.communicate(timeout=seconds)
    finally:
        end_session(process, GRACE)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    return subprocess.CompletedProcess(command, process.returncode, said, complained)
