"""What a recognizer wants of whatever computes, and which clips are computed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

# Frames, padding included, of one forward. It bounds the memory of a request with many long clips (attention holds
# heads x frames² numbers a clip) and lies far above a usual batch.
MAX_FRAMES_PER_BATCH = 8192


class Forward(Protocol):
    """A model's weights, ready to compute: in torch (`spoter.runtime.torch_runtime`) or as a graph (`spoter.runtime.onnx_runtime`)."""

    def __call__(self, features: list[np.ndarray], embed: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Compute clips.

        Parameters
        ----------
        features : list of numpy.ndarray, shape (T, 2K), float32
            Of each clip.
        embed : bool
            Whether embeddings are wanted: they cost up to a fifth of a small model's forward.

        Returns
        -------
        numpy.ndarray, shape (clips, classes), float32
            Logits.
        numpy.ndarray or None, shape (clips, E), float32
            Embeddings (`spoter.fewshot.prototypes`); None where they are not wanted.
        """


def batch_by_length(lengths: Sequence[int], shortest: float) -> Iterator[list[int]]:
    """Yield indices of clips to be computed together, the shorter first.

    Parameters
    ----------
    lengths : sequence of int
        Frames of each clip.
    shortest : float
        Share of a batch's longest clip that its shortest one has at least; 0 where nothing is padded.

    Yields
    ------
    list of int
        At most `MAX_FRAMES_PER_BATCH` frames, each clip counted as long as the longest, or a single clip.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (
            (len(batch) + 1) * lengths[i] > MAX_FRAMES_PER_BATCH or lengths[batch[0]] < shortest * lengths[i]
        ):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
