"""Attention's weights rearranged for inference: the same numbers from fewer products.

Softmax over scores s(q, k) = q·k / sqrt(d) does not change when the same is added to all scores of a query, and its
weights p sum to 1. From that:

- The scale goes into the weights of queries.
- A key's bias adds q·b to all scores of q and drops out.
- A value's bias comes through once, Σ p (W m + b) = W Σ p m + b, and so belongs to the bias of the projection after it.
- One query needs no keys and values of the memory m: q·(W m) = (Wᵀ q)·m, and Σ p (W m) = W (Σ p m).
- A layer norm of q + q, as the decoder begins, is one of q with a quarter of the epsilon.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor, nn

from spoter.model.network import Attention


class SelfAttention(NamedTuple):
    """Weights of an encoder layer's attention: `inward` (3D, D) without bias but `query_bias` (D,), and `out`."""

    inward: Tensor
    query_bias: Tensor
    out: Tensor
    out_bias: Tensor

    @classmethod
    def of(cls, attention: Attention) -> SelfAttention:
        inward, bias = attention.in_proj_weight.detach().clone(), attention.in_proj_bias.detach()
        width = inward.shape[1]
        scale = 1 / math.sqrt(width / attention.heads)
        inward[:width] *= scale
        return cls(inward, bias[:width] * scale, attention.out_proj.weight.detach(), _out_bias(attention))


class SingleQueryAttention(NamedTuple):
    """Weights of a decoder layer's attention, in which a single query looks at a memory.

    `query` (D, D) with `query_bias` (D,); by head, `keys` (heads, D / heads, D), which make of a query what it asks of
    the memory itself, and `values` (heads, D, D / heads), which make a value of what it saw there; `out` (D, D) with
    `out_bias` (D,).
    """

    query: Tensor
    query_bias: Tensor
    keys: Tensor
    values: Tensor
    out: Tensor
    out_bias: Tensor

    @classmethod
    def of(cls, attention: Attention) -> SingleQueryAttention:
        inward, query_bias, out, out_bias = SelfAttention.of(attention)
        width = inward.shape[1]
        query, key, value = inward.chunk(3)
        keys = key.view(attention.heads, -1, width)
        values = value.view(attention.heads, -1, width).transpose(1, 2)
        return cls(query, query_bias, keys, values, out, out_bias)


def epsilon_of_doubled(norm: nn.LayerNorm) -> float:
    """Return the epsilon with which `norm` makes of q what it makes of q + q by its own."""
    return norm.eps / 4


def _out_bias(attention: Attention) -> Tensor:
    """Return the bias of an attention's result, with what the bias of values comes to in it."""
    out = attention.out_proj
    values = attention.in_proj_bias.detach()[2 * len(out.bias) :]
    return out.bias.detach() + out.weight.detach() @ values
