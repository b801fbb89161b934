"""Steps of a request in this process, on one core; and complete requests compared with the original system."""

import cProfile
import json
import os
import pstats
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from benchmarks.baseline import pipeline
from benchmarks.baseline.layers import peruvian
from benchmarks.load.bodies import FRAMES, compact_request, full_request
from benchmarks.models import ORIGINAL, bind_request, copy_with_graph, write_random_model
from benchmarks.tables import markdown_table
from benchmarks.timing import Timing, frozen_heap, ratio_table, time_functions, timings_table, use_one_thread
from spoter.formats import Limits, decode
from spoter.landmarks.normalize import normalize
from spoter.model.network import Spoter
from spoter.serving.recognizer import Recognizer

JSON_LOADS = "json.loads of the full request"
COMPLETE, UNLOGGED = "original: complete request", "original: complete request, without logging"
TARGETS = {"full": 12, "compact": 20}  # required speed of our requests, as a multiple of the original's
_PROFILED = 200  # requests
_TOP = 10

Functions = dict[str, Callable[[], object]]


@contextmanager
def load_copies(model: Path, runtimes: Sequence[str]) -> Iterator[list[Recognizer]]:
    """Load copies of a model folder, one for each runtime, and add missing graphs to the copies."""
    use_one_thread()
    with tempfile.TemporaryDirectory(prefix="spoter-inprocess-") as scratch:
        copies = [(copy_with_graph(model, runtime, Path(scratch)), runtime) for runtime in runtimes]
        yield [Recognizer.load(copy, runtime=runtime) for copy, runtime in copies]


def make_steps(recognizer: Recognizer, runtime: str) -> Functions:
    """Return our steps by name; ratios refer to `JSON_LOADS`."""
    full, compact = full_request(), compact_request(recognizer.layout)
    layout, scheme = recognizer.layout, recognizer.config.normalize

    def decode_clip(body: bytes) -> object:
        (clip,) = decode(body, "application/json", layout, Limits()).clips
        return clip

    @torch.inference_mode()
    def train_forward() -> object:
        return training_model(frames)

    clip = decode_clip(full)
    points, features = layout.select(clip), recognizer.compute_features(clip)
    training_model, frames = Spoter(ORIGINAL).eval(), torch.rand(1, FRAMES, ORIGINAL.width)
    return {
        JSON_LOADS: partial(json.loads, full),
        f"decode, full request ({len(full) / 1e6:.1f} MB)": partial(decode_clip, full),
        f"decode, compact request ({len(compact) / 1e3:.0f} kB)": partial(decode_clip, compact),
        "select and normalize": lambda: normalize(layout.select(clip), layout, scheme),
        "normalize": lambda: normalize(points, layout, scheme),
        "decode and normalize, full request": lambda: recognizer.compute_features(decode_clip(full)),
        "decode and normalize, compact request": lambda: recognizer.compute_features(decode_clip(compact)),
        f"forward pass, {recognizer.config.name}, {runtime}": lambda: recognizer.runtime.run([features], False),
        "forward pass of the training code, 6 + 6 layers, 9 heads, 2048 / 256": train_forward,
        "complete request, full": bind_request(recognizer, full),
        "complete request, compact": bind_request(recognizer, compact),
    }


def time_original(model: Path, runtimes: Sequence[str], seconds: float) -> tuple[list[Timing], list[Timing]]:
    """Time the original's steps, and complete requests: the original's, and ours to `model` and to a 6 + 6 variant."""
    full, ours = full_request(), {}
    with tempfile.TemporaryDirectory(prefix="spoter-inprocess-") as scratch:
        variant = write_random_model(Path(scratch, "6 + 6 layers"))  # 9 heads, feed-forward 2048 and 256
        for folder in (variant, model):
            with load_copies(folder, runtimes) as recognizers:
                for recognizer, runtime in zip(recognizers, runtimes, strict=True):
                    for form, body in (("full", full), ("compact", compact_request(recognizer.layout))):
                        name = f"ours: {form}, {recognizer.config.name}, {runtime}"
                        ours[name] = bind_request(recognizer, body)
        log = Path(scratch, "original.log")
        with _original(full, log) as (steps, complete), frozen_heap():
            timings = time_functions(steps | complete | ours, seconds, "requests", after=lambda: os.truncate(log, 0))
    return timings[: len(steps)], timings[len(steps) :]


@contextmanager
def _original(full: bytes, path: Path) -> Iterator[tuple[Functions, Functions]]:
    """Yield the original's steps, and its complete request with and without logging to `path`."""
    logger, silent, model = pipeline.open_logger(path), pipeline.open_logger(path), peruvian()
    silent.disabled = True
    meaning = {str(index): f"GLOSS-{index}" for index in range(ORIGINAL.classes)}
    content = json.loads(full)
    frames = pipeline.landmarks(content)
    tracks = pipeline.select(frames)
    features = pipeline.normalize(tracks)
    tensor = torch.from_numpy(features).float()
    best = pipeline.predict(model, tensor)
    steps = {
        "json.loads": partial(json.loads, full),
        "landmarks, point by point": partial(pipeline.landmarks, content),
        "log": partial(logger.warning, frames),
        "select": partial(pipeline.select, frames),
        "normalize": partial(pipeline.normalize, tracks),
        "tensor": lambda: torch.from_numpy(features).float(),
        "forward pass, softmax, best five": partial(pipeline.predict, model, tensor),
        "answer": partial(pipeline.answer, best, meaning),
    }
    logged, unlogged = (pipeline.Original(model, meaning, each) for each in (logger, silent))
    try:
        yield steps, {COMPLETE: partial(logged, full), UNLOGGED: partial(unlogged, full)}
    finally:
        for each in (logger, silent):
            each.handlers[0].close()


def requests_table(timings: Sequence[Timing]) -> str:
    """Return a Markdown table of complete requests, with their speed relative to the original."""
    median = {timing.name: timing.median for timing in timings}
    ratios: dict[str, Callable[[Timing], object]] = {
        "times as fast as the original": lambda row: f"{median[COMPLETE] / row.median:.1f}",
        "times as fast as the original without logging": lambda row: f"{median[UNLOGGED] / row.median:.1f}",
        "target": lambda row: next((n for form, n in TARGETS.items() if row.name.startswith(f"ours: {form}")), ""),
    }
    return timings_table(f"Complete requests of {FRAMES} frames, in process", timings, ratios)


def original_table(steps: Sequence[Timing]) -> str:
    """Return a Markdown table of the re-created steps, and the figures of the real original system."""
    shares = ", ".join(f"{name} {share:.2f}" for name, share in pipeline.MEASURED.items())
    table = ratio_table(f"The original's steps for {FRAMES} frames, re-created", steps, steps[0].name)
    return f"{table}\nThe real original on another machine, relative to its json.loads: {shares}.\n"


def report_requests(model: Path, runtimes: Sequence[str], seconds: float) -> str:
    """Time our steps in the first runtime, the original's steps, and complete requests; return Markdown tables."""
    with load_copies(model, runtimes[:1]) as (recognizer,):
        our_steps = time_functions(make_steps(recognizer, runtimes[0]), seconds, "in process")
    original_steps, complete = time_original(model, runtimes, seconds)
    our_table = ratio_table(f"Our steps for {FRAMES} frames", our_steps, JSON_LOADS)
    return "\n".join([our_table, original_table(original_steps), requests_table(complete)])


def profile(model: Path, runtime: str) -> str:
    """Return Markdown tables of the functions with the most time per request, without the functions they call."""
    with load_copies(model, [runtime]) as (recognizer,):
        bodies = {"full": full_request(), "compact": compact_request(recognizer.layout)}
        answers = {form: bind_request(recognizer, body) for form, body in bodies.items()}
    tables = []
    for form, answer in answers.items():
        answer()
        with cProfile.Profile() as profiler:
            for _ in range(_PROFILED):
                answer()
        stats = pstats.Stats(profiler)
        rows = []
        slowest = sorted(stats.stats.items(), key=lambda item: item[1][2], reverse=True)[:_TOP]
        for (file, line, name), (_, calls, own, _, _) in slowest:
            function = name if file == "~" else f"{Path(file).name}:{line} {name}"
            numbers = (f"{own / stats.total_tt:.1%}", f"{1e3 * own / _PROFILED:.3f}", f"{calls / _PROFILED:.1f}")
            rows.append((function, *numbers))
        title = f"Slowest functions of a {form} request to {model.name}, {runtime} (profiling slows calls)"
        tables.append(markdown_table(("function", "share of time", "ms per request", "calls per request"), rows, title))
    return "\n".join(tables)
