"""Attention weights rearranged for inference: the same results from fewer products.

The softmax over scores s(q, k) = q·k / sqrt(d) does not change if a constant is added to all scores of a query, and its
weights p sum to 1. Therefore:

- The scale is folded into the query weights.
- The key bias b adds q·b to all scores of q, so it has no effect and is dropped.
- The value bias is added once, Σ p (W m + b) = W Σ p m + b, so it is folded into the bias of the output projection.
- A single query needs no keys and values of the memory m: q·(W m) = (Wᵀ q)·m, and Σ p (W m) = W (Σ p m).
- The decoder starts with a layer norm of q + q, which equals a layer norm of q with a quarter of the epsilon.
"""

import math
from typing import NamedTuple, Self

from torch import Tensor, nn

from spoter.model.network import Attention


class SelfAttention(NamedTuple):
    """Weights of an encoder layer's attention: `inward` (3D, D), `query_bias` (D,), `out` (D, D), `out_bias` (D,)."""

    inward: Tensor
    query_bias: Tensor
    out: Tensor
    out_bias: Tensor

    @classmethod
    def fold(cls, attention: Attention) -> Self:
        """Fold the weights of an attention layer."""
        inward, bias = attention.in_proj_weight.detach().clone(), attention.in_proj_bias.detach()
        width = inward.shape[1]
        scale = 1 / math.sqrt(width / attention.heads)
        inward[:width] *= scale
        out = attention.out_proj
        out_weight = out.weight.detach()
        return cls(inward, bias[:width] * scale, out_weight, out.bias.detach() + out_weight @ bias[2 * width :])


class SingleQueryAttention(NamedTuple):
    """Weights of a decoder layer's attention, in which a single query attends to a memory.

    `query` (D, D) and `query_bias` (D,) project the query. By head, `keys` (heads, D / heads, D) project the query into
    the space of the memory, and `values` (heads, D, D / heads) project the attended memory to a value. `out` (D, D) and
    `out_bias` (D,) project the output.
    """

    query: Tensor
    query_bias: Tensor
    keys: Tensor
    values: Tensor
    out: Tensor
    out_bias: Tensor

    @classmethod
    def fold(cls, attention: Attention) -> Self:
        """Fold the weights of an attention layer."""
        inward, query_bias, out, out_bias = SelfAttention.fold(attention)
        query, key, value = inward.chunk(3)
        keys, values = (weight.view(attention.heads, -1, inward.shape[1]) for weight in (key, value))
        return cls(query, query_bias, keys, values.transpose(1, 2), out, out_bias)


def epsilon_of_doubled(norm: nn.LayerNorm) -> float:
    """Return the epsilon for a layer norm of q that equals `norm` of q + q."""
    return norm.eps / 4
