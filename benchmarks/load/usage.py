"""What a running server uses: processor seconds, memory and file handles of each of its processes."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass

import psutil

from spoter.torchserve.server import session_members

WORKER = "model_service_worker"


@dataclass(frozen=True)
class ProcessUsage:
    """One process: bytes of memory (`rss` with, `pss` with a share of what it has in common with others), handles."""

    pid: int
    name: str
    cpu_s: float
    rss: int
    pss: int
    handles: int
    threads: int


@dataclass(frozen=True)
class Usage:
    """All processes of a server at one moment."""

    processes: tuple[ProcessUsage, ...]

    @classmethod
    def of(cls, leader: subprocess.Popen) -> Usage:
        """Look at the session that `leader` was started in, as `spoter.torchserve.server.Process` starts servers."""
        return cls.of_processes(session_members(leader))

    @classmethod
    def from_processes(cls, processes: list[psutil.Process]) -> Usage:
        found = []
        for process in processes:
            with contextlib.suppress(psutil.Error):  # it ended in the meantime
                found.append(_usage(process))
        return cls(tuple(sorted(found, key=lambda usage: usage.pid)))

    @property
    def cpu_s(self) -> float:
        """Seconds of all processes that live now; a difference of two readings tells what was used between them."""
        return sum(process.cpu_s for process in self.processes)

    @property
    def rss(self) -> int:
        return sum(process.rss for process in self.processes)

    @property
    def workers(self) -> tuple[ProcessUsage, ...]:
        """TorchServe's Python workers."""
        return tuple(process for process in self.processes if process.name == WORKER)

    @property
    def frontend(self) -> ProcessUsage | None:
        """TorchServe's Java process."""
        return next((process for process in self.processes if process.name == "java"), None)


def _usage(process: psutil.Process) -> ProcessUsage:
    with process.oneshot():
        memory = process.memory_full_info()
        times = process.cpu_times()
        is_worker = any(part.endswith(f"{WORKER}.py") for part in process.cmdline())
        return ProcessUsage(
            pid=process.pid,
            name=WORKER if is_worker else process.name(),
            cpu_s=times.user + times.system,
            rss=memory.rss,
            pss=getattr(memory, "pss", memory.rss),  # Linux only
            handles=process.num_fds(),
            threads=process.num_threads(),
        )
