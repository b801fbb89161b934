"""The interface that every runtime implements, and how clips are grouped into batches."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from spoter.landmarks.arrays import Float32Array

# The most frames in a batch, including padding. It bounds the memory of a request with many long clips (attention holds
# heads x frames² numbers per clip), and is far above usual batches.
MAX_FRAMES_PER_BATCH = 8192


class Runtime(Protocol):
    """A loaded model that computes logits and embeddings from features."""

    def run(self, features: Sequence[Float32Array], with_embeddings: bool) -> tuple[Float32Array, Float32Array]:
        """Compute clips from their features, one array (T, 2K), float32, per clip.

        Returns logits (clips, classes) and embeddings (clips, E) (`spoter.fewshot.prototypes`), float32. Embeddings
        take up to a fifth of a small model's time; without `with_embeddings` their shape is (clips, 0). Raises
        `ModelFolderError` if the model fails on these features, for example a graph with mismatched parts.
        """


def batch_by_length(lengths: Sequence[int], min_ratio: float) -> Iterator[list[int]]:
    """Yield the indices of the clips in each batch, from short to long clips.

    `lengths` are the clips' numbers of frames. `min_ratio` is the least ratio of the shortest to the longest clip in a
    batch; 0 if the runtime does not pad. A batch has at most `MAX_FRAMES_PER_BATCH` frames, counting each clip as long
    as the longest, or is a single clip.
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
