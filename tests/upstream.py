"""SPOTER put together from torch's own transformer, as upstream did: what checkpoints of others are pickled from.

The classes pretend to live in ``spoter.spoter_model``, the module that upstream's pickles name.
"""

from __future__ import annotations

import sys
import types
import warnings
from contextlib import contextmanager

import torch
from torch import nn


class SPOTERTransformerDecoderLayer(nn.TransformerDecoderLayer):
    def __init__(self, width: int, heads: int, feedforward: int):
        super().__init__(width, heads, feedforward)
        del self.self_attn

    def forward(self, tgt, memory, *_, **__):
        tgt = self.norm1(tgt + self.dropout1(tgt))
        tgt = self.norm2(tgt + self.dropout2(self.multihead_attn(tgt, memory, memory, need_weights=False)[0]))
        return self.norm3(tgt + self.dropout3(self.linear2(self.dropout(self.linear1(tgt).relu()))))


class SPOTER(nn.Module):
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

    def forward(self, frames):
        """Logits (classes,) of one clip (T, 2K), frames first and a batch of one, as the original ran it."""
        memory = self.transformer.encoder(frames[:, None] + self.pos)
        query = self.class_query[:, None]
        for layer in self.transformer.decoder.layers:
            query = layer(query, memory)
        return self.linear_class(self.transformer.decoder.norm(query))[0, 0]


@contextmanager
def as_upstream_module():
    """Let pickle find the classes where upstream has them."""
    module = types.ModuleType("spoter.spoter_model")
    for cls in (SPOTER, SPOTERTransformerDecoderLayer):
        setattr(module, cls.__name__, cls)
        cls.__module__ = module.__name__
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        del sys.modules[module.__name__]
        for cls in (SPOTER, SPOTERTransformerDecoderLayer):
            cls.__module__ = __name__


def make(
    seed: int = 0, classes: int = 7, width: int = 108, heads: int = 9, layers=(2, 1), feedforward=(64, 32), rows=50
):
    """Return an upstream model with random weights, biases included, in evaluation mode."""
    torch.manual_seed(seed)
    model = SPOTER(classes, width, heads, layers, feedforward, rows).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model
