"""Termination of commands that start servers, so that no server keeps running."""

import signal
import subprocess
from collections.abc import Sequence
from types import FrameType
from typing import Any

from spoter.processes import end_process_tree

INTERRUPTED = 130  # a shell's exit status after Ctrl-C: 128 plus the number of the signal
GRACE = 60.0  # seconds for a command to end its servers


def end_on_signals() -> None:
    """Make SIGTERM and SIGHUP end this command and its servers, as Ctrl-C does; later signals are ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.raise_signal(signal.SIGINT)  # a running event loop handles SIGINT by canceling its tasks


def run_to_end(
    command: Sequence[str], seconds: float | None = None, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """Run a command that starts servers, with `options` of `subprocess.Popen`; return its output.

    After an interrupt, or after `seconds` (`subprocess.TimeoutExpired`), the command first ends its servers.
    `subprocess.run` would kill the command, and its servers, which have separate sessions, would keep running.
    """
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        finally:
            end_process_tree(process, GRACE)
    return subprocess.CompletedProcess(command, process.returncode, out, err)
