"""Writing a model as an ONNX graph that answers as torch does, for servers without torch."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

from spoter.errors import ModelFolderError, SpoterError
from spoter.fewshot.prototypes import softmax
from spoter.model.folder import ModelFolder
from spoter.runtime.onnx_graph import build_graph
from spoter.runtime.onnx_runtime import GRAPH, WEIGHTS_SHA256, OnnxRuntime
from spoter.runtime.torch_runtime import TorchRuntime

# Frames of the clips that both are asked about: one and fewer than an embedding has parts, usual ones, and the most.
_LENGTHS = (1, 2, 3, 5, 60, 200, 512)
TOLERANCE = 1e-4
"""By how much a probability, or a number of an embedding, may differ from torch's."""


def export_graph(folder: ModelFolder, weights: str) -> bytes:
    """Return the model.onnx of a model folder that was read with its weights.

    The graph takes ``frames`` (B, T, 2K) float32, clips padded at their end with any finite values, T from 1 to the
    model's max_frames, and ``lengths`` (B,) int64; it gives ``logits`` (B, classes) and ``embeddings`` (B, E). The same
    model gives the same bytes.

    Parameters
    ----------
    folder : ModelFolder
    weights : str
        SHA-256 of its model.pth (`spoter.model.folder.file_sha256`), which the graph notes.

    Raises
    ------
    ModelFolderError
        Where ONNX Runtime's answers to made-up clips differ from torch's by more than `TOLERANCE`.
    SpoterError
        Where packages that this needs are not installed.
    """
    require_packages("onnx", "onnxruntime")
    model = build_graph(folder.model)
    model.metadata_props.add(key=WEIGHTS_SHA256, value=weights)
    graph = model.SerializeToString(deterministic=True)
    compare_with_torch(folder, graph)
    return graph


def require_packages(*packages: str) -> None:
    """Raise `SpoterError` where packages that make graphs are not installed."""
    absent = [name for name in packages if find_spec(name) is None]
    if absent:
        raise SpoterError(f"writing graphs needs {', '.join(absent)}: pip install 'spoter[serve]'")


def compare_with_torch(folder: ModelFolder, graph: bytes) -> None:
    """Raise `ModelFolderError` where a graph answers otherwise than the folder's weights."""
    ours = TorchRuntime(folder.model)
    theirs = OnnxRuntime(graph, GRAPH, 2 * len(folder.layout), folder.config.classes)
    longest = folder.config.max_frames
    rng = np.random.default_rng(0)
    lengths = sorted({min(length, longest) for length in (*_LENGTHS, longest)})
    uneven = sorted({max(1, longest * share // 60) for share in range(49, 61, 3)})  # padded into one batch
    for together in (*([length] for length in lengths), uneven):
        clips = [rng.uniform(-1, 1, (length, 2 * len(folder.layout))).astype(np.float32) for length in together]
        (logits, embeddings), (their_logits, their_embeddings) = (forward(clips, True) for forward in (ours, theirs))
        probabilities, theirs_too = (softmax(one / folder.config.temperature) for one in (logits, their_logits))
        for what, one, other in (
            ("a probability", probabilities, theirs_too),
            ("a number of the embedding", embeddings, their_embeddings),
        ):
            apart = float(np.abs(one - other).max())
            if not apart <= TOLERANCE:  # True for NaN
                frames = ", ".join(map(str, together))
                raise ModelFolderError(
                    f"{folder.config.name}: found {what} of a clip of {frames} frames {apart:.1e} apart between torch "
                    f"and ONNX Runtime, expected at most {TOLERANCE:g}: try another version of torch or onnxruntime"
                )
