"""`python -m benchmarks.serving.runtimes`: one forward in each runtime, against the original layers and the matrix products alone.

The original layers are torch's own, frames first and one clip at a time (`benchmarks.baseline.layers`).
Random weights: speed does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks.baseline.layers import SPOTER
from benchmarks.load.bodies import FRAMES
from benchmarks.random_models import ORIGINAL
from benchmarks.timing import Timing, in_turn, one_thread
from spoter.model.config import Sizes
from spoter.model.network import Spoter
from spoter.runtime import torch_fused
from spoter.runtime.onnx_graph import build_graph
from spoter.runtime.onnx_runtime import OnnxRuntime
from spoter.runtime.torch_runtime import TorchRuntime
from spoter.training.evaluation.quantize import quantize

DGS11 = Sizes(
    width=108, heads=9, encoder_layers=3, decoder_layers=2, encoder_feedforward=256, decoder_feedforward=256,
    position_rows=512, classes=11,
)  # fmt: skip
SHAPES = {"6 + 6 layers, 9 heads, 2048 / 256": ORIGINAL, "dgs11: 3 + 2 layers, 9 heads, 256 / 256": DGS11}
LAYERS = "original layers"
FLOOR = "matrix products alone, torch.mm"
# Forwards in a row: a worker has the processor's caches for its own model, of which the others here take their share.
IN_A_ROW = 5


def products(sizes: Sizes, clips: int, packed: bool) -> Callable[[], None]:
    """Return what runs all matrix products of a fast forward and nothing else, into tensors that are there already.

    Parameters
    ----------
    sizes : Sizes
    clips : int
        Of `FRAMES` frames each.
    packed : bool
        By oneDNN where `spoter.runtime.torch_fused` uses it, which cannot fill a tensor that is there; by torch.mm otherwise.
    """
    width, heads, frames = sizes.width, sizes.heads, clips * FRAMES
    head = width // heads
    of_encoder = [(frames, width, 3 * width), (frames, width, width)]
    of_encoder += [(frames, width, sizes.encoder_feedforward), (frames, sizes.encoder_feedforward, width)]
    of_decoder = [(clips, width, width)] * 2
    of_decoder += [(clips, width, sizes.decoder_feedforward), (clips, sizes.decoder_feedforward, width)]
    of_decoder += [(heads, width, FRAMES), (heads, FRAMES, width)] * clips
    steps: list[Callable[[], object]] = []
    for rows, inner, outer in of_encoder * sizes.encoder_layers + of_decoder * sizes.decoder_layers:
        x, weight, out = torch.rand(rows, inner), torch.rand(outer, inner), torch.empty(rows, outer)
        linear = torch_fused._Linear(weight)
        if packed and linear._pays(x):
            ops = torch_fused._ops()
            steps.append(lambda x=x, linear=linear, ops=ops: ops.linear(x, linear._packed, None, "none", [], ""))
        else:
            steps.append(lambda x=x, weight=weight, out=out: torch.mm(x, weight.t(), out=out))
    by_head = [(heads, FRAMES, head, FRAMES), (heads, FRAMES, FRAMES, head)] * (sizes.encoder_layers * clips)
    by_head += [(heads, clips, head, width), (heads, clips, width, head)] * sizes.decoder_layers
    for batch, rows, inner, outer in by_head:
        x, y, out = torch.rand(batch, rows, inner), torch.rand(batch, inner, outer), torch.empty(batch, rows, outer)
        steps.append(lambda x=x, y=y, out=out: torch.bmm(x, y, out=out))

    def run() -> None:
        for step in steps:
            step()

    return run


def things(sizes: Sizes, clips: int) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name."""
    torch.manual_seed(0)
    model = Spoter(sizes).eval()
    feedforward = (sizes.encoder_feedforward, sizes.decoder_feedforward)
    layers = (sizes.encoder_layers, sizes.decoder_layers)
    original = SPOTER(sizes.classes, sizes.width, sizes.heads, layers, feedforward, sizes.position_rows).eval()
    rng = np.random.default_rng(0)
    features = [rng.uniform(-1, 1, (FRAMES, sizes.width)).astype(np.float32) for _ in range(max(clips, 8))]
    graph = build_graph(model).SerializeToString()
    onnx, int8 = (OnnxRuntime(each, "graph", sizes.width, sizes.classes) for each in (graph, quantize(graph, features)))
    fast, features = TorchRuntime(model), features[:clips]
    tensors = [torch.from_numpy(clip) for clip in features]
    stacked = torch.stack(tensors)
    return {
        LAYERS: lambda: [original(clip) for clip in tensors],
        "Spoter, layer by layer": lambda: model(stacked),
        "torch": lambda: fast(features, False),
        "torch, with embeddings": lambda: fast(features, True),
        "onnx": lambda: onnx(features, False),
        "onnx, with embeddings": lambda: onnx(features, True),
        "onnx-int8": lambda: int8(features, False),
        FLOOR: products(sizes, clips, packed=False),
        "matrix products alone, as runtime torch has them": products(sizes, clips, packed=True),
    }


def table(title: str, timings: list[Timing]) -> str:
    """Return a Markdown table with each row's speed against the original layers and against the products alone."""
    median = {row.name: row.median for row in timings}
    lines = [f"### {title}", "", "| | ms | 10-90 % | times faster than the original layers | over the products |"]
    lines.append("|---|---:|---:|---:|---:|")
    lines += [
        f"| {row.name} | {row.median / IN_A_ROW:.2f} | {row.low / IN_A_ROW:.2f} - {row.high / IN_A_ROW:.2f} | "
        f"{median[LAYERS] / row.median:.2f} | {row.median / median[FLOOR]:.2f} |"
        for row in timings
    ]
    return "\n".join(lines) + "\n"


def measure(sizes: Sizes, clips: int, seconds: float, label: str) -> list[Timing]:
    """Time `IN_A_ROW` forwards of each thing in turn, on one thread."""

    def repeated(run: Callable[[], object]) -> Callable[[], object]:
        return lambda: [run() for _ in range(IN_A_ROW)]

    one_thread()
    with torch.inference_mode():
        return in_turn({name: repeated(run) for name, run in things(sizes, clips).items()}, seconds, label)


def main(
    seconds: Annotated[float, typer.Option(min=0, help="For each table; at least ten rounds are made.")] = 20.0,
    clips: Annotated[list[int] | None, typer.Option(min=1, help="Clips in a forward [default: 1, 4, 16].")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write the tables to as well.")] = None,
) -> None:
    """Compare the runtimes on one core, clips of 60 frames."""
    tables = []
    for title, sizes in SHAPES.items():
        for count in clips or (1, 4, 16):
            title_of = f"{title}; clips of {FRAMES} frames at once: {count}"
            tables.append(table(title_of, measure(sizes, count, seconds, f"{sizes.classes} glosses x {count}")))
            typer.echo(tables[-1])
    if out is not None:
        out.write_text("\n".join(tables))


if __name__ == "__main__":
    typer.run(main)
