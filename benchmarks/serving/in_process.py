"""The steps of a request, in this process, on one core; and whole requests beside the original system's.

`python -m benchmarks.serving.in_process` prints both; `--profile` what our own requests spend their time in.
"""

from __future__ import annotations

import cProfile
import gc
import json
import os
import pstats
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks import ROOT
from benchmarks.baseline import pipeline
from benchmarks.baseline.layers import peruvian
from benchmarks.load.bodies import FRAMES, compact_request, full_request
from benchmarks.random_models import ORIGINAL, add_graph, write_random
from benchmarks.timing import Timing, in_turn, one_thread, table
from spoter.errors import SpoterError
from spoter.formats import Limits, decode
from spoter.landmarks.normalize import normalize
from spoter.messages import RawRequest
from spoter.model.config import RUNTIMES, choose_runtime, read_config
from spoter.model.network import Spoter
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond

JSON_LOADS = "json.loads of the full request"
WHOLE, UNLOGGED = "original: whole request", "original: whole request, nothing logged"
BARS = {"full": 12, "compact": 20}
"""So many times faster than the original's whole request ours are to be."""
_PROFILED = 200  # requests
_TOP = 10


def things(recognizer: Recognizer, runtime: str) -> dict[str, Callable[[], object]]:
    """Return what is timed of our steps, by name; `JSON_LOADS` is the unit that ratios refer to."""
    full, small = full_request(), compact_request(recognizer.layout)
    limits, layout = Limits(), recognizer.layout
    (clip,) = decode(full, "application/json", layout, limits).clips
    points = layout.select(clip)

    def decode_and_normalize(body: bytes) -> object:
        (clip,) = decode(body, "application/json", layout, limits).clips
        return recognizer.features(clip)

    def forward(model: Spoter) -> Callable[[], object]:
        frames = torch.rand(1, FRAMES, model.sizes.width)

        def run() -> object:
            with torch.inference_mode():
                return model(frames)

        return run

    features = recognizer.features(clip)
    return {
        JSON_LOADS: lambda: json.loads(full),
        f"decode, full request ({len(full) / 1e6:.1f} MB)": lambda: decode(full, "application/json", layout, limits),
        f"decode, compact request ({len(small) / 1e3:.0f} kB)": lambda: decode(
            small, "application/json", layout, limits
        ),
        "select and normalise": lambda: normalize(layout.select(clip), layout, recognizer.config.normalize),
        "normalise": lambda: normalize(points, layout, recognizer.config.normalize),
        "decode and normalise, full request": lambda: decode_and_normalize(full),
        "decode and normalise, compact request": lambda: decode_and_normalize(small),
        f"forward, {recognizer.config.name}, {runtime}": lambda: recognizer.forward([features], False),
        "forward of the training code, 6 + 6 layers, 9 heads, 2048 / 256": forward(Spoter(ORIGINAL).eval()),
        "whole request, full": _answering(recognizer, full),
        "whole request, compact": _answering(recognizer, small),
    }


def measure(model: Path, seconds: float, runtime: str | None = None) -> list[Timing]:
    """Time every step of a 60-frame request, one thread, in the model's own runtime unless another is given."""
    runtime = choose_runtime(model, runtime)
    return in_turn(things(_loaded(model, runtime), runtime), seconds, "in process")


def _loaded(model: Path, runtime: str) -> Recognizer:
    """Load a model folder, with a graph made in a copy of it where it lacks the runtime's."""
    one_thread()
    with tempfile.TemporaryDirectory(prefix="spoter-inprocess-") as scratch:
        model = shutil.copytree(model, Path(scratch, "model"))
        add_graph(model, runtime)
        return Recognizer.load(model, runtime=runtime)


def compare(model: Path, runtimes: Sequence[str], seconds: float) -> tuple[list[Timing], list[Timing]]:
    """Time the original's steps, its whole request and ours, in turn, one thread.

    Ours are answered by `model` and by the variant that the original ran, with random weights: 6 + 6 layers, 9 heads,
    feed-forward 2048 and 256. The original takes nothing but the full form, so our compact requests stand beside that.

    Parameters
    ----------
    model : Path
        Model folder.
    runtimes : sequence of str
        Of `spoter.model.config.RUNTIMES`. Graphs that `model` lacks are made in a copy of it.
    seconds : float

    Returns
    -------
    list of Timing, list of Timing
        The original's steps, json.loads first; whole requests, the original's first.
    """
    one_thread()
    full = full_request()
    with tempfile.TemporaryDirectory(prefix="spoter-inprocess-") as scratch:
        variant = write_random(Path(scratch, "6 + 6 layers"))
        model = shutil.copytree(model, Path(scratch, "model"))
        ours: dict[str, Callable[[], object]] = {}
        for runtime in runtimes:
            for folder in (variant, model):
                add_graph(folder, runtime)
                recognizer = Recognizer.load(folder, runtime=runtime)
                small = compact_request(recognizer.layout)
                for form, body in (("full", full), ("compact", small)):
                    ours[f"ours: {form}, {recognizer.config.name}, {runtime}"] = _answering(recognizer, body)
        log = Path(scratch, "original.log")
        with _original(full, log) as (steps, whole), _frozen():
            timings = in_turn(steps | whole | ours, seconds, "whole requests", after=lambda: os.truncate(log, 0))
    return timings[: len(steps)], timings[len(steps) :]


@contextmanager
def _original(
    full: bytes, path: Path
) -> Iterator[tuple[dict[str, Callable[[], object]], dict[str, Callable[[], object]]]]:
    """Yield the original's steps, and its whole request with and without what it logs to `path`."""
    logger, silent, model = pipeline.logger_to(path), pipeline.logger_to(path), peruvian()
    silent.disabled = True
    meaning = {str(index): f"GLOSS-{index}" for index in range(ORIGINAL.classes)}
    content = pipeline.parse(full)
    frames = pipeline.landmarks(content)
    tracks = pipeline.select(frames)
    features = pipeline.normalize(tracks)
    tensor = pipeline.tensor(features)
    best = pipeline.predict(model, tensor)
    steps = {
        "json.loads": lambda: pipeline.parse(full),
        "landmarks, point by point": lambda: pipeline.landmarks(content),
        "log": lambda: pipeline.log(logger, frames),
        "select": lambda: pipeline.select(frames),
        "normalise": lambda: pipeline.normalize(tracks),
        "tensor": lambda: pipeline.tensor(features),
        "forward, softmax, best five": lambda: pipeline.predict(model, tensor),
        "answer": lambda: pipeline.answer(best, meaning),
    }
    logging, unlogged = (pipeline.Original(model, meaning, one) for one in (logger, silent))
    try:
        yield steps, {WHOLE: lambda: logging(full), UNLOGGED: lambda: unlogged(full)}
    finally:
        for one in (logger, silent):
            pipeline.close(one)


@contextmanager
def _frozen() -> Iterator[None]:
    """Keep the garbage collector from what is there already: looking through it would be counted as somebody's cost."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def compared(rows: list[Timing]) -> str:
    """Return a Markdown table of whole requests, with how many times faster than the original's each is."""
    whole, unlogged = (next(row for row in rows if row.name == name) for name in (WHOLE, UNLOGGED))
    lines = [
        f"### Whole requests of {FRAMES} frames, in process",
        "",
        "| | median ms | 10-90 % | times faster than the original | than it without its log | to reach |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        bar = next((f"{times}" for form, times in BARS.items() if row.name.startswith(f"ours: {form}")), "")
        lines.append(
            f"| {row.name} | {row.median:.2f} | {row.low:.2f} - {row.high:.2f} | {whole.median / row.median:.1f} "
            f"| {unlogged.median / row.median:.1f} | {bar} |"
        )
    return "\n".join(lines) + "\n"


def steps_table(steps: list[Timing]) -> str:
    """Return a Markdown table of the original's steps, and what was measured of the original itself."""
    told = ", ".join(f"{name} {share:.2f}" for name, share in pipeline.MEASURED.items())
    return (
        table(f"The original's steps for {FRAMES} frames, re-created", steps, steps[0], steps[0].name)
        + f"\nOf the original itself, on another machine, in units of its json.loads: {told}.\n"
    )


def profile(model: Path, runtime: str) -> str:
    """Return Markdown tables of the functions in which our own requests spend most time by themselves."""
    recognizer, parts = _loaded(model, runtime), []
    for form, body in (("full", full_request()), ("compact", compact_request(recognizer.layout))):
        answer = _answering(recognizer, body)
        answer()
        with cProfile.Profile() as profiler:
            for _ in range(_PROFILED):
                answer()
        stats = pstats.Stats(profiler)
        parts += [
            f"### A {form} request to {recognizer.config.name}, {runtime}: where its time goes (profiling slows calls)",
            "",
            "| own time | ms a request | calls a request | |",
            "|---:|---:|---:|---|",
        ]
        found = sorted(stats.stats.items(), key=lambda item: item[1][2], reverse=True)
        for (file, line, name), (_, calls, own, _, _) in found[:_TOP]:
            where = name if file == "~" else f"{Path(file).name}:{line} {name}"
            share, each = own / stats.total_tt, own / _PROFILED
            parts.append(f"| {100 * share:.1f} % | {1e3 * each:.3f} | {calls / _PROFILED:.1f} | {where} |")
        parts.append("")
    return "\n".join(parts)


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = ROOT / "models" / "dgs11",
    seconds: Annotated[float, typer.Option(min=0, help="How long to measure each table.")] = 30.0,
    runtimes: Annotated[
        str | None,
        typer.Option(
            help=f"Some of {', '.join(RUNTIMES)}, comma-separated; steps in the first [default: the model's own]."
        ),
    ] = None,
    profiled: Annotated[bool, typer.Option("--profile", help="Only tell what our own requests spend time in.")] = False,
) -> None:
    """Measure a 60-frame request in this process: our steps, the original's, and whole requests of both."""
    try:
        chosen = [name.strip() for name in (runtimes or read_config(model).runtime).split(",") if name.strip()]
        if not chosen or not set(chosen) <= set(RUNTIMES):
            raise SpoterError(f"found --runtimes {runtimes}, expected some of {', '.join(RUNTIMES)}")
        if profiled:
            print("\n".join(profile(model, runtime) for runtime in chosen))
            return
        steps = measure(model, seconds, chosen[0])
        print(table(f"Our steps of a {FRAMES}-frame request", steps, steps[0], JSON_LOADS))
        theirs, whole = compare(model, chosen, seconds)
        print(steps_table(theirs))
        print(compared(whole))
    except SpoterError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


def _answering(recognizer: Recognizer, body: bytes) -> Callable[[], object]:
    """Return what answers a request, as every door does."""
    return lambda: respond(recognizer, [RawRequest(body, "application/json")])


if __name__ == "__main__":
    typer.run(main)
