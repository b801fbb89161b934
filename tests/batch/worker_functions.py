"""Functions that tests run in worker processes instead of predictions; the workers import them by name."""

from __future__ import annotations

import os
import signal


def echo(sources, is_stopped):
    return [source.file for source in sources]


def die(sources, is_stopped):
    os.kill(os.getpid(), signal.SIGKILL)  # like the kernel when memory runs out
