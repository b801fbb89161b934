"""Embeddings of clips, and the prototypes of glosses in that space.

The head of SPOTER can only answer with a gloss that it was trained on. Prototypes, the mean embeddings of glosses, add
two abilities: they detect a clip that shows none of these glosses, and recognize glosses added later from a few clips,
as in prototypical networks (Snell, Swersky and Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017).

The embedding is pooled from the *first* encoder layer (`spoter.model.network.embed`). Deeper layers keep the
differences between trained glosses only (Papyan, Han and Donoho, "Prevalence of Neural Collapse during the Terminal
Phase of Deep Learning Training", PNAS 2020): on left-out glosses they did worse at both tasks (docs/known.md).

Embeddings are whitened by the scatter of clips around the mean of their gloss, so that differences between two clips of
one sign count little. They are compared by the cosine, the metric of Lee, Lee, Lee and Shin, "A Simple Unified
Framework for Detecting Out-of-Distribution Samples", NeurIPS 2018.
"""

import hashlib
import io
import math
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spoter.errors import DAMAGED_FILE_ERRORS, ModelFolderError, one_line
from spoter.landmarks.arrays import Float32Array, FloatArray

TIME_PARTS = 4
"""An embedding holds one mean for each of these parts of a clip, because the order of a sign's movements matters."""

_ARRAYS = ("centre", "whitening", "trained", "scale", "typical")
_MAX_HEADERS = 4096  # bytes, more than the headers of all arrays need


@dataclass(frozen=True)
class Prototypes:
    """The space in which embeddings are compared, and the trained glosses in it; arrays are float32."""

    centre: Float32Array  # (E,): mean of the trained glosses' mean embeddings, the origin of directions
    whitening: Float32Array  # (E, E): multiplied from the right; equalizes the scatter within glosses in all directions
    trained: Float32Array  # (C, E): one unit vector for each trained gloss, by label index
    scale: float  # turns cosines into logits; fitted on validation clips
    typical: float  # median cosine of a validation clip with its gloss's prototype

    def __post_init__(self) -> None:
        size = len(self.centre)
        shapes = {"centre": (size,), "whitening": (size, size), "trained": (len(self.trained), size)}
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError(f"{name}: found {array.dtype} of shape {array.shape}, expected finite float32 {shape}")
        if not 0 < self.scale < 1000:
            raise ValueError(f"found scale {self.scale}, expected a number above 0 and below 1000")
        if not 0 < self.typical <= 1:
            raise ValueError(f"found typical {self.typical}, expected a cosine above 0 and at most 1")

    @cached_property
    def space(self) -> str:
        """SHA-256 of the arrays, in hexadecimal; it identifies the model that enrolled glosses belong to."""
        # Not of the file: another version of NumPy may write the same numbers as other bytes.
        arrays = (self.centre, self.whitening, self.trained)
        return hashlib.sha256(b"".join(array.astype("<f4").tobytes() for array in arrays)).hexdigest()

    def directions(self, embeddings: Float32Array) -> Float32Array:
        """Return the directions of embeddings (B, E) in this space: unit vectors (B, E)."""
        return to_unit_vectors((embeddings - self.centre) @ self.whitening)

    def prototype(self, embeddings: Float32Array) -> Float32Array:
        """Return the prototype of a gloss, a unit vector (E,), from the embeddings (clips, E) of its clips."""
        prototype: Float32Array = self.directions(embeddings.mean(axis=0, keepdims=True))[0]
        return prototype

    def attenuation(self, clips: int) -> float:
        """Return the factor by which cosines with a prototype of a few `clips` are too small.

        The direction of a clip is the direction of its gloss plus noise. A prototype has noise too, which shrinks with
        the number of its clips. If a gloss's clips typically have the cosine c with a prototype of very many clips, the
        cosine with a prototype of k clips is c / sqrt(1 + (1 / c² - 1) / k): the attenuation of C. Spearman, "The Proof
        and Measurement of Association between Two Things", 1904.
        """
        return 1 / math.sqrt(1 + (1 / self.typical**2 - 1) / clips)

    def to_bytes(self) -> bytes:
        """Return the content of prototypes.npz."""
        stream = io.BytesIO()
        arrays: dict[str, Any] = {name: np.asarray(getattr(self, name), dtype=np.float32) for name in _ARRAYS}
        np.savez(stream, **arrays)
        return stream.getvalue()


def embedding_size(width: int) -> int:
    """Return E, the size of an embedding for a model of this width: `TIME_PARTS` means and one deviation."""
    return (TIME_PARTS + 1) * width


def read_prototypes(path: Path, classes: int, size: int) -> Prototypes:
    """Read the prototypes.npz of a model with `classes` glosses and embeddings of `size` numbers.

    Raises `ModelFolderError` if the file does not hold such prototypes. Nothing in the file is unpickled.
    """
    try:
        numbers = size + size * size + classes * size + 2
        with zipfile.ZipFile(path) as archive:
            names, unpacked = archive.namelist(), sum(entry.file_size for entry in archive.infolist())
        if len(set(names)) < len(names):  # NumPy would choose one of them
            raise ValueError("found two arrays of one name, expected each array once")
        if unpacked > 8 * numbers + _MAX_HEADERS:  # checked before unpacking: 300 kB may unpack to gigabytes
            raise ValueError(f"found {unpacked} bytes of arrays, expected {4 * numbers}")
        with np.load(path, allow_pickle=False) as file:
            # NumPy returns bytes for an entry that is not an array
            centre, whitening, trained, scale, typical = (np.asarray(file[name]) for name in _ARRAYS)
        prototypes = Prototypes(centre, whitening, trained, float(scale), float(typical))
    except (OSError, *DAMAGED_FILE_ERRORS) as error:
        raise ModelFolderError(f"{path}: {one_line(error)}; expected prototypes written by `spoter train`") from None
    if prototypes.trained.shape != (classes, size):
        shapes = f"found prototypes of shape {prototypes.trained.shape}, expected {(classes, size)}"
        raise ModelFolderError(f"{path}: {shapes}: the file belongs to another model")
    return prototypes


def include_enrolled(probabilities: Float32Array, similarities: Float32Array, scale: float) -> Float32Array:
    """Return probabilities (B, C + M) of the C trained and M enrolled glosses; each row sums to 1.

    In a softmax over scaled cosines, the prototype of the head's best gloss competes with the prototypes of the
    enrolled glosses. The share of the best gloss is divided among the trained glosses by the head's probabilities.

    `probabilities` (B, C) are the head's. `similarities` (B, C + M) are cosines with the prototypes of the trained
    glosses, then of the enrolled glosses; cosines with enrolled glosses are divided by their attenuation.
    """
    trained = probabilities.shape[1]
    best = np.take_along_axis(similarities, probabilities.argmax(axis=1)[:, None], axis=1)
    shares = softmax(scale * np.concatenate([best, similarities[:, trained:]], axis=1))
    return np.concatenate([probabilities * shares[:, :1], shares[:, 1:]], axis=1)


def softmax(logits: FloatArray) -> Float32Array:
    """Return the probabilities (B, C) of logits (B, C)."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Float32Array = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def to_unit_vectors(vectors: FloatArray) -> Float32Array:
    """Return vectors (…, E) scaled to length 1."""
    unit_vectors: Float32Array = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return unit_vectors
