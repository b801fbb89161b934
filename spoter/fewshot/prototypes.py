"""Embeddings of clips, and the prototypes of glosses in that space.

The head of SPOTER must name one of the glosses it was trained on. Prototypes, the mean embeddings of glosses, also tell
that a clip shows none of them, and name glosses that were added later from a few clips, as in prototypical networks
(Snell, Swersky and Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017).

The embedding is pooled from the *first* encoder layer (`spoter.model.network.embed`). Deeper layers keep what tells the
trained glosses apart and drop the rest (Papyan, Han and Donoho, "Prevalence of Neural Collapse during the Terminal
Phase of Deep Learning Training", PNAS 2020): on left-out glosses they did worse at both tasks (docs/training.md).

Embeddings are whitened by the scatter of clips around the means of their glosses, so that differences between two clips
of one sign count little, and compared by the cosine: the metric of Lee, Lee, Lee and Shin, "A Simple Unified Framework
for Detecting Out-of-Distribution Samples", NeurIPS 2018.
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
"""Parts of a clip's time that an embedding holds a mean of, because the order of a sign's movements counts."""

_ARRAYS = ("centre", "whitening", "trained", "scale", "typical")
_MAX_HEADERS = 4096  # bytes, more than the headers of all arrays


@dataclass(frozen=True)
class Prototypes:
    """The space that embeddings are compared in, and the trained glosses' places in it; arrays are float32."""

    centre: Float32Array  # (E,): mean of the trained glosses' mean embeddings, the origin of directions
    whitening: Float32Array  # (E, E): right factor that makes the scatter within glosses alike in all directions
    trained: Float32Array  # (C, E): unit vectors, one for each trained gloss, by label index
    scale: float  # factor on cosines that makes them logits; fitted on validation clips
    typical: float  # median cosine of validation clips with the prototype of their gloss

    def __post_init__(self) -> None:
        size = len(self.centre)
        shapes = {"centre": (size,), "whitening": (size, size), "trained": (len(self.trained), size)}
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError(f"{name}: found {array.dtype} of shape {array.shape}, expected finite float32 {shape}")
        if not 0 < self.scale < 1000:
            raise ValueError(f"found scale {self.scale}, expected a number above 0, below 1000")
        if not 0 < self.typical <= 1:
            raise ValueError(f"found typical {self.typical}, expected a cosine above 0")

    @cached_property
    def space(self) -> str:
        """SHA-256 of the arrays, in hexadecimal: it differs between any two models."""
        # Not of prototypes.npz: another version of numpy may pack the same numbers into other bytes.
        arrays = (self.centre, self.whitening, self.trained)
        return hashlib.sha256(b"".join(array.astype("<f4").tobytes() for array in arrays)).hexdigest()

    def directions(self, embeddings: Float32Array) -> Float32Array:
        """Return unit vectors, shape (B, E), of embeddings (B, E)."""
        return to_unit_vectors((embeddings - self.centre) @ self.whitening)

    def prototype(self, embeddings: Float32Array) -> Float32Array:
        """Return the prototype of a gloss, a unit vector (E,), from its clips' embeddings (clips, E)."""
        prototype: Float32Array = self.directions(embeddings.mean(axis=0, keepdims=True))[0]
        return prototype

    def attenuation(self, clips: int) -> float:
        """Return the factor by which cosines with a prototype of few `clips` are too small.

        A clip's direction is its gloss's plus noise, and so is a prototype's, whose noise shrinks with the number of
        its clips. For a gloss whose clips typically have the cosine c with a prototype of very many clips, the cosine
        with one of k clips is c / sqrt(1 + (1 / c² - 1) / k): the attenuation of C. Spearman, "The Proof and
        Measurement of Association between Two Things", 1904.
        """
        return 1 / math.sqrt(1 + (1 / self.typical**2 - 1) / clips)

    def to_bytes(self) -> bytes:
        """Return the content of prototypes.npz."""
        stream = io.BytesIO()
        arrays: dict[str, Any] = {name: np.asarray(getattr(self, name), dtype=np.float32) for name in _ARRAYS}
        np.savez(stream, **arrays)
        return stream.getvalue()


def embedding_size(width: int) -> int:
    """Return E, the numbers in an embedding of a model of this width: means of `TIME_PARTS`, and a deviation."""
    return (TIME_PARTS + 1) * width


def read_prototypes(path: Path, classes: int, size: int) -> Prototypes:
    """Read a prototypes.npz of a model of `classes` glosses whose embeddings have `size` numbers.

    Raises `ModelFolderError` where the file does not hold such prototypes. Nothing in it is unpickled.
    """
    try:
        numbers = size + size * size + classes * size + 2
        with zipfile.ZipFile(path) as archive:
            names, unpacked = archive.namelist(), sum(entry.file_size for entry in archive.infolist())
        if len(set(names)) < len(names):  # numpy would take one of two
            raise ValueError("found an array twice")
        if unpacked > 8 * numbers + _MAX_HEADERS:  # checked before unpacking: 300 kB may hold gigabytes
            raise ValueError(f"found {unpacked} bytes of arrays, expected {4 * numbers}")
        with np.load(path, allow_pickle=False) as file:
            # numpy returns bytes where an entry is no array
            centre, whitening, trained, scale, typical = (np.asarray(file[name]) for name in _ARRAYS)
        prototypes = Prototypes(centre, whitening, trained, float(scale), float(typical))
    except (OSError, *DAMAGED_FILE_ERRORS) as error:
        raise ModelFolderError(f"{path}: {one_line(error)}; expected prototypes as spoter train writes them") from None
    if prototypes.trained.shape != (classes, size):
        shapes = f"found prototypes of shape {prototypes.trained.shape}, expected {(classes, size)}"
        raise ModelFolderError(f"{path}: {shapes}: they belong to another model")
    return prototypes


def include_enrolled(probabilities: Float32Array, similarities: Float32Array, scale: float) -> Float32Array:
    """Distribute probability over the trained glosses, which the head knows, and the enrolled ones.

    The prototype of the head's best gloss competes with the enrolled glosses' prototypes by a softmax over scaled
    cosines. Its share is distributed over the trained glosses by the head's probabilities.

    `probabilities` (B, C) are the head's. `similarities` (B, C + M) are cosines with the prototypes of trained, then of
    enrolled glosses, the latter over their attenuation. The result has the shape (B, C + M), and its rows sum to 1.
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
    """Return vectors (…, E) at length 1."""
    unit_vectors: Float32Array = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return unit_vectors
