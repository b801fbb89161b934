"""Where a clip lies among others: an embedding of it, and the prototypes of glosses in that space.

The head of SPOTER knows the glosses it was trained on and must name one of them. Two things need more: to say that a
clip shows none of them, and to name a gloss that was added later from a few clips. Both compare a clip's embedding with
prototypes, the mean embeddings of glosses, as prototypical networks do (Snell, Swersky and Zemel, "Prototypical
Networks for Few-shot Learning", NeurIPS 2017).

The embedding is pooled from the *first* encoder layer (`spoter.model.network.embed`). Deeper layers keep what tells the trained
glosses apart and drop the rest (Papyan, Han and Donoho, "Prevalence of Neural Collapse during the Terminal Phase of
Deep Learning Training", PNAS 2020): on left-out glosses they did worse at both tasks (figures: docs/training.md).

Embeddings are whitened by the scatter of clips around the means of their glosses, so that what differs between two
clips of one sign counts little, and compared by the cosine. Distance in this metric is that of Lee, Lee, Lee and Shin,
"A Simple Unified Framework for Detecting Out-of-Distribution Samples", NeurIPS 2018.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from spoter.errors import DAMAGED_FILE_ERRORS, ModelFolderError, one_line

PARTS = 4  # of a clip's time that have a mean of their own: the order of a sign's movements counts
_NUMBERS = ("scale", "typical")
_ARRAYS = ("centre", "whitening", "trained", *_NUMBERS)
_HEADERS = 4096  # bytes, more than those of all arrays


@dataclass(frozen=True)
class Prototypes:
    """The space that embeddings are compared in, and where the trained glosses lie in it.

    Attributes
    ----------
    centre : numpy.ndarray, shape (E,), float32
        Mean of the trained glosses' mean embeddings: where directions are measured from.
    whitening : numpy.ndarray, shape (E, E), float32
        Right factor that makes the scatter within glosses alike in all directions.
    trained : numpy.ndarray, shape (C, E), float32
        Unit vectors, one for each trained gloss, by label index.
    scale : float
        Factor on cosines that makes them logits; fitted on validation clips.
    typical : float
        Median cosine of validation clips with the prototype of their gloss.
    """

    centre: np.ndarray
    whitening: np.ndarray
    trained: np.ndarray
    scale: float
    typical: float

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
        """Tells this space from that of any other model: SHA-256, in hexadecimal."""
        # Of the numbers, not of prototypes.npz: another version of numpy may pack the same ones into other bytes.
        arrays = (self.centre, self.whitening, self.trained)
        return hashlib.sha256(b"".join(array.astype("<f4").tobytes() for array in arrays)).hexdigest()

    def directions(self, embeddings: np.ndarray) -> np.ndarray:
        """Return unit vectors, shape (B, E), of embeddings (B, E)."""
        return to_unit_vectors((embeddings - self.centre) @ self.whitening)

    def prototype(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the prototype, a unit vector (E,), of a gloss of which these embeddings (clips, E) are."""
        return self.directions(embeddings.mean(axis=0, keepdims=True))[0]

    def attenuation(self, clips: int) -> float:
        """Return the factor by which cosines with a prototype of so few `clips` come out too small.

        A clip's direction is its gloss's plus what is its own, and so is a prototype's, whose own part shrinks with the
        number of its clips. For a gloss whose clips typically have the cosine c with a prototype of very many clips,
        the cosine with one of k clips is c / sqrt(1 + (1 / c² - 1) / k): the attenuation of C. Spearman, "The Proof and
        Measurement of Association between Two Things", 1904.
        """
        return 1 / math.sqrt(1 + (1 / self.typical**2 - 1) / clips)

    def to_bytes(self) -> bytes:
        """Return what prototypes.npz holds."""
        stream = io.BytesIO()
        np.savez(stream, **{name: np.asarray(getattr(self, name), dtype=np.float32) for name in _ARRAYS})
        return stream.getvalue()


def read_prototypes(path: Path, classes: int, size: int) -> Prototypes:
    """Read a prototypes.npz of a model of `classes` glosses whose embeddings have `size` numbers.

    Raises
    ------
    ModelFolderError
        Where the file does not hold such prototypes. Nothing in it is unpickled.
    """
    try:
        numbers = size + size * size + classes * size + len(_NUMBERS)
        with zipfile.ZipFile(path) as archive:
            names, unpacked = archive.namelist(), sum(entry.file_size for entry in archive.infolist())
        if len(set(names)) < len(names):  # numpy would take one of two
            raise ValueError("found an array twice")
        if unpacked > 8 * numbers + _HEADERS:  # before any of it is: 300 kB may be packed gigabytes
            raise ValueError(f"found {unpacked} bytes of arrays, expected {4 * numbers}")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in _ARRAYS}  # numpy gives bytes of what is no array
        prototypes = Prototypes(**arrays | {name: float(arrays[name]) for name in _NUMBERS})
    except (OSError, *DAMAGED_FILE_ERRORS) as error:
        raise ModelFolderError(f"{path}: {one_line(error)}; expected prototypes as spoter train writes them") from None
    if prototypes.trained.shape != (classes, size):
        raise ModelFolderError(
            f"{path}: found prototypes of shape {prototypes.trained.shape}, expected {(classes, size)}: "
            "they belong to another model"
        )
    return prototypes


def include_enrolled(probabilities: np.ndarray, similarities: np.ndarray, scale: float) -> np.ndarray:
    """Share probability between trained glosses, which the head tells apart, and enrolled ones, which it does not know.

    The gloss the head names stands for the trained ones: its prototype competes with the enrolled glosses' by a softmax
    over scaled cosines, and the head's probabilities share what the trained ones get.

    Parameters
    ----------
    probabilities : numpy.ndarray, shape (B, C)
        The head's.
    similarities : numpy.ndarray, shape (B, C + M)
        Cosines with the prototypes of trained, then of enrolled glosses, the latter over their attenuation.
    scale : float
        `Prototypes.scale`.

    Returns
    -------
    numpy.ndarray, shape (B, C + M)
        Rows sum to 1.
    """
    trained = probabilities.shape[1]
    named = np.take_along_axis(similarities, probabilities.argmax(axis=1)[:, None], axis=1)
    shares = softmax(scale * np.concatenate([named, similarities[:, trained:]], axis=1))
    return np.concatenate([probabilities * shares[:, :1], shares[:, 1:]], axis=1)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities (B, C) of logits (B, C)."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def to_unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (…, E) at length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
