"""The child process that decodes a video: start its job, forward its progress, and make sure that it ends."""

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
"""Called with the number of frames done and the total number, which is None while frames are counted."""


class ReadingCancelled(Exception):
    """The caller canceled the reading of a video."""


def run_job(
    python: Path,
    job: dict[str, Any],
    timeout_s: float = 120.0,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Run a job in a child process and return its result; end the child and its descendants.

    `python` is the interpreter of the video environment; ``worker/__main__.py`` describes a `job`. Raise the errors of
    `spoter.video.reader.read`.
    """
    deadline = time.monotonic() + timeout_s
    try:
        child = subprocess.Popen(
            [python, "-I", _WORKER],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C then reaches only this process; killpg reaches the child's descendants
        )
    except OSError as error:
        raise SpoterError(f"{python}: cannot be started ({error.strerror or error})") from error
    with child:
        try:
            assert child.stdin is not None and child.stdout is not None  # both are pipes
            with contextlib.suppress(BrokenPipeError):  # the child died before it read its job
                child.stdin.write(json.dumps(job).encode() + b"\n")
            answer = _read_answer(child.stdout, deadline, progress, stop)
        finally:
            # The child is not reaped yet, so no other process can have its process ID.
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended; macOS then reports EPERM
                os.killpg(child.pid, signal.SIGKILL)
    if answer is None:
        raise InputError(ErrorCode.VIDEO_TIMEOUT, f"found no result after {timeout_s:g} seconds; use a shorter video")
    if "done" in answer:
        return dict(answer["done"])
    if "error" not in answer:
        status = f"signal {-child.returncode}" if child.returncode < 0 else f"exit status {child.returncode}"
        raise InputError(ErrorCode.BAD_VIDEO, f"the decoder crashed ({status}); the file is probably damaged")
    if answer["error"] == "environment":
        raise SpoterError(f"{python}: {answer['message']}")
    if answer["error"] == "system":
        raise OSError(answer["number"], answer["message"], tempfile.gettempdir())
    raise video_error(answer["error"], answer["message"])


def video_error(code: str, message: str) -> InputError:
    """Return the error for an error code of the worker."""
    return InputError(ErrorCode[code.upper()], message)


def _read_answer(
    stdout: IO[bytes], deadline: float, progress: Progress | None, stop: threading.Event | None
) -> dict[str, Any] | None:
    """Return the child's last message, {} if it ended without one, or None at the deadline."""
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
