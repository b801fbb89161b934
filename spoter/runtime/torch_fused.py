"""What `spoter.model.network.Spoter` computes, rearranged for answering: the same numbers from fewer and larger products.

- The frames of all clips lie one after another, (N, D) with N = sum T: projections, feed-forward and norms take all of
  them in one product, nothing is padded, and attention of each clip needs no mask.
- Queries, keys and values of a layer are one product, whose result is laid out (3D, N): heads and clips are views of
  it. Laid out (N, 3D) each would be copied, which for 60 frames costs nearly as much as the attention.
- The decoder asks one question, and its memory is never projected to keys and values (`spoter.runtime.folded_attention`). Its first
  question is the same for every clip, and so is all of its first layer up to the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spoter.model.network import Spoter, embed
from spoter.runtime.folded_attention import SelfAttention, SingleQueryAttention, epsilon_of_doubled

# From this many multiplications on oneDNN, with weights packed once, is faster than the MKL behind torch.addmm, which
# does not use AVX-512 on every processor that has it: twice as fast from 10 million on, on an AMD EPYC of family 26.
# Below, the 20 µs that a call costs are more than it saves.
_WORTH_PACKING = 2_000_000
# Frames that go through a feed-forward at once: 4 MB of hidden numbers stay in the processor's cache.
_FRAMES_IN_CACHE = 512


class FusedSpoter:
    """A SPOTER for inference.

    Parameters
    ----------
    model : spoter.model.network.Spoter
        On the device where it is to run. Its weights must not change after: some are held, others rearranged copies.
    """

    @torch.inference_mode()
    def __init__(self, model: Spoter):
        transformer = model.transformer
        self._heads = model.sizes.heads
        self._positions = model.pos[0]
        if model.positions == "per-frame":
            self._positions = self._positions + model.row_embed  # (rows, D)
        self._encoder = [_EncoderLayer(layer, self._heads) for layer in transformer.encoder.layers]
        self._memory_norm = _norm(transformer.encoder.norm)
        self._decoder = [_DecoderLayer(layer, self._heads) for layer in transformer.decoder.layers]
        self._answer_norm = _norm(transformer.decoder.norm)
        self._head = _Linear(model.linear_class.weight, model.linear_class.bias)
        self._first = self._decoder[0].ask(model.class_query)

    @torch.inference_mode()
    def __call__(self, clips: Sequence[Tensor], with_embeddings: bool) -> tuple[Tensor, Tensor | None]:
        """Compute clips, at least one.

        Parameters
        ----------
        clips : sequence of torch.Tensor, shape (T, 2K), float32
        with_embeddings : bool

        Returns
        -------
        torch.Tensor, shape (clips, classes)
            Logits.
        torch.Tensor or None, shape (clips, E)
            Embeddings, where they are wanted.
        """
        lengths = [len(clip) for clip in clips]
        if len(self._positions) == 1:
            x = torch.cat(list(clips)) + self._positions
        else:
            x = torch.cat([clip + self._positions[: len(clip)] for clip in clips])  # more frames than rows raise here
        embeddings = None
        for number, layer in enumerate(self._encoder):
            x = layer(x, lengths)
            if number == 0 and with_embeddings:
                embeddings = torch.cat([embed(seen[None]) for seen in x.split(lengths)])
        memory = self._memory_norm(x).split(lengths)
        query, asked = (one.expand(len(clips), *one.shape[1:]) for one in self._first)
        answer = self._decoder[0].answer(query, asked, memory)
        for layer in self._decoder[1:]:
            answer = layer.answer(*layer.ask(answer), memory)
        return self._head(self._answer_norm(answer)), embeddings


class _EncoderLayer:
    def __init__(self, layer: nn.Module, heads: int):
        weights = SelfAttention.of(layer.self_attn)
        self._heads = heads
        self._in, self._query_bias = _Linear(weights.inward), weights.query_bias[:, None]
        self._out = _Linear(weights.out, weights.out_bias)
        self._norm1, self._norm2 = _norm(layer.norm1), _norm(layer.norm2)
        self._feedforward = _FeedForward(layer)

    def __call__(self, x: Tensor, lengths: list[int]) -> Tensor:
        """Let the frames (N, D) of clips of these lengths look at one another, each clip's at its own."""
        width = x.shape[1]
        projected = self._in.across(x)  # (3D, N)
        projected[:width] += self._query_bias
        by_head = projected.view(3, self._heads, width // self._heads, -1)
        mixed = []
        for q, k, v in by_head.split(lengths, dim=3):  # (heads, D / heads, T) each
            weights = torch.bmm(q.transpose(1, 2), k).softmax(dim=2)  # (heads, T, T)
            mixed.append(torch.bmm(v, weights.transpose(1, 2)).view(width, -1))  # (D, T)
        mixed = torch.cat(mixed, dim=1) if len(mixed) > 1 else mixed[0]
        x = self._norm1(self._out.add_to(x, mixed.t()))
        return self._norm2(self._feedforward.add_to(x))


class _DecoderLayer:
    def __init__(self, layer: nn.Module, heads: int):
        weights = SingleQueryAttention.of(layer.multihead_attn)
        self._heads = heads
        self._norm1 = _norm(layer.norm1, eps=epsilon_of_doubled(layer.norm1))
        self._query = _Linear(weights.query, weights.query_bias)
        self._keys, self._values = weights.keys, weights.values
        self._out = _Linear(weights.out, weights.out_bias)
        self._norm2, self._norm3 = _norm(layer.norm2), _norm(layer.norm3)
        self._feedforward = _FeedForward(layer)

    def ask(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries (B, D) after the first norm, and what each head asks of memories: (B, heads, D)."""
        query = self._norm1(query)
        by_head = self._query(query).view(len(query), self._heads, -1).transpose(0, 1)  # (heads, B, D / heads)
        return query, torch.bmm(by_head, self._keys).transpose(0, 1)

    def answer(self, query: Tensor, asked: Tensor, memory: Sequence[Tensor]) -> Tensor:
        """Return the layer's answers (B, D) to what `ask` returned, from each clip's memory (T, D)."""
        seen = [
            torch.mm(torch.mm(asks, frames.t()).softmax(dim=1), frames)  # (heads, T), then (heads, D)
            for asks, frames in zip(asked, memory, strict=True)
        ]
        seen = torch.stack(seen, dim=1) if len(seen) > 1 else seen[0].unsqueeze(1)  # (heads, B, D)
        mixed = torch.bmm(seen, self._values).transpose(0, 1).reshape(query.shape)
        query = self._norm2(self._out.add_to(query, mixed))
        return self._norm3(self._feedforward.add_to(query))


class _FeedForward:
    def __init__(self, layer: nn.Module):
        self._widen = _Linear(layer.linear1.weight, layer.linear1.bias)
        self._narrow = _Linear(layer.linear2.weight, layer.linear2.bias)

    def add_to(self, x: Tensor) -> Tensor:
        parts = [self._narrow.add_to(part, self._widen.relu(part)) for part in x.split(_FRAMES_IN_CACHE)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Linear:
    """x Wᵀ + b for many x (N, in), by torch.addmm, or by oneDNN where that is there and pays."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        self._weight, self._bias = weight, bias
        large = weight.numel() * _FRAMES_IN_CACHE >= _WORTH_PACKING and weight.dtype == torch.float32
        self._packed = _ops().pack(weight.contiguous(), None) if large and _onednn_serves(weight.device.type) else None

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addmm(self._bias, x, self._weight.t())

    def relu(self, x: Tensor) -> Tensor:
        """Return what is above 0 of the result."""
        if self._pays(x):
            return _ops().linear(x, self._packed, self._bias, "relu", [], "")
        return self(x).relu_()

    def add_to(self, other: Tensor, x: Tensor) -> Tensor:
        """Return the result plus `other`."""
        if self._pays(x) and x.is_contiguous():
            return _ops().linear_add(x, other, self._packed, self._bias, "add")
        return torch.addmm(other, x, self._weight.t()).add_(self._bias)

    def across(self, x: Tensor) -> Tensor:
        """Return W xᵀ, (out, N), without the bias."""
        if self._pays(x):
            return _ops().linear(self._weight, x, None, "none", [], "")
        return torch.mm(self._weight, x.t())

    def _pays(self, x: Tensor) -> bool:
        return self._packed is not None and len(x) * self._weight.numel() >= _WORTH_PACKING


class _Ops(NamedTuple):
    pack: Callable
    linear: Callable
    linear_add: Callable


@cache
def _ops() -> _Ops:
    """Return torch's products by oneDNN; raises `AttributeError` where a torch has none."""
    ops = torch.ops.mkldnn
    return _Ops(ops._reorder_linear_weight, ops._linear_pointwise.default, ops._linear_pointwise.binary)


@cache
def _onednn_serves(device: str) -> bool:
    """Tell whether a device has these products and they give what torch.addmm gives.

    They are torch's own, which its compiler makes frozen models of, but no part of its documented interface: another
    version may lack or change them, and then the documented products do.
    """
    if device != "cpu":
        return False
    weight, x, other = (torch.linspace(-1, 1, 12 * rows).view(rows, 12) for rows in (12, 3, 3))
    expected = torch.addmm(weight[0], x, weight.t())
    try:
        pack, linear, linear_add = _ops()
        packed = pack(weight, None)
        found = (
            (linear(x, packed, weight[0], "relu", [], ""), expected.relu()),
            (linear_add(x, other, packed, weight[0], "add"), expected + other),
            (linear(weight, x, None, "none", [], ""), weight @ x.t()),
        )
    except (RuntimeError, AttributeError, TypeError, ValueError):
        return False
    return all(torch.allclose(one, same, atol=1e-5) for one, same in found)


def _norm(norm: nn.LayerNorm, eps: float | None = None) -> Callable[[Tensor], Tensor]:
    shape, weight, bias, eps = norm.normalized_shape, norm.weight, norm.bias, norm.eps if eps is None else eps
    return lambda x: torch.layer_norm(x, shape, weight, bias, eps)
