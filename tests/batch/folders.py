"""What tests have worker processes do in place of answering: they import it by name."""

from __future__ import annotations

import os
import signal


def echo(sources, stopped):
    return [source.file for source in sources]


def die(sources, stopped):
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does for want of memory
