"""The interface that every runtime implements, and how clips are grouped into batches."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from spoter.landmarks.arrays import Float32Array

# Frames of a batch, padding included. It bounds the memory of a request with many long clips (attention holds
# heads x frames² numbers a clip) and is far above a usual batch.
MAX_FRAMES_PER_BATCH = 8192


class Runtime(Protocol):
    """A model's weights, ready to compute: features in, logits and embeddings out."""

    def run(self, features: Sequence[Float32Array], with_embeddings: bool) -> tuple[Float32Array, Float32Array]:
        """Compute clips from the features (T, 2K), float32, of each.

        Returns logits (clips, classes) and embeddings (clips, E) (`spoter.fewshot.prototypes`), float32. Embeddings
        take up to a fifth of a small model's time; without `with_embeddings` their shape is (clips, 0). Raises
        `ModelFolderError` where the model fails on these features, as a graph can whose parts do not fit together.
        """


def batch_by_length(lengths: Sequence[int], min_ratio: float) -> Iterator[list[int]]:
    """Yield the indices of clips that share a batch, the shorter ones first.

    `lengths` are the frames of each clip. `min_ratio` is the least ratio of a batch's shortest clip to its longest; 0
    where nothing is padded. A batch has at most `MAX_FRAMES_PER_BATCH` frames, each clip counted as long as the
    longest, or is a single clip.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        too_large = (len(batch) + 1) * lengths[i] > MAX_FRAMES_PER_BATCH
        if batch and (too_large or lengths[batch[0]] < min_ratio * lengths[i]):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
