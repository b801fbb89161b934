"""How costs grow with what is asked: `python -m benchmarks.serving.growth` prints tables, and draws them with `--picture PATH`.

A request is answered in this process, on one thread, by models with random weights in the sizes of a real one, each
answer by the way that all doors go (`spoter.serving.service.respond`). Along an axis one thing grows and the others stay at 60
frames, one clip and the model's own glosses. With `--server` as many clients ask a TorchServe at once.

A slope is that of the logarithm of the median over that of the size, fitted to the upper half of the sizes, where what
a request costs in any case weighs less: 0 is constant, 1 linear, 2 quadratic.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from benchmarks import ROOT
from benchmarks.load.processes import end_on_signals
from benchmarks.timing import Timing, in_turn, machine, one_thread

if TYPE_CHECKING:
    from spoter.model.config import Sizes
    from spoter.serving.recognizer import Recognizer

FRAMES = (15, 30, 60, 120, 240, 400, 600)
CLIPS = (1, 2, 4, 8, 16, 32, 64)
GLOSSES = (10, 30, 100, 300, 1000, 2000)
CLIENTS = (1, 2, 4, 8, 16, 32, 64)
_BYTES = 100_000_000  # 600 frames of full Holistic are more than the usual limit of a request
_ROUNDS = 3  # of each number of clients, in turn


@dataclass(frozen=True)
class Series:
    """One line of a plot, and one column of a table: what something costs at each size."""

    name: str
    timings: tuple[Timing, ...]

    def medians(self) -> list[float]:
        return [timing.median for timing in self.timings]


@dataclass(frozen=True)
class Growth:
    """A table: `axis` names what grows, `unit` what the numbers of `series` are, `note` what is to be known of them."""

    axis: str
    sizes: tuple[int, ...]
    series: tuple[Series, ...]
    unit: str = "ms"
    note: str = ""


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of log value over log size, by least squares, of the sizes above their geometric middle."""
    sizes, values = np.asarray(sizes, dtype=float), np.asarray(values, dtype=float)
    upper = sizes >= min(np.sqrt(sizes[0] * sizes[-1]), sizes[-2])  # two points at least
    return float(np.polyfit(np.log(sizes[upper]), np.log(values[upper]), 1)[0])


def quadratic_share(sizes: Sizes, frames: int) -> float:
    """Return which share of the encoder's multiplications grows with the square of the frames.

    A layer of width D and feed-forward F multiplies T (4 D² + 2 D F) times in its projections and 2 T² D times where
    each frame looks at all others ("Attention Is All You Need", 2017, table 1).
    """
    square = 2 * frames**2 * sizes.width
    linear = frames * (4 * sizes.width**2 + 2 * sizes.width * sizes.encoder_feedforward)
    return square / (square + linear)


def table(growth: Growth) -> str:
    """Return a Markdown table, a row a size, with the first and last decile in brackets and slopes in the last row."""
    lines = [
        f"### Against {growth.axis}, {growth.unit}",
        "",
        f"| {growth.axis} | {' | '.join(series.name for series in growth.series)} |",
        f"|---:|{'---:|' * len(growth.series)}",
    ]
    for i, size in enumerate(growth.sizes):
        cells = [series.timings[i] for series in growth.series]
        shown = (f"{cell.median:.2f} ({cell.low:.2f} - {cell.high:.2f})" for cell in cells)
        lines.append(f"| {size} | {' | '.join(shown)} |")
    slopes = (f"{slope(growth.sizes, series.medians()):.2f}" for series in growth.series)
    lines.append(f"| slope | {' | '.join(slopes)} |")
    return "\n".join(lines) + "\n" + (f"\n{growth.note}\n" if growth.note else "")


def against_frames(sizes: Sizes, lengths: Sequence[int], seconds: float, folder: Path) -> Growth:
    """Measure a clip of more and more frames: both forms of the request, and the forward alone."""
    from benchmarks.load.bodies import compact_request, full_request
    from benchmarks.random_models import write_random

    recognizer = _load(write_random(folder / "frames", sizes, max_frames=max(lengths), max_bytes=_BYTES))
    things: dict[tuple[str, int], Callable[[], object]] = {}
    for frames in lengths:
        features = np.random.default_rng(0).normal(size=(frames, sizes.width)).astype(np.float32)
        things["compact request", frames] = _asking(recognizer, compact_request(recognizer.layout, frames))
        things["full request", frames] = _asking(recognizer, full_request(frames))
        things["forward alone", frames] = lambda features=features: recognizer.forward([features], False)
    shares = ", ".join(f"{100 * quadratic_share(sizes, frames):.0f} % at {frames}" for frames in lengths)
    note = f"Of the encoder's multiplications grow with the square of the frames: {shares}."
    return _measure("frames", lengths, things, seconds, note)


def against_clips(sizes: Sizes, counts: Sequence[int], seconds: float, folder: Path) -> Growth:
    """Measure a compact request of more and more clips, one answer after the other and all in one."""
    from benchmarks.load.bodies import compact_request
    from benchmarks.random_models import write_random

    recognizer = _load(write_random(folder / "clips", sizes, max_clips=max(counts)))
    clip = compact_request(recognizer.layout)
    things: dict[tuple[str, int], Callable[[], object]] = {}
    for count in counts:
        things["one request", count] = _asking(recognizer, b'{"clips":[' + b",".join([clip] * count) + b"]}")
    return _measure("clips in a request", counts, things, seconds)


def against_glosses(sizes: Sizes, counts: Sequence[int], seconds: float, folder: Path) -> Growth:
    """Measure a compact request to models of more and more glosses, with and without prototypes."""
    from benchmarks.load.bodies import compact_request
    from benchmarks.random_models import write_random

    things: dict[tuple[str, int], Callable[[], object]] = {}
    for count in counts:
        for prototypes, name in ((False, "without prototypes"), (True, "with prototypes")):
            place = folder / f"glosses-{count}-{name.split()[0]}"
            recognizer = _load(write_random(place, sizes, classes=count, prototypes=prototypes))
            things[name, count] = _asking(recognizer, compact_request(recognizer.layout))
    return _measure("glosses", counts, things, seconds)


def against_clients(model: Path, counts: Sequence[int], seconds: float) -> list[Growth]:
    """Ask a TorchServe with a worker for each core, by more and more clients at once, compact requests."""
    from tqdm import tqdm

    from benchmarks.load.bodies import compact_request
    from benchmarks.load.client import Request, run_closed_loop
    from benchmarks.load.usage import Usage
    from benchmarks.serving.server import PATH, running_server
    from spoter.torchserve.server import LOOPBACK

    request = Request(compact_request(_load(model).layout))
    rates: dict[int, list[float]] = {count: [] for count in counts}
    waits: dict[int, list[float]] = {count: [] for count in counts}
    used: dict[int, list[float]] = {count: [] for count in counts}
    with running_server(model, workers=None) as server:
        url = f"http://{LOOPBACK}:{server.ports[0]}{PATH}"
        run_closed_loop(url, [request], counts[-1], 2.0)  # the Java side compiles what it runs often
        for count in tqdm([*counts] * _ROUNDS, desc="clients", unit=" runs", leave=False):
            before = Usage.from_session(server.leader).cpu_s
            load = run_closed_loop(url, [request], count, seconds / (_ROUNDS * len(counts)))
            if load.failures() or not load.good:
                raise SystemExit(f"error: {count} clients: found {dict(load.statuses)}, expected only answers of 200")
            rates[count].append(load.rate)
            waits[count] += [answer.seconds for answer in load.good]
            used[count].append((Usage.from_session(server.leader).cpu_s - before) / len(load.good))
    waiting = tuple(Timing.of(str(count), waits[count]) for count in counts)
    using = tuple(Timing.of(str(count), used[count]) for count in counts)
    # Timing.of takes seconds and gives thousands of what it is given: answers a second go in as a thousandth.
    answering = tuple(Timing.of(str(count), [rate / 1e3 for rate in rates[count]]) for count in counts)
    note = "In a closed loop: where all workers are busy, waiting grows linearly and answers a second stay."
    return [
        Growth("clients", tuple(counts), (Series("wait", waiting), Series("processor, each answer", using)), note=note),
        Growth("clients", tuple(counts), (Series("all", answering),), "answers a second"),
    ]


def draw(growths: Sequence[Growth], path: Path) -> None:
    """Write a picture of all tables, both axes logarithmic; its kind is told by the path's ending."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator

    from spoter.files import atomic_write

    columns = 2
    rows = -(-len(growths) // columns)
    figure, places = pyplot.subplots(rows, columns, figsize=(11, 4 * rows), squeeze=False, layout="constrained")
    for place in places.flat[len(growths) :]:
        place.remove()
    for growth, place in zip(growths, places.flat, strict=False):
        for series in growth.series:
            low, high = [timing.low for timing in series.timings], [timing.high for timing in series.timings]
            label = f"{series.name}, slope {slope(growth.sizes, series.medians()):.2f}"
            place.plot(growth.sizes, series.medians(), marker="o", label=label)
            place.fill_between(growth.sizes, low, high, alpha=0.2)
        place.set(xscale="log", yscale="log", xlabel=growth.axis, ylabel=growth.unit)
        place.set_xticks(growth.sizes, [str(size) for size in growth.sizes])
        place.minorticks_off()
        bottom, top = place.get_ylim()
        widen = max(1.0, (10 * bottom / top) ** 0.5)  # to a decade at least, so that what hardly grows looks so
        place.set_ylim(bottom / widen, top * widen)
        place.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        place.yaxis.set_major_formatter("{x:g}")
        place.grid(alpha=0.3)
        place.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".") or "png", dpi=110)
    pyplot.close(figure)


def main(
    model: Annotated[Path, typer.Option(help="Model folder whose sizes are taken.")] = ROOT / "models" / "dgs11",
    seconds: Annotated[float, typer.Option(min=0, help="How long to measure each table.")] = 30.0,
    with_server: Annotated[bool, typer.Option("--server/--no-server", help="Start TorchServe, too.")] = True,
    picture: Annotated[Path | None, typer.Option(help="Draw the tables: a .png or .svg file.")] = None,
) -> None:
    """Measure how costs grow, and print Markdown tables."""
    from spoter.errors import SpoterError

    if picture is not None and picture.suffix not in (".png", ".svg"):
        raise SystemExit(f"error: found --picture {picture}, expected a file ending in .png or .svg")
    one_thread()
    print(f"{machine()}, one thread; medians (first to last decile) of alternating rounds\n")
    try:
        recognizer = _load(model)
        sizes = recognizer.config.sizes(2 * len(recognizer.layout))
        growths = []
        with tempfile.TemporaryDirectory(prefix="spoter-growth-") as scratch:
            folder = Path(scratch)
            for measure, along in ((against_frames, FRAMES), (against_clips, CLIPS), (against_glosses, GLOSSES)):
                growths.append(measure(sizes, along, seconds, folder))
                print(table(growths[-1]))
        if with_server:
            growths += against_clients(model, CLIENTS, seconds)
            print("\n".join(table(growth) for growth in growths[-2:]))
    except SpoterError as error:
        raise SystemExit(f"error: {error}") from None
    if picture is not None:
        draw(growths, picture)


def _load(folder: Path) -> Recognizer:
    from spoter.serving.recognizer import Recognizer

    return Recognizer.load(folder)


def _asking(recognizer: Recognizer, body: bytes) -> Callable[[], object]:
    """Return what answers a request, and fails where the answer is an error: that would cost something else."""
    from spoter.messages import RawRequest
    from spoter.serving.service import respond

    def ask() -> None:
        (response,), _ = respond(recognizer, [RawRequest(body, "application/json")])
        if response.status != 200:
            raise SystemExit(f"error: found {response.status}, expected 200: {response.body[:300].decode()}")

    return ask


def _measure(
    axis: str, sizes: Sequence[int], things: dict[tuple[str, int], Callable[[], object]], seconds: float, note: str = ""
) -> Growth:
    """Time all things in turn; their keys are a series' name and a size."""
    timings = {key: timing for key, timing in zip(things, in_turn(things, seconds, axis), strict=True)}
    names = dict.fromkeys(name for name, _ in things)
    series = tuple(Series(name, tuple(timings[name, size] for size in sizes)) for name in names)
    return Growth(axis, tuple(sizes), series, note=note)


if __name__ == "__main__":
    end_on_signals()
    typer.run(main)
