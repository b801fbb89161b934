"""Ends for commands that start servers, so that none leaves a server behind."""

import signal
import subprocess
from collections.abc import Sequence
from types import FrameType
from typing import Any

from spoter.processes import end_process_tree

INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it: 128 and the signal's number
GRACE = 60.0  # seconds that a command gets to end its servers


def end_on_signals() -> None:
    """Have SIGTERM and SIGHUP end this command as Ctrl-C does, with all that it has started; ignore further signals."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.raise_signal(signal.SIGINT)  # which a running event loop takes over, to cancel its tasks


def run_to_end(
    command: Sequence[str], seconds: float | None = None, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """Run a command that starts servers, with `options` of `subprocess.Popen`; return its output.

    Where it is interrupted, or takes more than `seconds` (`subprocess.TimeoutExpired`), it ends its servers first.
    `subprocess.run` would kill it, and its servers, in their own sessions, would stay.
    """
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        finally:
            end_process_tree(process, GRACE)
    return subprocess.CompletedProcess(command, process.returncode, out, err)
