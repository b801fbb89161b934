"""Model folders with random weights: what a model costs is decided by its sizes, not by what it learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from spoter.fewshot.prototypes import PARTS, Prototypes, unit
from spoter.files import atomic_write_bytes
from spoter.model.config import ModelConfig, Sizes
from spoter.model.folder import write_model_folder
from spoter.model.network import Spoter

# The variant that the Peruvian system ran: 6 + 6 layers, 9 heads, feed-forward 2048 and 256.
ORIGINAL = Sizes(
    width=108, heads=9, encoder_layers=6, decoder_layers=6, encoder_feedforward=2048, decoder_feedforward=256,
    position_rows=1024, classes=50,
)  # fmt: skip


def write_random(
    folder: Path, sizes: Sizes = ORIGINAL, *, classes: int | None = None, prototypes: bool = False, **limits: int
) -> Path:
    """Write a model folder of layout 54 with random weights.

    Parameters
    ----------
    folder : Path
    sizes : Sizes
    classes : int, optional
        In place of the sizes' own.
    prototypes : bool
        Whether it has random prototypes, too.
    **limits
        `spoter.model.config.ModelConfig`'s: ``max_frames``, ``max_clips``, ``max_bytes``.
    """
    sizes = replace(sizes, classes=classes or sizes.classes)
    torch.manual_seed(0)
    model = Spoter(sizes)
    config = ModelConfig(
        name=folder.name,
        layout="54",
        known_threshold=0.5 if prototypes else None,
        **sizes.without_width(),
        **limits,
    )
    glosses = [f"GLOSS-{index}" for index in range(sizes.classes)]
    space = _random_prototypes(sizes) if prototypes else None
    write_model_folder(
        folder, model.state_dict(), config, glosses, "Random weights, for measuring.\n", prototypes=space
    )
    return folder


def _random_prototypes(sizes: Sizes) -> Prototypes:
    rng = np.random.default_rng(0)
    size = (PARTS + 1) * sizes.width
    trained = unit(rng.normal(size=(sizes.classes, size))).astype(np.float32)
    return Prototypes(
        centre=np.zeros(size, dtype=np.float32),
        whitening=np.eye(size, dtype=np.float32),
        trained=trained,
        scale=10.0,
        typical=0.7,
    )


def add_graph(folder: Path, runtime: str) -> None:
    """Write the graph of a runtime into a model folder where it is not there; torch needs none.

    In 8 bits it is calibrated on noise: it costs what one calibrated by `spoter export` costs, and answers worse.
    """
    from spoter.model.folder import WEIGHTS, digest, load_model_folder
    from spoter.runtime.onnx_export import export
    from spoter.runtime.onnx_runtime import GRAPH, GRAPHS

    if runtime == "torch" or (folder / GRAPHS[runtime]).exists():
        return
    model = load_model_folder(folder)
    graph = export(model, digest(folder / WEIGHTS))
    atomic_write_bytes(folder / GRAPH, graph)
    if runtime == "onnx-int8":
        from spoter.training.evaluation.quantize import quantize

        rng = np.random.default_rng(0)
        noise = [rng.normal(0, 0.3, size=(60, 2 * len(model.layout))).astype(np.float32) for _ in range(20)]
        atomic_write_bytes(folder / GRAPHS[runtime], quantize(graph, noise))
