"""Timing several things against one another on a machine whose speed drifts."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from tqdm import tqdm


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one thing: `low` and `high` are the first and last decile, the machine's noise."""

    name: str
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, name: str, seconds: list[float]) -> Timing:
        ordered = sorted(1e3 * value for value in seconds)
        return cls(name, statistics.median(ordered), ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10])


def in_turn(
    things: dict[str, Callable[[], object]], seconds: float, label: str, after: Callable[[], object] | None = None
) -> list[Timing]:
    """Time all `things` again and again, one after the other, so that a slow moment hits all of them.

    Parameters
    ----------
    things : dict of str to callable
    seconds : float
        How long to go on; at least ten rounds are made.
    label : str
        For the progress bar.
    after : callable, optional
        Called after each round, and not timed.
    """
    taken: dict[str, list[float]] = {name: [] for name in things}
    for run in things.values():
        run()  # first calls allocate, compile and fill caches
    end = time.perf_counter() + seconds
    with tqdm(desc=label, unit=" rounds", leave=False) as bar:
        while time.perf_counter() < end or bar.n < 10:
            for name, run in things.items():
                started = time.perf_counter()
                run()
                taken[name].append(time.perf_counter() - started)
            if after is not None:
                after()
            bar.update()
    return [Timing.of(name, values) for name, values in taken.items()]


def machine() -> str:
    """Tell in a few words what is measured on, and how busy that is."""
    from importlib.metadata import version

    return (
        f"{_processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, "
        f"torch {version('torch')}"
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):  # another system than Linux, or another architecture's
        return platform.machine()


def one_thread() -> None:
    """Hold numpy's and torch's products in this process to one thread, as a worker does for itself.

    Not by a variable, which servers that are started from here would inherit, and those of `make serve` have not.
    """
    from spoter.runtime.threads import compute_with

    compute_with(1, "torch")


def table(title: str, timings: list[Timing], unit: Timing, unit_name: str) -> str:
    """Return a Markdown table, each row also as a ratio to `unit` of the same run."""
    lines = [f"### {title}", "", f"| | median ms | 10-90 % | ratio to {unit_name} |", "|---|---:|---:|---:|"]
    lines += [
        f"| {row.name} | {row.median:.2f} | {row.low:.2f} - {row.high:.2f} | {row.median / unit.median:.3f} |"
        for row in timings
    ]
    return "\n".join(lines) + "\n"
