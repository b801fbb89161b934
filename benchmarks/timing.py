"""Compare the run times of several functions on a machine whose speed drifts."""

import gc
import os
import platform
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benchmarks.tables import markdown_table
from spoter.runtime.device import limit_threads

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one function; `low` and `high` are the 10th and 90th percentiles, which show the noise."""

    name: str
    median: float
    low: float
    high: float

    @classmethod
    def from_seconds(cls, name: str, seconds: npt.ArrayLike) -> Self:
        """Summarize measured times, given in seconds."""
        low, median, high = (1e3 * np.percentile(seconds, (10, 50, 90))).tolist()
        return cls(name, median, low, high)

    @property
    def spread(self) -> str:
        """The 10th and 90th percentiles as text."""
        return f"{self.low:.2f} - {self.high:.2f}"


def measure_seconds(
    functions: Mapping[Key, Callable[[], object]], seconds: float, label: str, after: Callable[[], object] | None = None
) -> dict[Key, list[float]]:
    """Call all functions in turn, so that a slow moment affects all; return the seconds of each call, by key."""
    measured: dict[Key, list[float]] = {name: [] for name in functions}
    for run in functions.values():
        run()  # the first call allocates, compiles and fills caches
    end = time.perf_counter() + seconds
    with tqdm(desc=label, unit=" rounds", leave=False) as bar:
        while time.perf_counter() < end or bar.n < 10:
            for name, run in functions.items():
                started = time.perf_counter()
                run()
                measured[name].append(time.perf_counter() - started)
            if after is not None:
                after()  # not measured
            bar.update()
    return measured


def time_functions(
    functions: Mapping[str, Callable[[], object]], seconds: float, label: str, after: Callable[[], object] | None = None
) -> list[Timing]:
    """Measure functions with `measure_seconds`; return one timing per function, in the order of the functions."""
    measured = measure_seconds(functions, seconds, label, after)
    return [Timing.from_seconds(name, values) for name, values in measured.items()]


def describe_machine() -> str:
    """Return one line: processor, cores, system load, and the versions of Python and torch."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            processor = next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):  # another system than Linux, or another architecture
        processor = platform.machine()
    return (
        f"{processor}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, "
        f"torch {version('torch')}"
    )


@contextmanager
def frozen_heap() -> Iterator[None]:
    """Hide all present objects from the garbage collector, whose search would be measured too."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def use_one_thread() -> None:
    """Limit numpy and torch in this process to one thread, as in a worker."""
    limit_threads(1, "torch")  # not by an environment variable: servers started by this process would inherit it


def timings_table(title: str, timings: Iterable[Timing], ratios: Mapping[str, Callable[[Timing], object]]) -> str:
    """Return a Markdown table; `ratios` are additional columns by their titles."""
    rows = [(row.name, f"{row.median:.2f}", row.spread, *(ratio(row) for ratio in ratios.values())) for row in timings]
    return markdown_table(("", "median, ms", "p10 - p90, ms", *ratios), rows, title)


def ratio_table(title: str, timings: Sequence[Timing], unit_name: str) -> str:
    """Return a Markdown table of timings with their ratios to the timing called `unit_name`."""
    unit = next(row.median for row in timings if row.name == unit_name)
    return timings_table(title, timings, {f"ratio to {unit_name}": lambda row: f"{row.median / unit:.3f}"})
