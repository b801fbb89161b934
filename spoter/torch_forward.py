"""SPOTER in torch, for a recognizer: features in, logits and embeddings out, many clips in one forward."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from spoter.embedding import PARTS
from spoter.model import Spoter, embed

# Frames, padding included, of one forward. It bounds the memory of a request with many long clips (attention holds
# heads x frames² numbers a clip) and lies far above a usual batch.
_FRAMES_AT_ONCE = 8192


class TorchForward:
    """A SPOTER on a torch device, called as `spoter.recognizer.Forward`.

    Attributes
    ----------
    model : Spoter
    device : torch.device
    """

    def __init__(self, model: Spoter, device: str | torch.device = "cpu"):
        self.device = torch.device(device)
        self.model = model.to(self.device)

    def __call__(self, features: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (clips, classes) and embeddings (clips, E) of each (T, 2K) of `features`."""
        sizes = self.model.sizes
        logits = np.empty((len(features), sizes.classes), dtype=np.float32)
        embeddings = np.empty((len(features), (PARTS + 1) * sizes.width), dtype=np.float32)
        for chosen in _batches([len(clip) for clip in features]):
            clips = [torch.from_numpy(features[i]) for i in chosen]
            lengths = torch.tensor([len(clip) for clip in clips])
            frames = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True).to(self.device)
            uneven = bool((lengths != lengths[0]).any())  # without a mask attention is faster
            lengths = lengths.to(self.device) if uneven else None
            with torch.inference_mode():
                answer, seen = self.model.forward_and_embed(frames, lengths)
                logits[chosen] = answer.cpu().numpy()
                embeddings[chosen] = embed(seen, lengths).cpu().numpy()
        return logits, embeddings


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Yield indices of clips to be computed together: the shorter first, at most `_FRAMES_AT_ONCE` padded frames."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[i] > _FRAMES_AT_ONCE:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
