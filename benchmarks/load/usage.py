"""Resource usage of a running server: processor time, memory and file handles of each process."""

import contextlib
import subprocess
from dataclasses import dataclass
from typing import Any

import psutil

from spoter.processes import process_tree

_WORKER = "model_service_worker"


@dataclass(frozen=True)
class ProcessUsage:
    """One process; `rss` and `pss` are bytes, and `pss` counts only a share of memory shared with other processes."""

    pid: int
    name: str
    cpu_s: float
    rss: int
    pss: int
    handles: int
    threads: int


@dataclass(frozen=True)
class Usage:
    """All processes of a server at one moment, ordered by process ID."""

    processes: tuple[ProcessUsage, ...]

    @property
    def cpu_s(self) -> float:
        """The processor seconds of all running processes; subtract two readings to get the usage between them."""
        return sum(process.cpu_s for process in self.processes)

    @property
    def workers(self) -> tuple[ProcessUsage, ...]:
        """TorchServe's Python workers."""
        return tuple(process for process in self.processes if process.name == _WORKER)

    @property
    def frontend(self) -> ProcessUsage | None:
        """TorchServe's Java process."""
        return next((process for process in self.processes if process.name == "java"), None)


def measure_usage(leader: subprocess.Popen[Any]) -> Usage:
    """Measure the processes of the session that `leader` leads, and their descendants."""
    usages = []
    for process in process_tree(leader):
        with contextlib.suppress(psutil.Error), process.oneshot():  # the process may have ended since
            memory, times = process.memory_full_info(), process.cpu_times()
            is_worker = any(part.endswith(f"{_WORKER}.py") for part in process.cmdline())
            usages.append(
                ProcessUsage(
                    pid=process.pid,
                    name=_WORKER if is_worker else process.name(),
                    cpu_s=times.user + times.system,
                    rss=memory.rss,
                    pss=getattr(memory, "pss", memory.rss),  # Linux only
                    handles=process.num_fds(),
                    threads=process.num_threads(),
                )
            )
    return Usage(tuple(usages))
