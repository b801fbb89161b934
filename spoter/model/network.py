"""SPOTER, the Sign Pose-based Transformer.

M. Boháček and M. Hrúz, "Sign Pose-based Transformer for Word-level Sign Language Recognition", WACV Workshops 2022.
An encoder reads the frames of a clip; a decoder without self-attention asks them one learned question, the class query;
a linear layer turns the answer into logits. Parameter names are those of the original project (``spoter_model.py``), so
that its weights load as they are.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spoter.fewshot.prototypes import PARTS
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
        """Let query (B, Q, D) look at memory (B, T, D); mask (B, 1, 1, T) is True where there is a frame."""
        if query is memory:
            q, k, v = F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        else:
            width = query.shape[-1]
            q = F.linear(query, self.in_proj_weight[:width], self.in_proj_bias[:width])
            k, v = F.linear(memory, self.in_proj_weight[width:], self.in_proj_bias[width:]).chunk(2, dim=-1)
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))  # (B, heads, ·, D / heads)
        mixed = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """A post-norm transformer encoder layer, as `torch.nn.TransformerEncoderLayer` by default."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float):
        super().__init__()
        self.self_attn = Attention(width, heads, dropout)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.norm1(x + self.dropout(self.self_attn(x, x, mask)))
        hidden = self.dropout(F.relu(self.linear1(x)))
        return self.norm2(x + self.dropout(self.linear2(hidden)))


class DecoderLayer(nn.Module):
    """A decoder layer without self-attention: with a single query there is nothing to attend to.

    The original keeps the residual sum of the step it leaves out, so the query is added to itself.
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
        query = self.norm1(query + self.dropout(query))
        query = self.norm2(query + self.dropout(self.multihead_attn(query, memory, mask)))
        hidden = self.dropout(F.relu(self.linear1(query)))
        return self.norm3(query + self.dropout(self.linear2(hidden)))


class Stack(nn.Module):
    """Layers one after another and a last norm: the encoder, or the decoder."""

    def __init__(self, layers: list[nn.Module], width: int):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(width)


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
        """Return the decoder's answer (B, 1, D), and the first encoder layer's view of the frames (B, T, D)."""
        first, *others = self.encoder.layers
        seen = frames = first(frames, mask)
        for layer in others:
            frames = layer(frames, mask)
        memory = self.encoder.norm(frames)
        for layer in self.decoder.layers:
            query = layer(query, memory, mask)
        return self.decoder.norm(query), seen


class Spoter(nn.Module):
    """SPOTER.

    Parameters
    ----------
    sizes : Sizes
    positions : str
        ``shared`` or ``per-frame``, see `spoter.model.config.ModelConfig`.
    dropout : float
        0.1 in the original; without effect outside training.
    """

    def __init__(self, sizes: Sizes, positions: str = "shared", dropout: float = 0.1):
        super().__init__()
        self.sizes = sizes
        self.positions = positions
        # `row_embed` is idle under `shared` positions: the original made `pos` from its first row and kept both.
        self.row_embed = nn.Parameter(_sinusoids(sizes.position_rows, sizes.width))
        self.pos = nn.Parameter(torch.zeros(1, 1, sizes.width))
        self.class_query = nn.Parameter(torch.rand(1, sizes.width))
        self.transformer = Transformer(sizes, dropout)
        self.linear_class = nn.Linear(sizes.width, sizes.classes)

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute logits.

        Parameters
        ----------
        frames : torch.Tensor, shape (B, T, 2K), float32
            Normalised clips (`spoter.landmarks.normalize.normalize`), the shorter ones padded at their end with any finite value.
        lengths : torch.Tensor, shape (B,), integer, optional
            Frames of each clip; not given where all have T.

        Returns
        -------
        torch.Tensor, shape (B, classes)
        """
        return self.forward_and_embed(frames, lengths)[0]

    def forward_and_embed(self, frames: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute logits, and the first encoder layer's output, shape (B, T, 2K), that `embed` pools.

        It stands before all that was learned only to tell the trained glosses apart, and so still tells others apart.
        """
        count = frames.shape[1]
        x = frames + self.pos
        if self.positions == "per-frame":
            x = x + self.row_embed[:count]  # more frames than rows cannot be broadcast and raise here
        mask = None
        if lengths is not None:
            mask = (torch.arange(count, device=frames.device) < lengths[:, None])[:, None, None]  # (B, 1, 1, T)
        query = self.class_query.expand(len(frames), 1, -1)  # (B, 1, D)
        answer, seen = self.transformer(x, query, mask)
        return self.linear_class(answer[:, 0]), seen


def embed(seen: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Pool the first encoder layer's output over time: a clip's embedding (`spoter.fewshot.prototypes`).

    Parameters
    ----------
    seen : torch.Tensor, shape (B, T, D)
        Of `Spoter.forward_and_embed`.
    lengths : torch.Tensor, shape (B,), integer, optional
        Frames of each clip; not given where all have T.

    Returns
    -------
    torch.Tensor, shape (B, (PARTS + 1) D)
        The means of each quarter of the clip, then the standard deviation over the whole of it. A clip of fewer frames
        than quarters has some frames in two of them.
    """
    if lengths is None:
        return _embed_whole(seen)
    count = seen.shape[1]
    frame = torch.arange(count, device=seen.device)
    edges = torch.arange(PARTS + 1, device=seen.device) * lengths[:, None] // PARTS  # (B, PARTS + 1)
    start, end = edges[:, :-1, None], torch.maximum(edges[:, 1:], edges[:, :-1] + 1)[..., None]
    inside = ((frame >= start) & (frame < end)).to(seen.dtype)  # (B, PARTS, T)
    means = (inside / inside.sum(dim=2, keepdim=True)) @ seen  # (B, PARTS, D)
    there = (frame < lengths[:, None]).to(seen.dtype)[..., None]  # (B, T, 1)
    whole = (seen * there).sum(dim=1, keepdim=True) / lengths[:, None, None]
    spread = (((seen - whole).square() * there).sum(dim=1) / lengths[:, None]).sqrt()  # (B, D)
    return torch.cat([means.flatten(1), spread], dim=1)


def _embed_whole(seen: Tensor) -> Tensor:
    """Do what `embed` does with clips that all have T frames, in a fraction of its steps."""
    count = seen.shape[1]
    edges = [part * count // PARTS for part in range(PARTS + 1)]
    means = [seen[:, start : max(end, start + 1)].mean(dim=1) for start, end in pairwise(edges)]
    spread = (seen - seen.mean(dim=1, keepdim=True)).square_().mean(dim=1).sqrt_()
    return torch.cat([*means, spread], dim=1)


def _sinusoids(rows: int, width: int) -> Tensor:
    """Return where learned per-frame positions start: the sinusoids of "Attention Is All You Need" (2017, section 3.5).

    A fifth of their height, so that they do not drown coordinates, most of which lie within half a unit.
    """
    # On the CPU even where checkpoint.py builds a model on the meta device: there, this would import torch's compiler.
    rate = 10000 ** (-torch.arange(0, width, 2, device="cpu") / width)
    angle = torch.arange(rows, device="cpu")[:, None] * rate
    return 0.2 * torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]
