"""Fail a test run if one of its processes, or a process that a test waited for, used 2 GB or more."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Iterator
from typing import Any

import pytest

LIMIT_MB = 2048

_GLIBC = ctypes.CDLL(None) if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim") else None
_M_MMAP_THRESHOLD = -3  # from malloc.h


class PeakMemory:
    """The highest peak of resident memory in megabytes, and the test after which it was measured."""

    def __init__(self) -> None:
        self.peak_mb, self.test = _peak_mb(), "the start"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item):
        result = yield
        self._note(_peak_mb(), item.nodeid)
        return result

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Record the peak of a pytest-xdist process; a process that crashed reports none, but fails the run."""
        self._note(*getattr(node, "workeroutput", {}).get("peak_memory", (0, "")))

    def _note(self, peak_mb: int, test: str) -> None:
        if peak_mb > self.peak_mb:
            self.peak_mb, self.test = peak_mb, test

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["peak_memory"] = (self.peak_mb, self.test)
        elif self.peak_mb >= LIMIT_MB and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        verdict = f"the limit is {LIMIT_MB} MB" if self.peak_mb < LIMIT_MB else f"FAILED: expected under {LIMIT_MB} MB"
        terminalreporter.write_line(f"largest process: {self.peak_mb} MB after {self.test} ({verdict})")


def _peak_mb() -> int:
    """Return the larger peak: of this process, or of the largest process that it waited for."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024


@pytest.fixture(scope="module", autouse=True)
def _give_back() -> Iterator[None]:
    """Return memory freed by a module's tests to the system; glibc would otherwise keep hundreds of megabytes."""
    yield
    if _GLIBC is not None:
        _GLIBC.malloc_trim(0)


def pytest_configure(config: pytest.Config) -> None:
    if _GLIBC is not None:
        # Freed arrays of 1 MB and more go back to the system at once; by default this threshold grows to 32 MB.
        _GLIBC.mallopt(_M_MMAP_THRESHOLD, 2**20)
    config.pluginmanager.register(PeakMemory())
