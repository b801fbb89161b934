"""Writes a model as an ONNX graph for servers without torch, and compares its results with torch."""

import numpy as np

from spoter.errors import ModelFolderError
from spoter.fewshot.prototypes import softmax
from spoter.model.folder import GRAPH, TorchModelFolder
from spoter.model.torch_dependency import require_torch
from spoter.runtime.onnx_runtime import WEIGHTS_SHA256, OnnxRuntime

# Numbers of frames to compare: one, fewer than the parts of an embedding, usual numbers, and the most.
_LENGTHS = (1, 2, 3, 5, 60, 200, 512)
TOLERANCE = 1e-4
"""The most by which a probability, or a number of an embedding, may differ from torch's."""


def export_graph(folder: TorchModelFolder, weights_sha256: str) -> bytes:
    """Return the content of model.onnx for a model folder.

    The inputs are ``frames`` (B, T, 2K) float32, clips padded at the end with any finite values, T from 1 to the
    model's max_frames, and ``lengths`` (B,) int64. The outputs are ``logits`` (B, classes) and ``embeddings`` (B, E).
    The same model gives the same bytes.

    `weights_sha256`, the digest of model.pth (`spoter.files.file_sha256`), goes into the graph's metadata. Raises
    `ModelFolderError` if the outputs of ONNX Runtime and torch for random clips differ by more than `TOLERANCE`, or if
    required packages are not installed.
    """
    require_torch("writing graphs", "onnx", "onnxruntime")
    from spoter.runtime.onnx_graph import build_graph

    model = build_graph(folder.model)
    model.metadata_props.add(key=WEIGHTS_SHA256, value=weights_sha256)
    graph: bytes = model.SerializeToString(deterministic=True)
    compare_with_torch(folder, graph)
    return graph


def compare_with_torch(folder: TorchModelFolder, graph: bytes) -> None:
    """Raise `ModelFolderError` if the outputs of a graph differ from those of the folder's weights in torch."""
    from spoter.runtime.torch_runtime import TorchRuntime

    config, width = folder.config, folder.width
    runtimes = (TorchRuntime(folder.model), OnnxRuntime(graph, GRAPH, width, config.classes))
    rng = np.random.default_rng(0)
    lengths = sorted({min(length, config.max_frames) for length in (*_LENGTHS, config.max_frames)})
    uneven = sorted({max(1, config.max_frames * share // 60) for share in range(49, 61, 3)})  # one padded batch
    for batch in (*([length] for length in lengths), uneven):
        clips = [rng.uniform(-1, 1, (length, width)).astype(np.float32) for length in batch]
        (logits, embeddings), (graph_logits, graph_embeddings) = (
            runtime.run(clips, with_embeddings=True) for runtime in runtimes
        )
        probabilities, graph_probabilities = (softmax(each / config.temperature) for each in (logits, graph_logits))
        for name, expected, actual in (
            ("a probability", probabilities, graph_probabilities),
            ("a number of the embedding", embeddings, graph_embeddings),
        ):
            difference = float(np.abs(expected - actual).max())
            if not difference <= TOLERANCE:  # True for NaN
                frames = ", ".join(map(str, batch))
                raise ModelFolderError(
                    f"{config.name}: {name} of a clip of {frames} frames differs by {difference:.1e} between torch and "
                    f"ONNX Runtime, expected at most {TOLERANCE:g}: try another version of torch or onnxruntime"
                )
