"""How cost grows with the size of a request: `python -m benchmarks.serving.growth`; `--picture` draws the tables.

Models with random weights, in the sizes of a real model, answer requests in this process on one thread. In each table
one size grows; the other sizes stay at 60 frames, one clip and the model's number of glosses. `--server` adds a table
with a growing number of clients of a TorchServe.

The slope is the slope of log(median) over log(size): 0 is constant, 1 linear, 2 quadratic. It is fitted to the upper
half of the sizes, where the fixed cost of a request matters less.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from tqdm import tqdm

from benchmarks import MODEL
from benchmarks.command import ModelOption, run_command
from benchmarks.load.bodies import compact_request, full_request
from benchmarks.load.client import Request, run_closed_loop
from benchmarks.load.usage import measure_usage
from benchmarks.models import bind_request, write_random_model
from benchmarks.serving.server import running_server
from benchmarks.tables import markdown_table
from benchmarks.timing import Timing, describe_machine, measure_seconds, use_one_thread
from spoter.errors import SpoterError
from spoter.files import atomic_write
from spoter.model.config import Sizes
from spoter.serving.recognizer import Recognizer

FRAMES = (15, 30, 60, 120, 240, 400, 600)
CLIPS = (1, 2, 4, 8, 16, 32, 64)
GLOSSES = (10, 30, 100, 300, 1000, 2000)
CLIENTS = (1, 2, 4, 8, 16, 32, 64)
_BYTES = 100_000_000  # 600 frames in the full form exceed the default limit of a request
_ROUNDS = 3  # rounds through the numbers of clients


@dataclass(frozen=True)
class Growth:
    """The content of a table and a plot: the cost at each size."""

    axis: str  # name of the size that grows
    sizes: Sequence[int]
    series: dict[str, list[Timing]]  # by the names of the series; one timing per size
    unit: str = "ms"  # unit of the cost
    note: str = ""  # printed below the table

    def slope(self, name: str) -> float:
        """Return the slope of a series."""
        return fit_slope(self.sizes, [timing.median for timing in self.series[name]])


def fit_slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of log(value) over log(size), by least squares, for sizes above their geometric middle."""
    x, y = np.log(sizes), np.log(values)
    upper = x >= min((x[0] + x[-1]) / 2, x[-2])  # at least two points
    return float(np.polyfit(x[upper], y[upper], 1)[0])


def quadratic_share(sizes: Sizes, frames: int) -> float:
    """Return the share of the encoder's multiplications that grows with the square of the number of frames.

    For T frames, a layer of width D with a feed-forward size F multiplies T (4 D² + 2 D F) times in its projections and
    2 T² D times in attention between frames ("Attention Is All You Need", 2017, table 1).
    """
    square = 2 * frames**2 * sizes.width
    linear = frames * (4 * sizes.width**2 + 2 * sizes.width * sizes.encoder_feedforward)
    return square / (square + linear)


def growth_table(growth: Growth) -> str:
    """Return a Markdown table: one row per size, with 10th and 90th percentiles in parentheses, and a row of slopes."""
    columns = [[f"{timing.median:.2f} ({timing.spread})" for timing in timings] for timings in growth.series.values()]
    slopes = (f"{growth.slope(name):.2f}" for name in growth.series)
    rows = [*zip(growth.sizes, *columns, strict=True), ("slope", *slopes)]
    table = markdown_table((growth.axis, *growth.series), rows, f"By {growth.axis}: {growth.unit}", left=0)
    return table + (f"\n{growth.note}\n" if growth.note else "")


def grow_frames(sizes: Sizes, lengths: Sequence[int], seconds: float, folder: Path) -> Growth:
    """Measure clips of increasing length: requests in both forms, and only the forward pass."""
    limits = {"max_frames": max(lengths), "max_bytes": _BYTES}
    recognizer = Recognizer.load(write_random_model(folder / "frames", sizes, **limits))
    functions: dict[tuple[str, int], Callable[[], object]] = {}
    for frames in lengths:
        features = np.random.default_rng(0).normal(size=(frames, sizes.width)).astype(np.float32)
        functions["compact request", frames] = bind_request(recognizer, compact_request(recognizer.layout, frames))
        functions["full request", frames] = bind_request(recognizer, full_request(frames))
        functions["forward pass only", frames] = partial(recognizer.runtime.run, [features], False)
    shares = ", ".join(f"{100 * quadratic_share(sizes, frames):.0f} % at {frames} frames" for frames in lengths)
    note = f"Share of the encoder's multiplications that grows with the square of the number of frames: {shares}."
    return _measure_growth("frames", functions, seconds, note)


def grow_clips(sizes: Sizes, counts: Sequence[int], seconds: float, folder: Path) -> Growth:
    """Measure compact requests with an increasing number of clips."""
    recognizer = Recognizer.load(write_random_model(folder / "clips", sizes, max_clips=max(counts)))
    clip = compact_request(recognizer.layout)
    functions = {}
    for count in counts:
        functions["one request", count] = bind_request(recognizer, b'{"clips":[' + b",".join([clip] * count) + b"]}")
    return _measure_growth("clips per request", functions, seconds)


def grow_glosses(sizes: Sizes, counts: Sequence[int], seconds: float, folder: Path) -> Growth:
    """Measure compact requests to models with an increasing number of glosses, with and without prototypes."""
    functions = {}
    for count in counts:
        for prototypes, name in ((False, "without prototypes"), (True, "with prototypes")):
            path = folder / f"glosses-{count}-{name.split()[0]}"
            recognizer = Recognizer.load(write_random_model(path, sizes, classes=count, prototypes=prototypes))
            functions[name, count] = bind_request(recognizer, compact_request(recognizer.layout))
    return _measure_growth("glosses", functions, seconds)


def _measure_growth(
    axis: str, functions: Mapping[tuple[str, int], Callable[[], object]], seconds: float, note: str = ""
) -> Growth:
    """Time all functions in turn; a key is the name of a series and a size."""
    series: dict[str, list[Timing]] = {}
    for (name, _), measured in measure_seconds(functions, seconds, axis).items():
        series.setdefault(name, []).append(Timing.from_seconds(name, measured))
    return Growth(axis, list(dict.fromkeys(size for _, size in functions)), series, note=note)


def grow_clients(model: Path, counts: Sequence[int], seconds: float) -> list[Growth]:
    """Measure a TorchServe with one worker per core and an increasing number of clients with compact requests."""
    request = Request(compact_request(Recognizer.load(model).layout))
    names = ("latency", "CPU time per answer", "total")
    measured: dict[str, dict[int, list[float]]] = {name: {count: [] for count in counts} for name in names}
    with running_server(model, workers=None) as server:
        run_closed_loop(server.url, [request], counts[-1], 2.0)  # Java compiles code that runs often
        for count in tqdm([*counts] * _ROUNDS, desc="clients", unit=" runs", leave=False):
            before = measure_usage(server.leader).cpu_s
            load = run_closed_loop(server.url, [request], count, seconds / (_ROUNDS * len(counts))).require_success()
            cpu_s = measure_usage(server.leader).cpu_s - before
            measured["latency"][count] += [answer.seconds for answer in load.good]
            measured["CPU time per answer"][count].append(cpu_s / len(load.good))
            measured["total"][count].append(load.rate / 1e3)  # Timing multiplies by 1000
    series = {name: [Timing.from_seconds(name, v) for v in values.values()] for name, values in measured.items()}
    note = "Closed loop: once all workers are busy, latency grows linearly, and answers per second stay constant."
    rates = {"total": series.pop("total")}
    return [Growth("clients", counts, series, note=note), Growth("clients", counts, rates, "answers per second")]


def draw(growths: Sequence[Growth], path: Path) -> None:
    """Draw all tables into a file, with logarithmic axes; the suffix of the path selects the format."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    rows = -(-len(growths) // 2)
    figure = Figure(figsize=(11, 4 * rows), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False)
    for unused in axes.flat[len(growths) :]:
        unused.remove()
    for growth, plot in zip(growths, axes.flat, strict=False):
        for name, timings in growth.series.items():
            low, median, high = zip(*((timing.low, timing.median, timing.high) for timing in timings), strict=True)
            plot.plot(growth.sizes, median, marker="o", label=f"{name}, slope {growth.slope(name):.2f}")
            plot.fill_between(growth.sizes, low, high, alpha=0.2)
        plot.set(xscale="log", yscale="log", xlabel=growth.axis, ylabel=growth.unit)
        plot.set_xticks(growth.sizes, [str(size) for size in growth.sizes])
        plot.minorticks_off()
        bottom, top = plot.get_ylim()
        widen = max(1.0, (10 * bottom / top) ** 0.5)  # at least a decade, so that small growth looks small
        plot.set_ylim(bottom / widen, top * widen)
        plot.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        plot.yaxis.set_major_formatter("{x:g}")
        plot.grid(alpha=0.3)
        plot.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip("."), dpi=110)


def main(
    model: ModelOption = MODEL,
    seconds: Annotated[float, typer.Option(min=0, help="How long to measure each table.")] = 30.0,
    with_server: Annotated[bool, typer.Option("--server/--no-server", help="Also measure TorchServe.")] = True,
    picture: Annotated[Path | None, typer.Option(help="Draw the tables into this .png or .svg file.")] = None,
) -> None:
    """Measure how cost grows, and print Markdown tables."""
    if picture is not None and picture.suffix not in (".png", ".svg"):
        raise SpoterError(f"found --picture {picture}, expected a file ending in .png or .svg")
    use_one_thread()
    print(f"{describe_machine()}, one thread; medians (10th to 90th percentile) of alternating rounds\n")
    recognizer = Recognizer.load(model)
    sizes = recognizer.config.sizes(2 * len(recognizer.layout))
    growths = []
    with tempfile.TemporaryDirectory(prefix="spoter-growth-") as scratch:
        for grow, axis_sizes in ((grow_frames, FRAMES), (grow_clips, CLIPS), (grow_glosses, GLOSSES)):
            growths.append(grow(sizes, axis_sizes, seconds, Path(scratch)))
            print(growth_table(growths[-1]))
    if with_server:
        client_growths = grow_clients(model, CLIENTS, seconds)
        print("\n".join(map(growth_table, client_growths)))
        growths += client_growths
    if picture is not None:
        draw(growths, picture)


if __name__ == "__main__":
    run_command(main)
