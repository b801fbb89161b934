"""SPOTER in torch, for a recognizer: features in, logits and embeddings out, many clips in one forward."""

from __future__ import annotations

import numpy as np
import torch

from spoter.fewshot.prototypes import PARTS
from spoter.model.network import Spoter
from spoter.runtime.base import batch_by_length
from spoter.runtime.torch_fused import FusedSpoter


class TorchRuntime:
    """A SPOTER on a torch device, called as `spoter.runtime.base.Forward`.

    Attributes
    ----------
    model : Spoter
        What it was made of. Its weights must not change after: `spoter.runtime.torch_fused` holds some, and copies of others.
    device : torch.device
    """

    def __init__(self, model: Spoter, device: str | torch.device = "cpu"):
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self._fast = FusedSpoter(self.model)

    def __call__(self, features: list[np.ndarray], embed: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Return logits (clips, classes), and embeddings (clips, E) where wanted, of each (T, 2K) of `features`."""
        sizes = self.model.sizes
        logits = np.empty((len(features), sizes.classes), dtype=np.float32)
        embeddings = np.empty((len(features), (PARTS + 1) * sizes.width), dtype=np.float32) if embed else None
        for chosen in batch_by_length([len(clip) for clip in features], shortest=0):
            answer, pooled = self._fast([torch.from_numpy(features[i]).to(self.device) for i in chosen], embed)
            logits[chosen] = answer.cpu().numpy()
            if embed:
                embeddings[chosen] = pooled.cpu().numpy()
        return logits, embeddings
