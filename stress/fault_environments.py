"""Environments of servers for faults: a small disk, and a clock that can be moved."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spoter.files import atomic_write_bytes

# Bytes of the file system that is filled up. TorchServe, its archive twice and its logs fit in; a jar of Netty's too.
DISK = 256 << 20
CLOCK_FILE = "FAKETIME_TIMESTAMP_FILE"
# Debian's and Fedora's folders.
FAKETIME = ("usr/lib/*/faketime/libfaketimeMT.so.1", "usr/lib*/faketime/libfaketimeMT.so.1")


class CannotBeTried(Exception):
    """The machine lacks the means for a fault; the text says which."""


@contextmanager
def small_disk() -> Iterator[None]:
    """Put temporary folders, and so all files that a server writes, on a small file system."""
    if os.geteuid() != 0:
        raise CannotBeTried("only root may mount a file system to fill up")
    before, folder = tempfile.tempdir, tempfile.mkdtemp(prefix="spoter-disk-")
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], capture_output=True)
    if mount.returncode:
        os.rmdir(folder)
        raise CannotBeTried("this container may not mount a file system to fill up")
    tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = before
        subprocess.run(["umount", "--lazy", folder], check=True)
        os.rmdir(folder)


@contextmanager
def movable_clock() -> Iterator[None]:
    """Start servers with a movable clock, for Java and Python alike.

    CLOCK_MONOTONIC stays the machine's: both wait by it, and no clock jump changes it.
    """
    libraries = [path for pattern in FAKETIME for path in Path("/").glob(pattern)]
    if not libraries:
        raise CannotBeTried("moving the clock needs libfaketime: Debian's package faketime")
    handle, name = tempfile.mkstemp(prefix="spoter-clock-")
    os.close(handle)
    fake = {"LD_PRELOAD": str(libraries[0]), CLOCK_FILE: name, "FAKETIME_CACHE_DURATION": "1"}
    fake["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"
    before = {key: os.environ.get(key) for key in fake}
    set_clock(name, 0)
    os.environ.update(fake)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})
        os.unlink(name)


def set_clock(path: str, seconds: int) -> None:
    """Set the clock of servers in `movable_clock` to `seconds` from the true time."""
    atomic_write_bytes(Path(path), f"{seconds:+d}\n".encode())
