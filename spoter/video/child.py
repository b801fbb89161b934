"""The child process that decodes a video: give it a job, pass on its progress, and be sure that it ends."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from spoter.error_codes import ErrorCode
from spoter.errors import InputError, SpoterError

_WORKER = Path(__file__).with_name("worker")
_LONGEST_LINE = 1 << 16
_POLL_SECONDS = 0.1

Progress = Callable[[int, int | None], None]
"""Gets the number of frames that are done, and of all frames; None while they are counted."""


class ReadingCancelled(Exception):
    """The caller stopped the reading of a video."""


def run_job(
    python: Path,
    job: dict[str, Any],
    timeout_s: float = 120.0,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Have a child process do a job, and return its result; the child and its descendants are gone afterwards.

    `python` is the interpreter of the environment for videos; ``worker/__main__.py`` describes a `job`. Errors are
    those of `spoter.video.reader.read`.
    """
    deadline = time.monotonic() + timeout_s
    try:
        child = subprocess.Popen(
            [python, "-I", _WORKER],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches this process only, and killpg all of the child's
        )
    except OSError as error:
        raise SpoterError(f"{python}: cannot be started ({error.strerror or error})") from error
    with child:
        try:
            assert child.stdin is not None and child.stdout is not None  # both are pipes
            with contextlib.suppress(BrokenPipeError):  # it died before it read its job
                child.stdin.write(json.dumps(job).encode() + b"\n")
            answer = _read_answer(child.stdout, deadline, progress, stop)
        finally:
            # It is not waited for yet, so that the number is still this child's.
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended; macOS reports EPERM
                os.killpg(child.pid, signal.SIGKILL)
    if answer is None:
        raise InputError(ErrorCode.VIDEO_TIMEOUT, f"found no end of it in {timeout_s:g} seconds, expected one")
    if "done" in answer:
        return dict(answer["done"])
    if "error" not in answer:
        how = f"by signal {-child.returncode}" if child.returncode < 0 else f"with status {child.returncode}"
        raise InputError(ErrorCode.BAD_VIDEO, f"the process that decodes it ended {how}, expected a readable video")
    if answer["error"] == "environment":
        raise SpoterError(f"{python}: {answer['message']}")
    if answer["error"] == "system":
        raise OSError(answer["number"], answer["message"], tempfile.gettempdir())
    raise video_error(answer["error"], answer["message"])


def video_error(code: str, message: str) -> InputError:
    """Return the error for a code of the worker's."""
    return InputError(ErrorCode[code.upper()], message)


def _read_answer(
    stdout: IO[bytes], deadline: float, progress: Progress | None, stop: threading.Event | None
) -> dict[str, Any] | None:
    """Return the child's last line, {} if it ended without one, None if its time is over."""
    unread = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if stop is not None and stop.is_set():
                raise ReadingCancelled
            if not selector.select(_POLL_SECONDS):
                continue
            content = os.read(stdout.fileno(), _LONGEST_LINE)
            *lines, unread = (unread + content).split(b"\n")
            if not content or len(unread) > _LONGEST_LINE:
                return {}
            for message in map(json.loads, lines):
                if "frames" not in message:
                    return dict(message)
                if progress is not None:
                    progress(message["frames"], message["of"])
    return None
