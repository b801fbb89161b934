"""Writing a model as an ONNX graph that answers as torch does, for servers without torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor, nn

from spoter.embedding import softmax
from spoter.errors import ModelFolderError, SpoterError
from spoter.model import Spoter, embed
from spoter.model_folder import ModelFolder
from spoter.onnx_forward import EMBEDDINGS, FRAMES, GRAPH, LOGITS, OnnxForward
from spoter.torch_forward import TorchForward

# What torch's exporter writes by itself; any other goes through a converter of versions. SPOTER needs nothing newer:
# the latest of its operators, LayerNormalization, came with 17.
OPSET = 18
# Frames of the clips that both are asked about: one and fewer than an embedding has parts, usual ones, and the most.
_LENGTHS = (1, 2, 3, 5, 60, 200, 512)
TOLERANCE = 1e-4
"""By how much a probability, or a number of an embedding, may differ from torch's."""


class _Whole(nn.Module):
    """SPOTER with the pooling of its embedding: all that is computed of a clip's features."""

    def __init__(self, model: Spoter):
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        logits, seen = self.model.forward_and_embed(frames)
        return logits, embed(seen)


def export(folder: ModelFolder) -> bytes:
    """Return the model.onnx of a model folder that was read with its weights.

    The graph takes ``frames`` (1, T, 2K), T from 1 to the model's max_frames, and gives ``logits`` (1, classes) and
    ``embeddings`` (1, E). The same model gives the same bytes.

    Raises
    ------
    ModelFolderError
        Where ONNX Runtime's answers to made-up clips differ from torch's by more than `TOLERANCE`.
    SpoterError
        Where packages that this needs are not installed.
    """
    absent = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if absent:
        raise SpoterError(f"writing graphs needs {', '.join(absent)}: pip install 'spoter[lambda]'")
    width, longest = 2 * len(folder.layout), folder.config.max_frames
    frames = torch.zeros(1, min(8, longest), width)
    time = {1: torch.export.Dim("frames", min=1, max=longest)} if longest > 1 else {}
    with _quiet():
        program = torch.onnx.export(
            _Whole(folder.model).eval(),
            (frames,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[FRAMES],
            output_names=[LOGITS, EMBEDDINGS],
            dynamic_shapes=(time,),
            verbose=False,
        )
    model = program.model_proto
    # torch notes beside each node from which lines of which files it came: paths of this machine, different elsewhere.
    for noted in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        noted.ClearField("metadata_props")
        noted.ClearField("doc_string")
    for noted in model.graph.initializer:
        noted.ClearField("metadata_props")
    model.graph.ClearField("value_info")  # shapes between nodes, which every runtime works out itself
    graph = model.SerializeToString(deterministic=True)
    _compare(folder, graph)
    return graph


def _compare(folder: ModelFolder, graph: bytes) -> None:
    ours = TorchForward(folder.model)
    theirs = OnnxForward(graph, GRAPH, 2 * len(folder.layout), folder.config.classes)
    longest = folder.config.max_frames
    rng = np.random.default_rng(0)
    for length in sorted({min(length, longest) for length in (*_LENGTHS, longest)}):
        clip = rng.uniform(-1, 1, (length, 2 * len(folder.layout))).astype(np.float32)
        (logits, embeddings), (their_logits, their_embeddings) = (forward([clip]) for forward in (ours, theirs))
        probabilities, theirs_too = (softmax(one / folder.config.temperature) for one in (logits, their_logits))
        for what, one, other in (
            ("a probability", probabilities, theirs_too),
            ("a number of the embedding", embeddings, their_embeddings),
        ):
            apart = float(np.abs(one - other).max())
            if not apart <= TOLERANCE:  # True for NaN
                raise ModelFolderError(
                    f"{folder.config.name}: found {what} of a clip of {length} frames {apart:.1e} apart between torch "
                    f"and ONNX Runtime, expected at most {TOLERANCE:g}: try another version of torch or onnxruntime"
                )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on operators that SPOTER has none of, and on its own workings, from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
