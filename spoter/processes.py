"""Process trees: list them and end them. Needs psutil, which the extra `serve` installs."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any

import psutil

GRACE = 10.0
"""Default seconds between SIGTERM and SIGKILL."""
_KILL_TIMEOUT = 10.0  # seconds to repeat SIGKILL: a dying process may just have started another one


def session_members(leader: subprocess.Popen[Any]) -> list[psutil.Process]:
    """Return the living processes of the session that `leader` leads (``start_new_session=True``).

    The leader may have ended. Zombies do not count as living. A process that leads no session has no members.
    """
    leader.poll()  # reaps the leader if it has ended, so that it is no zombie
    members = (process for process in psutil.process_iter() if _session_id(process) == leader.pid)
    return list(filter(_is_living, members))


def process_tree(process: subprocess.Popen[Any]) -> list[psutil.Process]:
    """Return the living processes that belong to `process`, ordered by process ID.

    They are the process, the members of the session that it leads, and all their descendants, including those in other
    sessions.
    """
    roots = session_members(process)
    if not roots and process.poll() is None:
        roots = [psutil.Process(process.pid)]
    tree = set(roots)
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            tree.update(root.children(recursive=True))
    return sorted(_living(tree), key=lambda member: member.pid)


def end_process_tree(process: subprocess.Popen[Any], grace: float = GRACE) -> None:
    """End a process and everything it started: SIGTERM, then SIGKILL for processes that live after `grace` seconds.

    The session that `process` leads is ended first, even if the process itself has already ended. Descendants outside
    that session get their signals afterwards, so that their parents can end them properly. A process that leads no
    session is ended together with all its descendants.

    Parameters
    ----------
    process : subprocess.Popen
        The function waits for it, so its ``returncode`` is set.
    grace : float
        Seconds between SIGTERM and SIGKILL.
    """
    tree = process_tree(process)
    _end(lambda: session_members(process), grace)
    _end(lambda: _living(tree), grace)
    process.wait()


def _end(members: Callable[[], list[psutil.Process]], grace: float) -> None:
    """End the processes that `members` returns; call it repeatedly to find those that are left."""
    deadline = time.monotonic() + grace
    _send_signal(members(), signal.SIGTERM)
    while members() and time.monotonic() < deadline:
        time.sleep(0.05)
    deadline = time.monotonic() + _KILL_TIMEOUT
    while (left := members()) and time.monotonic() < deadline:
        _send_signal(left, signal.SIGKILL)
        time.sleep(0.01)


def _send_signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            process.send_signal(number)


def _living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if _is_living(process)]


def _is_living(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _session_id(process: psutil.Process) -> int | None:
    """Return the session of a process, or None if it has ended."""
    try:
        return os.getsid(process.pid)
    except OSError:
        return None
