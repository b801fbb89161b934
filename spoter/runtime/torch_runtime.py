"""The runtime torch: `spoter.model.network.Spoter` rearranged, with the same results from fewer and larger products.

- The frames of all clips are concatenated, (N, D) with N = sum T. Projections, feed-forward and norms process all
  frames in one product; nothing is padded, and the attention of a clip needs no mask.
- Queries, keys and values of a layer are one product of shape (3D, N), so that heads and clips are views of it. With
  (N, 3D), heads and clips would be copies, which for 60 frames cost nearly as much as the attention.
- The decoder has one query, so its memory is never projected to keys and values (`spoter.runtime.folded_attention`).
  The first query is the same for every clip, and so is its first layer up to the scores.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from spoter.fewshot.prototypes import embedding_size
from spoter.landmarks.arrays import Float32Array
from spoter.model.network import DecoderLayer, EncoderLayer, Spoter, embed
from spoter.runtime.base import batch_by_length
from spoter.runtime.folded_attention import SelfAttention, SingleQueryAttention, epsilon_of_doubled

# From this number of multiplications on, oneDNN with packed weights is faster than the MKL behind torch.addmm, which
# does not use AVX-512 on every processor that has it. On an AMD EPYC of family 26, oneDNN is twice as fast from 10
# million on. For fewer, a call costs more (20 µs) than it saves.
_MIN_PACKED_PRODUCTS = 2_000_000
# Frames per feed-forward step: its 4 MB of hidden values stay in the processor's cache.
_FRAMES_IN_CACHE = 512


class TorchRuntime:
    """A `spoter.runtime.base.Runtime` on a torch device; do not change the model's weights afterwards."""

    def __init__(self, model: Spoter, device: str | torch.device = "cpu"):
        self._device = torch.device(device)
        self._sizes = model.sizes
        self._fused = FusedSpoter(model.to(self._device))

    def run(self, features: Sequence[Float32Array], with_embeddings: bool) -> tuple[Float32Array, Float32Array]:
        """Compute clips; see `spoter.runtime.base.Runtime.run`."""
        logits = np.empty((len(features), self._sizes.classes), dtype=np.float32)
        size = embedding_size(self._sizes.width) if with_embeddings else 0
        embeddings = np.empty((len(features), size), dtype=np.float32)
        for batch in batch_by_length([len(clip) for clip in features], min_ratio=0):
            clips = [torch.from_numpy(features[i]).to(self._device) for i in batch]
            batch_logits, batch_embeddings = self._fused(clips, with_embeddings)
            logits[batch] = batch_logits.cpu().numpy()
            embeddings[batch] = batch_embeddings.cpu().numpy()
        return logits, embeddings


class FusedSpoter:
    """A SPOTER for inference, on the model's device.

    Do not change the model's weights afterwards: this object shares some of them and copies others.
    """

    @torch.inference_mode()
    def __init__(self, model: Spoter):
        transformer, heads = model.transformer, model.sizes.heads
        self._positions = model.pos[0]
        if model.positions == "per-frame":
            self._positions = self._positions + model.row_embed  # (rows, D)
        self._encoder = [_FusedEncoderLayer(layer, heads) for layer in transformer.encoder]
        self._memory_norm = _layer_norm(transformer.encoder.norm)
        first, *self._later_decoder = [_FusedDecoderLayer(layer, heads) for layer in transformer.decoder]
        self._first_decoder, self._first_query = first, first.project_query(model.class_query)
        self._output_norm = _layer_norm(transformer.decoder.norm)
        self._head = _PackedLinear(model.linear_class.weight, model.linear_class.bias)

    @torch.inference_mode()
    def __call__(self, clips: Sequence[Tensor], with_embeddings: bool) -> tuple[Tensor, Tensor]:
        """Return logits (clips, classes) and embeddings, (clips, E) or (clips, 0), of one or more clips (T, 2K)."""
        lengths = [len(clip) for clip in clips]
        if len(self._positions) == 1:
            x = torch.cat(list(clips)) + self._positions
        else:
            x = torch.cat([clip + self._positions[: len(clip)] for clip in clips])  # raises for more frames than rows
        embeddings = x.new_empty(len(clips), 0)
        for number, layer in enumerate(self._encoder):
            x = layer(x, lengths)
            if number == 0 and with_embeddings:
                embeddings = torch.cat([embed(frames[None]) for frames in torch.split(x, lengths)])
        memory = torch.split(self._memory_norm(x), lengths)
        query, projected = (tensor.expand(len(clips), *tensor.shape[1:]) for tensor in self._first_query)
        output = self._first_decoder.attend(query, projected, memory)
        for decoder_layer in self._later_decoder:
            output = decoder_layer.attend(*decoder_layer.project_query(output), memory)
        return self._head(self._output_norm(output)), embeddings


class _FusedEncoderLayer:
    def __init__(self, layer: EncoderLayer, heads: int):
        weights = SelfAttention.fold(layer.self_attn)
        self._heads = heads
        self._in, self._query_bias = _PackedLinear(weights.inward), weights.query_bias[:, None]
        self._out = _PackedLinear(weights.out, weights.out_bias)
        self._norm1, self._norm2 = _layer_norm(layer.norm1), _layer_norm(layer.norm2)
        self._feedforward = _FeedForward(layer)

    def __call__(self, x: Tensor, lengths: list[int]) -> Tensor:
        """Compute the layer for the frames (N, D) of clips of these lengths; attention stays within each clip."""
        width = x.shape[1]
        projected = self._in.multiply_transposed(x)  # (3D, N)
        projected[:width] += self._query_bias
        by_head = projected.view(3, self._heads, width // self._heads, -1)
        attended = []
        for q, k, v in torch.split(by_head, lengths, dim=3):  # (heads, D / heads, T) each
            weights = torch.bmm(q.transpose(1, 2), k).softmax(dim=2)  # (heads, T, T)
            attended.append(torch.bmm(v, weights.transpose(1, 2)).view(width, -1))  # (D, T)
        x = self._norm1(self._out.add_to(x, _concatenate(attended, dim=1).t()))
        return self._norm2(self._feedforward.add_to(x))


class _FusedDecoderLayer:
    def __init__(self, layer: DecoderLayer, heads: int):
        weights = SingleQueryAttention.fold(layer.multihead_attn)
        self._heads = heads
        self._norm1 = _layer_norm(layer.norm1, eps=epsilon_of_doubled(layer.norm1))
        self._query = _PackedLinear(weights.query, weights.query_bias)
        self._keys, self._values = weights.keys, weights.values
        self._out = _PackedLinear(weights.out, weights.out_bias)
        self._norm2, self._norm3 = _layer_norm(layer.norm2), _layer_norm(layer.norm3)
        self._feedforward = _FeedForward(layer)

    def project_query(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Return the queries (B, D) after the first norm, and their projections for each head (B, heads, D)."""
        query = self._norm1(query)
        by_head = self._query(query).view(len(query), self._heads, -1).transpose(0, 1)  # (heads, B, D / heads)
        return query, torch.bmm(by_head, self._keys).transpose(0, 1)

    def attend(self, query: Tensor, projected: Tensor, memory: Sequence[Tensor]) -> Tensor:
        """Return the layer's output (B, D) from the results of `project_query` and each clip's memory (T, D)."""
        attended = [
            torch.mm(torch.mm(by_head, frames.t()).softmax(dim=1), frames)[:, None]  # (heads, T), then (heads, 1, D)
            for by_head, frames in zip(projected, memory, strict=True)
        ]
        values = torch.bmm(_concatenate(attended, dim=1), self._values).transpose(0, 1).reshape(query.shape)
        query = self._norm2(self._out.add_to(query, values))
        return self._norm3(self._feedforward.add_to(query))


class _FeedForward:
    def __init__(self, layer: EncoderLayer | DecoderLayer):
        self._widen = _PackedLinear(layer.linear1.weight, layer.linear1.bias)
        self._narrow = _PackedLinear(layer.linear2.weight, layer.linear2.bias)

    def add_to(self, x: Tensor) -> Tensor:
        parts = torch.split(x, _FRAMES_IN_CACHE)
        return _concatenate([self._narrow.add_to(part, self._widen.relu(part)) for part in parts])


class _PackedLinear:
    """x Wᵀ + b for x (N, in), computed by oneDNN if that is available and faster, else by torch.addmm."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        self._weight = weight
        self._bias = weight.new_zeros(len(weight)) if bias is None else bias
        large = weight.numel() * _FRAMES_IN_CACHE >= _MIN_PACKED_PRODUCTS and weight.dtype == torch.float32
        usable = large and is_onednn_usable(weight.device.type)
        self._packed = onednn_ops().pack(weight.contiguous(), None) if usable else None

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addmm(self._bias, x, self._weight.t())

    def relu(self, x: Tensor) -> Tensor:
        """Return the result with negative values replaced by 0."""
        if (packed := self._packed_for(x)) is not None:
            return onednn_ops().linear(x, packed, self._bias, "relu", [], "")
        return self(x).relu_()

    def add_to(self, other: Tensor, x: Tensor) -> Tensor:
        """Return the result plus `other`."""
        if x.is_contiguous() and (packed := self._packed_for(x)) is not None:
            return onednn_ops().linear_add(x, other, packed, self._bias, "add")
        return torch.addmm(other, x, self._weight.t()).add_(self._bias)

    def multiply_transposed(self, x: Tensor) -> Tensor:
        """Return W xᵀ, (out, N), without the bias."""
        if self._packed_for(x) is not None:
            return onednn_ops().linear(self._weight, x, None, "none", [], "")
        return torch.mm(self._weight, x.t())

    def _packed_for(self, x: Tensor) -> Tensor | None:
        """Return the packed weight if oneDNN is faster for this input, else None."""
        return self._packed if len(x) * self._weight.numel() >= _MIN_PACKED_PRODUCTS else None


class _OneDnnOps(NamedTuple):
    pack: Callable[..., Tensor]
    linear: Callable[..., Tensor]
    linear_add: Callable[..., Tensor]


@cache
def onednn_ops() -> _OneDnnOps:
    """Return torch's oneDNN operators; raises `AttributeError` if this torch lacks them."""
    ops = torch.ops.mkldnn
    return _OneDnnOps(ops._reorder_linear_weight, ops._linear_pointwise.default, ops._linear_pointwise.binary)


@cache
def is_onednn_usable(device: str) -> bool:
    """Return whether a device has the oneDNN operators and they give the same results as torch.addmm.

    torch's compiler uses them for frozen models, but they are not documented: another version may lack or change them.
    In that case, only documented operators are used.
    """
    if device != "cpu":
        return False
    weight, x, other = (torch.linspace(-1, 1, 12 * rows).view(rows, 12) for rows in (12, 3, 3))
    expected = torch.addmm(weight[0], x, weight.t())
    try:
        pack, linear, linear_add = onednn_ops()
        packed = pack(weight, None)
        pairs = (
            (linear(x, packed, weight[0], "relu", [], ""), expected.relu()),
            (linear_add(x, other, packed, weight[0], "add"), expected + other),
            (linear(weight, x, None, "none", [], ""), weight @ x.t()),
        )
    except (RuntimeError, AttributeError, TypeError, ValueError):
        return False
    return all(torch.allclose(actual, correct, atol=1e-5) for actual, correct in pairs)


def _concatenate(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Concatenate tensors; return a single tensor without a copy."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)


def _layer_norm(norm: nn.LayerNorm, eps: float | None = None) -> Callable[[Tensor], Tensor]:
    shape, weight, bias, eps = norm.normalized_shape, norm.weight, norm.bias, norm.eps if eps is None else eps
    return lambda x: torch.layer_norm(x, shape, weight, bias, eps)
