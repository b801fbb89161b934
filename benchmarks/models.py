"""Model folders with random weights: the cost of a model depends on its sizes, not on its weights."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from spoter.errors import SpoterError
from spoter.fewshot.prototypes import Prototypes, embedding_size, to_unit_vectors
from spoter.files import atomic_write_bytes, file_sha256
from spoter.messages import RawRequest
from spoter.model.config import ModelConfig, Sizes
from spoter.model.folder import GRAPH, RUNTIME_FILES, WEIGHTS, load_model_folder, write_model_folder
from spoter.model.network import Spoter
from spoter.runtime.onnx_export import export_graph
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond
from spoter.training.evaluation.quantize import quantize

# The model of the Peruvian system: 6 encoder and 6 decoder layers, 9 heads, feed-forward sizes 2048 and 256.
ORIGINAL = Sizes(
    width=108, heads=9, encoder_layers=6, decoder_layers=6, encoder_feedforward=2048, decoder_feedforward=256,
    position_rows=1024, classes=50,
)  # fmt: skip


def write_random_model(
    folder: Path, sizes: Sizes = ORIGINAL, *, classes: int | None = None, prototypes: bool = False, **limits: int
) -> Path:
    """Write a model folder with layout 54 and random weights, and return its path; `limits` go into its config."""
    sizes = replace(sizes, classes=classes or sizes.classes)
    torch.manual_seed(0)
    fields = sizes.config_fields() | limits
    config = ModelConfig(name=folder.name, layout="54", known_threshold=0.5 if prototypes else None, **fields)
    glosses = [f"GLOSS-{index}" for index in range(sizes.classes)]
    vectors = _random_prototypes(sizes) if prototypes else None
    weights = Spoter(sizes).state_dict()
    write_model_folder(folder, weights, config, glosses, "Random weights for benchmarks.\n", prototypes=vectors)
    return folder


def _random_prototypes(sizes: Sizes) -> Prototypes:
    size = embedding_size(sizes.width)
    trained = to_unit_vectors(np.random.default_rng(0).normal(size=(sizes.classes, size))).astype(np.float32)
    centre, whitening = np.zeros(size, dtype=np.float32), np.eye(size, dtype=np.float32)
    return Prototypes(centre=centre, whitening=whitening, trained=trained, scale=10.0, typical=0.7)


def copy_with_graph(source: Path, runtime: str, folder: Path) -> Path:
    """Copy a model folder into `folder` and add a missing graph for the runtime (torch needs none); return the copy."""
    copy = shutil.copytree(source, folder / source.resolve().name, dirs_exist_ok=True)
    if runtime == "torch" or (copy / RUNTIME_FILES[runtime]).exists():
        return copy
    model = load_model_folder(copy)
    graph = export_graph(model, file_sha256(copy / WEIGHTS))
    atomic_write_bytes(copy / GRAPH, graph)
    if runtime == "onnx-int8":  # calibrated on noise: as fast as a graph of `spoter export`, but less accurate
        rng = np.random.default_rng(0)
        noise = [rng.normal(0, 0.3, size=(60, 2 * len(model.layout))).astype(np.float32) for _ in range(20)]
        atomic_write_bytes(copy / RUNTIME_FILES[runtime], quantize(graph, noise))
    return copy


def bind_request(recognizer: Recognizer, body: bytes) -> Callable[[], None]:
    """Return a function that answers a JSON request in this process and raises `SpoterError` unless it succeeds."""
    requests = [RawRequest(body, "application/json")]

    def answer() -> None:
        (response,), _ = respond(recognizer, requests)
        if response.status != 200:
            raise SpoterError(f"found status {response.status}, expected 200: {response.body[:300].decode()}")

    return answer
