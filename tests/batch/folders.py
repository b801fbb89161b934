"""What tests have worker processes do in place of answering: they import it by name."""

from __future__ import annotations

import os
import signal


def echo(pieces, stopped):
    return [piece.file for piece in pieces]


def die(pieces, stopped):
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does for want of memory
