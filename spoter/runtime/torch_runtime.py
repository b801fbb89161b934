"""The runtime torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from spoter.fewshot.prototypes import embedding_size
from spoter.landmarks.arrays import Float32Array
from spoter.model.network import Spoter
from spoter.runtime.base import batch_by_length
from spoter.runtime.torch_fused import FusedSpoter


class TorchRuntime:
    """A `spoter.runtime.base.Runtime` on a torch device; the model's weights must not change afterwards."""

    def __init__(self, model: Spoter, device: str | torch.device = "cpu"):
        self._device = torch.device(device)
        self._sizes = model.sizes
        self._fused = FusedSpoter(model.to(self._device))

    def run(self, features: Sequence[Float32Array], with_embeddings: bool) -> tuple[Float32Array, Float32Array]:
        """Compute clips, as `spoter.runtime.base.Runtime.run`."""
        logits = np.empty((len(features), self._sizes.classes), dtype=np.float32)
        size = embedding_size(self._sizes.width) if with_embeddings else 0
        embeddings = np.empty((len(features), size), dtype=np.float32)
        for batch in batch_by_length([len(clip) for clip in features], min_ratio=0):
            clips = [torch.from_numpy(features[i]).to(self._device) for i in batch]
            batch_logits, batch_embeddings = self._fused(clips, with_embeddings)
            logits[batch] = batch_logits.cpu().numpy()
            embeddings[batch] = batch_embeddings.cpu().numpy()
        return logits, embeddings
