"""The runtimes onnx and onnx-int8: graphs in ONNX Runtime, without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from spoter.errors import ModelFolderError, one_line
from spoter.fewshot.prototypes import embedding_size
from spoter.landmarks.arrays import Float32Array
from spoter.runtime.base import batch_by_length
from spoter.runtime.onnx_external import refuse_external_data

FRAMES, LENGTHS, LOGITS, EMBEDDINGS = "frames", "lengths", "logits", "embeddings"
"""Names of a graph's inputs and outputs (`spoter.runtime.onnx_export.export_graph`)."""
WEIGHTS_SHA256 = "spoter.weights_sha256"
"""Key in a graph's metadata: the SHA-256, in hexadecimal, of the model.pth that it was exported from."""

# Padding costs as much as frames: clips share a batch if less than a fifth of it would be padding. A batch is faster
# than its clips one by one: by a third for a small model and 60 frames.
_MIN_LENGTH_RATIO = 0.8
# No second attempt: it would fail in the same way, and ONNX Runtime would announce it on stdout.
_SESSION = {"providers": ["CPUExecutionProvider"], "enable_fallback": 0}
# `refuse_external_data` only parses ONNX graphs, so ONNX Runtime must not guess another format from the bytes. It would
# look for external weights, which are refused before, in a folder that does not exist.
_SESSION_CONFIG = {
    "session.load_model_format": "ONNX",
    "session.model_external_initializers_file_folder_path": os.devnull,
}


def import_onnxruntime() -> ModuleType:
    """Import ONNX Runtime without telemetry.

    Since version 1.29 its wheels report each session to Microsoft and keep a device id in the user's cache folder. They
    read the variable once, during the import.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    module: ModuleType = onnxruntime
    return module


class OnnxRuntime:
    """A `spoter.runtime.base.Runtime` on the CPU, with one thread.

    `graph` is the content of a model.onnx, and `place` names it in errors. `width` (2K) and `classes` are the model
    folder's. Raises `ModelFolderError` if the graph is invalid, belongs to another model or has weights in other files,
    or if ONNX Runtime is not installed.
    """

    metadata: Mapping[str, str]  # the graph's, such as `WEIGHTS_SHA256`

    def __init__(self, graph: bytes, place: str, width: int, classes: int):
        try:
            onnxruntime = import_onnxruntime()
        except ImportError as error:
            raise ModelFolderError(f"{place}: needs ONNX Runtime: pip install 'spoter[onnx]' ({error})") from None

        refuse_external_data(graph, place)
        options = onnxruntime.SessionOptions()
        for key, value in _SESSION_CONFIG.items():
            options.add_session_config_entry(key, value)
        # A clip of 60 frames takes one core 0.5 to 10 ms, depending on the model: more threads would gain little.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # only errors; warnings about unknown processors do not matter
        try:
            self._session = onnxruntime.InferenceSession(graph, options, **_SESSION)
            self.metadata = self._session.get_modelmeta().custom_metadata_map
            ports = (*self._session.get_inputs(), *self._session.get_outputs())
            actual = {
                port.name: "of clips" if port.name == LENGTHS else (port.shape or ["no size"])[-1] for port in ports
            }
        except Exception as error:  # the errors of ONNX Runtime have no other common base
            raise ModelFolderError(f"{place}: ONNX Runtime cannot load this graph ({one_line(error)})") from None
        expected = {FRAMES: width, LOGITS: classes, EMBEDDINGS: embedding_size(width), LENGTHS: "of clips"}
        if actual != expected:
            actual_text, expected_text = (
                ", ".join(f"{name} {size}" for name, size in sizes.items()) for sizes in (actual, expected)
            )
            reason = "it belongs to another model or an older spoter: write it again with `spoter export`"
            raise ModelFolderError(f"{place}: found a graph with {actual_text}, expected {expected_text}: {reason}")
        self._place, self._width, self._classes = place, width, classes

    @classmethod
    def read(cls, path: Path, width: int, classes: int) -> OnnxRuntime:
        """Read a model.onnx; raises as `OnnxRuntime` does."""
        try:
            graph = path.read_bytes()
        except FileNotFoundError:
            raise ModelFolderError(f"{path}: found no such file, expected a graph written by `spoter export`") from None
        except OSError as error:
            raise ModelFolderError(f"{path}: {error.strerror or error}") from error
        return cls(graph, str(path), width, classes)

    def run(self, features: Sequence[Float32Array], with_embeddings: bool) -> tuple[Float32Array, Float32Array]:
        """Compute clips; see `spoter.runtime.base.Runtime.run`."""
        logits = np.empty((len(features), self._classes), dtype=np.float32)
        size = embedding_size(self._width) if with_embeddings else 0
        embeddings = np.empty((len(features), size), dtype=np.float32)
        outputs = (LOGITS, EMBEDDINGS) if with_embeddings else (LOGITS,)
        for batch in batch_by_length([len(clip) for clip in features], _MIN_LENGTH_RATIO):
            lengths = np.array([len(features[i]) for i in batch])
            frames = np.zeros((len(batch), lengths[-1], self._width), dtype=np.float32)
            for row, i in zip(frames, batch, strict=True):
                row[: len(features[i])] = features[i]
            try:
                logits[batch], *pooled = self._session.run(outputs, {FRAMES: frames, LENGTHS: lengths})
                if with_embeddings:
                    [embeddings[batch]] = pooled
            except Exception as error:  # from ONNX Runtime, or from NumPy for a wrong shape or type
                problem = f"found a graph that fails at run time ({one_line(error)})"
                raise ModelFolderError(f"{self._place}: {problem}: write it again with `spoter export`") from error
        return logits, embeddings
