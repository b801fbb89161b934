"""SPOTER as an ONNX graph, for a recognizer that does without torch: features in, logits and embeddings out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spoter.embedding import PARTS
from spoter.errors import ModelFolderError

GRAPH = "model.onnx"
FRAMES, LOGITS, EMBEDDINGS = "frames", "logits", "embeddings"


class OnnxForward:
    """A graph of `spoter.onnx_export` in ONNX Runtime, one thread, on the CPU, called as `spoter.recognizer.Forward`.

    Parameters
    ----------
    graph : bytes
        What a model.onnx holds.
    place : str
        Names it in errors.
    width, classes : int
        Numbers of a frame (2K), and glosses, that the model folder tells of.

    Raises
    ------
    ModelFolderError
        Where it is no such graph, or is of another model.
    """

    def __init__(self, graph: bytes, place: str, width: int, classes: int):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # A clip of 60 frames takes 0.5 to 10 ms of one core, by the model's size: more threads would gain little.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; what a machine does not tell about its processors is no matter here
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no other base in common
            raise ModelFolderError(f"{place}: found what ONNX Runtime does not load ({error})") from None
        found = {end.name: end.shape[-1] for end in (*self._session.get_inputs(), *self._session.get_outputs())}
        expected = {FRAMES: width, LOGITS: classes, EMBEDDINGS: (PARTS + 1) * width}
        if found != expected:
            raise ModelFolderError(
                f"{place}: found a graph with {_ends(found)}, expected {_ends(expected)}: it is of another model"
            )
        self._logits = np.empty((0, classes), dtype=np.float32)
        self._embeddings = np.empty((0, (PARTS + 1) * width), dtype=np.float32)

    @classmethod
    def read(cls, path: Path, width: int, classes: int) -> OnnxForward:
        """Read a model.onnx; raises as the class itself does."""
        try:
            graph = path.read_bytes()
        except OSError as error:
            raise ModelFolderError(f"{path}: {error.strerror or error}") from error
        return cls(graph, str(path), width, classes)

    def __call__(self, features: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (clips, classes) and embeddings (clips, E) of each (T, 2K) of `features`."""
        answers = [self._session.run((LOGITS, EMBEDDINGS), {FRAMES: clip[None]}) for clip in features]
        logits, embeddings = zip(*answers, strict=True) if answers else ((), ())
        return np.concatenate([self._logits, *logits]), np.concatenate([self._embeddings, *embeddings])


def _ends(sizes: dict[str, object]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())
