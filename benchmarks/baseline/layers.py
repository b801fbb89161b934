"""SPOTER built from torch's transformer and run eagerly, as in upstream and the Peruvian system.

Encoder layers are torch's, unchanged. Decoder layers have no self-attention, but keep the residual sum of this step.
Frames are the first dimension and a batch is one clip; so torch cannot use its fused path, which needs the batch as the
first dimension. The original did not use it either.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn


class SPOTERTransformerDecoderLayer(nn.TransformerDecoderLayer):
    """A decoder layer without self-attention; upstream's pickles contain the name of this class."""

    def __init__(self, width: int, heads: int, feedforward: int):
        super().__init__(width, heads, feedforward)
        del self.self_attn

    def forward(self, tgt: Tensor, memory: Tensor, *_: Any, **__: Any) -> Tensor:
        """Attend only to the encoder's output."""
        tgt = self.norm1(tgt + self.dropout1(tgt))
        tgt = self.norm2(tgt + self.dropout2(self.multihead_attn(tgt, memory, memory, need_weights=False)[0]))
        return self.norm3(tgt + self.dropout3(self.linear2(self.dropout(self.linear1(tgt).relu()))))


class SPOTER(nn.Module):
    """The model with upstream's parameter names; `layers` and `feedforward` are pairs for encoder and decoder."""

    def __init__(
        self, classes: int, width: int, heads: int, layers: tuple[int, int], feedforward: tuple[int, int], rows: int
    ):
        super().__init__()
        self.row_embed = nn.Parameter(torch.rand(rows, width))
        self.pos = nn.Parameter(self.row_embed[:1, None].detach().clone())
        self.class_query = nn.Parameter(torch.rand(1, width))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises batch_first, which upstream does not use
            self.transformer = nn.Transformer(width, heads, *layers, dim_feedforward=feedforward[0])
        self.transformer.decoder.layers = nn.ModuleList(
            SPOTERTransformerDecoderLayer(width, heads, feedforward[1]) for _ in range(layers[1])
        )
        self.linear_class = nn.Linear(width, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the logits (classes,) of one clip (T, 2K)."""
        memory = self.transformer.encoder(frames[:, None] + self.pos)
        query = self.class_query[:, None]
        for layer in self.transformer.decoder.layers:
            query = layer(query, memory)
        return self.linear_class(self.transformer.decoder.norm(query))[0, 0]


def peruvian(seed: int = 0) -> SPOTER:
    """Return the model of the Peruvian system with random weights: 54 points, 6 + 6 layers, 50 glosses."""
    torch.manual_seed(seed)
    return SPOTER(50, 108, 9, (6, 6), (2048, 256), 1024).eval()
