"""SPOTER as an ONNX graph, for a recognizer that does without torch: features in, logits and embeddings out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from spoter.errors import ModelFolderError, one_line
from spoter.fewshot.prototypes import PARTS
from spoter.runtime.base import batch_by_length
from spoter.runtime.onnx_external import refuse_external_data

GRAPH, INT8_GRAPH = "model.onnx", "model-int8.onnx"
GRAPHS = {"onnx": GRAPH, "onnx-int8": INT8_GRAPH}
"""A model folder's file for each runtime of `spoter.model.config.RUNTIMES` that takes one."""

FRAMES, LENGTHS, LOGITS, EMBEDDINGS = "frames", "lengths", "logits", "embeddings"
WEIGHTS_SHA256 = "spoter.weights_sha256"
"""Name of a graph's own note of the model.pth it was made of: SHA-256 of its bytes, in hexadecimal."""

# Padding costs what frames cost: clips share a batch where less than a fifth of it would be padding. A graph takes a
# batch faster than its clips one by one, a small model of 60 frames by a third.
_SHORTEST = 0.8
# Without a second attempt, which would be the same, and is announced on stdout.
_AS_SAID = {"providers": ["CPUExecutionProvider"], "enable_fallback": 0}
# `refuse_external_data` reads ONNX graphs only, so no other format is guessed from the bytes. Weights in other files,
# which it refuses, would be looked for in a folder that is none.
_CONFIG = {
    "session.load_model_format": "ONNX",
    "session.model_external_initializers_file_folder_path": os.devnull,
}


def import_onnxruntime() -> ModuleType:
    """Import ONNX Runtime with its telemetry off.

    From 1.29 on its wheels report each session to Microsoft and keep a device id in the user's cache folder. They read
    the variable once, on import.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


class OnnxRuntime:
    """A graph of `spoter.runtime.onnx_export` in ONNX Runtime, one thread, on the CPU, called as `spoter.runtime.base.Forward`.

    Parameters
    ----------
    graph : bytes
        What a model.onnx holds.
    place : str
        Names it in errors.
    width, classes : int
        Numbers of a frame (2K), and glosses, that the model folder tells of.

    Attributes
    ----------
    notes : mapping of str to str
        What the graph says of itself, such as `WEIGHTS_SHA256`.

    Raises
    ------
    ModelFolderError
        Where it is no such graph, or is of another model, or has weights in other files, or ONNX Runtime is not
        installed.
    """

    notes: Mapping[str, str]

    def __init__(self, graph: bytes, place: str, width: int, classes: int):
        try:
            onnxruntime = import_onnxruntime()
        except ImportError as error:
            raise ModelFolderError(f"{place}: needs ONNX Runtime: pip install onnxruntime ({error})") from None

        refuse_external_data(graph, place)
        options = onnxruntime.SessionOptions()
        for key, value in _CONFIG.items():
            options.add_session_config_entry(key, value)
        # A clip of 60 frames takes 0.5 to 10 ms of one core, by the model's size: more threads would gain little.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; what a machine does not tell about its processors is no matter here
        try:
            self._session = onnxruntime.InferenceSession(graph, options, **_AS_SAID)
            self.notes = self._session.get_modelmeta().custom_metadata_map
            ends = (*self._session.get_inputs(), *self._session.get_outputs())
            found = {end.name: (end.shape or ["of no size"])[-1] for end in ends if end.name != LENGTHS}
        except Exception as error:  # its errors have no other base in common
            raise ModelFolderError(f"{place}: found what ONNX Runtime does not load ({one_line(error)})") from None
        expected = {FRAMES: width, LOGITS: classes, EMBEDDINGS: (PARTS + 1) * width}
        if found != expected or LENGTHS not in {end.name for end in ends}:
            told = found | {end.name: "of clips" for end in ends if end.name == LENGTHS}
            raise ModelFolderError(
                f"{place}: found a graph with {_ends(told)}, expected {_ends(expected | {LENGTHS: 'of clips'})}: it is "
                "of another model, or of an older spoter: `spoter export` writes it anew"
            )
        self._place, self._width, self._classes = place, width, classes

    @classmethod
    def read(cls, path: Path, width: int, classes: int) -> OnnxRuntime:
        """Read a model.onnx; raises as the class itself does."""
        try:
            graph = path.read_bytes()
        except FileNotFoundError:
            raise ModelFolderError(f"{path}: found no such file, expected one as `spoter export` writes it") from None
        except OSError as error:
            raise ModelFolderError(f"{path}: {error.strerror or error}") from error
        return cls(graph, str(path), width, classes)

    def __call__(self, features: list[np.ndarray], embed: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Return logits (clips, classes), and embeddings (clips, E) where wanted, of each (T, 2K) of `features`.

        Raises
        ------
        ModelFolderError
            Where the graph gives something else, or fails: one may be loaded whose parts do not fit together.
        """
        logits = np.empty((len(features), self._classes), dtype=np.float32)
        embeddings = np.empty((len(features), (PARTS + 1) * self._width), dtype=np.float32) if embed else None
        wanted = (LOGITS, EMBEDDINGS) if embed else (LOGITS,)
        for chosen in batch_by_length([len(clip) for clip in features], _SHORTEST):
            lengths = np.array([len(features[i]) for i in chosen])
            frames = np.zeros((len(chosen), lengths[-1], self._width), dtype=np.float32)
            for row, i in zip(frames, chosen, strict=True):
                row[: len(features[i])] = features[i]
            try:
                logits[chosen], *pooled = self._session.run(wanted, {FRAMES: frames, LENGTHS: lengths})
                if embed:
                    [embeddings[chosen]] = pooled
            except Exception as error:  # ONNX Runtime's, or numpy's for another shape or type
                raise ModelFolderError(
                    f"{self._place}: found a graph that fails when it is computed ({one_line(error)}): "
                    "`spoter export` writes it anew"
                ) from error
        return logits, embeddings


def _ends(sizes: dict[str, object]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())
