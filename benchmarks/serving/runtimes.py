"""The forward pass in each runtime, compared with the original layers and with only the matrix products.

`python -m benchmarks.serving.runtimes` prints a table per model and batch size. The original layers are torch's, with
frames first and batches of one clip (`benchmarks.baseline.layers`). Random weights do not change the speed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks import MODEL
from benchmarks.baseline.layers import SPOTER
from benchmarks.command import run_command
from benchmarks.load.bodies import FRAMES
from benchmarks.models import ORIGINAL
from benchmarks.timing import Timing, measure_seconds, timings_table, use_one_thread
from spoter.model.config import Sizes, read_config
from spoter.model.network import Spoter
from spoter.runtime.onnx_graph import build_graph
from spoter.runtime.onnx_runtime import OnnxRuntime
from spoter.runtime.torch_runtime import TorchRuntime
from spoter.training.evaluation.quantize import quantize

LAYERS = "original layers"
FLOOR = "only the matrix products, torch.mm"
# Repeat each forward pass without a pause: a worker's model stays in the processor's caches, which are shared here.
IN_A_ROW = 5


def make_products(sizes: Sizes, clips: int) -> Callable[[], None]:
    """Return a function that computes only the matrix products of a fast forward pass of clips of `FRAMES` frames."""
    width, heads, frames = sizes.width, sizes.heads, clips * FRAMES
    head = width // heads
    encoder = [(frames, width, 3 * width), (frames, width, width)]
    encoder += [(frames, width, sizes.encoder_feedforward), (frames, sizes.encoder_feedforward, width)]
    decoder = [(clips, width, width)] * 2
    decoder += [(clips, width, sizes.decoder_feedforward), (clips, sizes.decoder_feedforward, width)]
    decoder += [(heads, width, FRAMES), (heads, FRAMES, width)] * clips
    by_head = [(heads, FRAMES, head, FRAMES), (heads, FRAMES, FRAMES, head)] * (sizes.encoder_layers * clips)
    by_head += [(heads, clips, head, width), (heads, clips, width, head)] * sizes.decoder_layers
    steps = []
    for rows, inner, outer in encoder * sizes.encoder_layers + decoder * sizes.decoder_layers:
        x, weight, out = torch.rand(rows, inner), torch.rand(outer, inner), torch.empty(rows, outer)
        steps.append(partial(torch.mm, x, weight.t(), out=out))
    for batch, rows, inner, outer in by_head:
        x, y, out = torch.rand(batch, rows, inner), torch.rand(batch, inner, outer), torch.empty(batch, rows, outer)
        steps.append(partial(torch.bmm, x, y, out=out))

    def run() -> None:
        for step in steps:
            step()

    return run


def make_forwards(sizes: Sizes, clips: int) -> dict[str, Callable[[], object]]:
    """Return the functions to time, by name."""
    torch.manual_seed(0)
    model = Spoter(sizes).eval()
    feedforward = (sizes.encoder_feedforward, sizes.decoder_feedforward)
    layers = (sizes.encoder_layers, sizes.decoder_layers)
    original = SPOTER(sizes.classes, sizes.width, sizes.heads, layers, feedforward, sizes.position_rows).eval()
    rng = np.random.default_rng(0)
    features = [rng.uniform(-1, 1, (FRAMES, sizes.width)).astype(np.float32) for _ in range(max(clips, 8))]
    graph = build_graph(model).SerializeToString()
    onnx, int8 = (OnnxRuntime(each, "graph", sizes.width, sizes.classes) for each in (graph, quantize(graph, features)))
    fused, features = TorchRuntime(model), features[:clips]
    tensors = [torch.from_numpy(clip) for clip in features]
    stacked = torch.stack(tensors)
    return {
        LAYERS: lambda: [original(clip) for clip in tensors],
        "Spoter, layer by layer": lambda: model(stacked),
        "torch": lambda: fused.run(features, False),
        "torch, with embeddings": lambda: fused.run(features, True),
        "onnx": lambda: onnx.run(features, False),
        "onnx, with embeddings": lambda: onnx.run(features, True),
        "onnx-int8": lambda: int8.run(features, False),
        FLOOR: make_products(sizes, clips),
    }


def forwards_table(title: str, timings: Sequence[Timing]) -> str:
    """Return a Markdown table with ratios to the original layers and to the matrix products."""
    median = {row.name: row.median for row in timings}
    ratios: dict[str, Callable[[Timing], object]] = {
        "times as fast as the original layers": lambda row: f"{median[LAYERS] / row.median:.2f}",
        "time relative to the matrix products": lambda row: f"{row.median / median[FLOOR]:.2f}",
    }
    return timings_table(title, timings, ratios)


def time_forwards(sizes: Sizes, clips: int, seconds: float, label: str) -> list[Timing]:
    """Time the forward passes on one thread, `IN_A_ROW` calls of each in turn."""

    def repeat(run: Callable[[], object]) -> None:
        for _ in range(IN_A_ROW):
            run()

    use_one_thread()
    with torch.inference_mode():
        functions = {name: partial(repeat, run) for name, run in make_forwards(sizes, clips).items()}
        measured = measure_seconds(functions, seconds, label)
    return [Timing.from_seconds(name, np.array(values) / IN_A_ROW) for name, values in measured.items()]


def main(
    seconds: Annotated[float, typer.Option(min=0, help="How long to measure each table (at least ten rounds).")] = 20.0,
    clips: Annotated[list[int] | None, typer.Option(min=1, help="Clips per batch [default: 1, 4, 16].")] = None,
) -> None:
    """Compare the runtimes on one core with clips of 60 frames."""
    shapes = {
        "6 + 6 layers, 9 heads, 2048 / 256": ORIGINAL,
        "dgs11: 3 + 2 layers, 9 heads, 256 / 256": read_config(MODEL).sizes(ORIGINAL.width),
    }
    for title, sizes in shapes.items():
        for count in clips or (1, 4, 16):
            timings = time_forwards(sizes, count, seconds, f"{sizes.classes} glosses x {count}")
            print(forwards_table(f"{title}; batches of {count} clips of {FRAMES} frames", timings))


if __name__ == "__main__":
    run_command(main)
