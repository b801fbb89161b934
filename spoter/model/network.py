"""SPOTER, the Sign Pose-based Transformer.

M. Boháček and M. Hrúz, "Sign Pose-based Transformer for Word-level Sign Language Recognition", WACV Workshops 2022.
An encoder processes the frames of a clip. A decoder without self-attention attends to them with one learned query, the
class query. A linear layer computes logits. Parameters have the names of the original project (``spoter_model.py``), so
its weights load unchanged.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Generic, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spoter.fewshot.prototypes import TIME_PARTS
from spoter.model.config import Sizes


class Attention(nn.Module):
    """Multi-head attention with the parameter names of `torch.nn.MultiheadAttention`, batch first."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """Attend with query (B, Q, D) to memory (B, T, D); mask (B, 1, 1, T) is True for frames, False for padding."""
        if query is memory:
            q, k, v = F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        else:
            width = query.shape[-1]
            q = F.linear(query, self.in_proj_weight[:width], self.in_proj_bias[:width])
            k, v = F.linear(memory, self.in_proj_weight[width:], self.in_proj_bias[width:]).chunk(2, dim=-1)
        q, k, v = (x.view(*x.shape[:2], self.heads, -1).transpose(1, 2) for x in (q, k, v))  # (B, heads, ·, D / heads)
        attended = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0)
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out


class EncoderLayer(nn.Module):
    """A post-norm transformer encoder layer, the default form of `torch.nn.TransformerEncoderLayer`."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float):
        super().__init__()
        self.self_attn = Attention(width, heads, dropout)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the layer's output (B, T, D) from frames (B, T, D); mask as in `Attention`."""
        x = self.norm1(x + self.dropout(self.self_attn(x, x, mask)))
        hidden = self.dropout(F.relu(self.linear1(x)))
        out: Tensor = self.norm2(x + self.dropout(self.linear2(hidden)))
        return out


class DecoderLayer(nn.Module):
    """A decoder layer without self-attention, which a single query does not need.

    The original keeps the residual sum of the omitted step: it adds the query to itself.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float):
        super().__init__()
        self.multihead_attn = Attention(width, heads, dropout)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """Compute a new query (B, 1, D) from query (B, 1, D) and memory (B, T, D); mask as in `Attention`."""
        query = self.norm1(query + self.dropout(query))
        query = self.norm2(query + self.dropout(self.multihead_attn(query, memory, mask)))
        hidden = self.dropout(F.relu(self.linear1(query)))
        out: Tensor = self.norm3(query + self.dropout(self.linear2(hidden)))
        return out


Layer = TypeVar("Layer", EncoderLayer, DecoderLayer)


class Stack(nn.Module, Generic[Layer]):
    """A sequence of layers and a final norm: the encoder or the decoder."""

    def __init__(self, layers: list[Layer], width: int):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(width)

    def __iter__(self) -> Iterator[Layer]:
        """Yield the layers in order."""
        return cast("Iterator[Layer]", iter(self.layers))


class Transformer(nn.Module):
    """Encoder and decoder, with the parameter names of `torch.nn.Transformer`."""

    def __init__(self, sizes: Sizes, dropout: float):
        super().__init__()
        width, heads = sizes.width, sizes.heads
        self.encoder = Stack(
            [EncoderLayer(width, heads, sizes.encoder_feedforward, dropout) for _ in range(sizes.encoder_layers)], width
        )
        self.decoder = Stack(
            [DecoderLayer(width, heads, sizes.decoder_feedforward, dropout) for _ in range(sizes.decoder_layers)], width
        )
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, frames: Tensor, query: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the output of the decoder (B, 1, D) and of the first encoder layer (B, T, D)."""
        first, *others = self.encoder
        first_output = frames = first(frames, mask)
        for encoder_layer in others:
            frames = encoder_layer(frames, mask)
        memory = self.encoder.norm(frames)
        for decoder_layer in self.decoder:
            query = decoder_layer(query, memory, mask)
        return self.decoder.norm(query), first_output


class Spoter(nn.Module):
    """SPOTER; `positions` are ``shared`` or ``per-frame``, as in `spoter.model.config.ModelConfig`."""

    def __init__(self, sizes: Sizes, positions: str = "shared", dropout: float = 0.1):
        super().__init__()
        self.sizes = sizes
        self.positions = positions
        # With `shared` positions, `row_embed` is unused: the original made `pos` from its first row and kept both.
        self.row_embed = nn.Parameter(_sinusoids(sizes.position_rows, sizes.width))
        self.pos = nn.Parameter(torch.zeros(1, 1, sizes.width))
        self.class_query = nn.Parameter(torch.rand(1, sizes.width))
        self.transformer = Transformer(sizes, dropout)
        self.linear_class = nn.Linear(sizes.width, sizes.classes)

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute logits (B, classes).

        `frames` (B, T, 2K), float32, are normalized clips (`spoter.landmarks.normalize`); shorter clips are padded at
        the end with any finite values. `lengths` (B,) are the clips' numbers of frames, by default T.
        """
        return self.logits_and_first_layer(frames, lengths)[0]

    def logits_and_first_layer(self, frames: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute logits (B, classes) and the output of the first encoder layer (B, T, 2K), which `embed` pools.

        Later layers keep only differences between trained glosses; the first layer still separates other glosses.
        """
        count = frames.shape[1]
        x = frames + self.pos
        if self.positions == "per-frame":
            x = x + self.row_embed[:count]  # raises for more frames than rows, which cannot be broadcast
        mask = None
        if lengths is not None:
            mask = (torch.arange(count, device=frames.device) < lengths[:, None])[:, None, None]  # (B, 1, 1, T)
        query = self.class_query.expand(len(frames), 1, -1)  # (B, 1, D)
        output, first_layer = self.transformer(x, query, mask)
        return self.linear_class(output[:, 0]), first_layer


def embed(first_layer: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Pool the first encoder layer's output over time: a clip's embedding (`spoter.fewshot.prototypes`).

    `first_layer` (B, T, D) comes from `Spoter.logits_and_first_layer`; `lengths` (B,) are the clips' numbers of frames,
    by default T. The result (B, (TIME_PARTS + 1) D) holds the mean of each quarter of the clip, then the standard
    deviation over all frames. In a clip with fewer frames than quarters, some frames belong to two quarters.
    """
    if lengths is None:
        return _embed_unpadded(first_layer)
    count = first_layer.shape[1]
    frame = torch.arange(count, device=first_layer.device)
    edges = torch.arange(TIME_PARTS + 1, device=first_layer.device) * lengths[:, None] // TIME_PARTS
    start, end = edges[:, :-1, None], torch.maximum(edges[:, 1:], edges[:, :-1] + 1)[..., None]
    in_part = ((frame >= start) & (frame < end)).to(first_layer.dtype)  # (B, TIME_PARTS, T)
    means = (in_part / in_part.sum(dim=2, keepdim=True)) @ first_layer  # (B, TIME_PARTS, D)
    in_clip = (frame < lengths[:, None]).to(first_layer.dtype)[..., None]  # (B, T, 1)
    mean = (first_layer * in_clip).sum(dim=1, keepdim=True) / lengths[:, None, None]
    deviation = (((first_layer - mean).square() * in_clip).sum(dim=1) / lengths[:, None]).sqrt()  # (B, D)
    return torch.cat([means.flatten(1), deviation], dim=1)


def _embed_unpadded(first_layer: Tensor) -> Tensor:
    """Compute `embed` faster, for clips that all have T frames."""
    count = first_layer.shape[1]
    edges = [part * count // TIME_PARTS for part in range(TIME_PARTS + 1)]
    means = [first_layer[:, start : max(end, start + 1)].mean(dim=1) for start, end in pairwise(edges)]
    deviation = (first_layer - first_layer.mean(dim=1, keepdim=True)).square_().mean(dim=1).sqrt_()
    return torch.cat([*means, deviation], dim=1)


def _sinusoids(rows: int, width: int) -> Tensor:
    """Return initial per-frame positions: the sinusoids of "Attention Is All You Need" (2017, section 3.5).

    The amplitude is a fifth of the paper's, because most coordinates lie between -0.5 and 0.5.
    """
    # Always on the CPU: on the meta device, where checkpoint.py builds a model, this would import torch's compiler.
    rate = 10000 ** (-torch.arange(0, width, 2, device="cpu") / width)
    angle = torch.arange(rows, device="cpu")[:, None] * rate
    return 0.2 * torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]
