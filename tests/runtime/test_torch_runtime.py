"""The torch runtime computes the same results as the trained network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spoter.fewshot.prototypes import embedding_size
from spoter.model.config import Sizes
from spoter.model.network import Spoter, embed
from spoter.runtime import torch_runtime
from spoter.runtime.torch_runtime import FusedSpoter, TorchRuntime

SIZES = Sizes(
    width=108, heads=9, encoder_layers=2, decoder_layers=2, encoder_feedforward=2048, decoder_feedforward=48,
    position_rows=600, classes=7,
)  # fmt: skip
# One frame, fewer frames than parts of an embedding, two equal lengths, and enough to split a feed-forward.
LENGTHS = (60, 1, 3, 60, 17, 512)


def make(sizes: Sizes = SIZES, positions: str = "shared") -> Spoter:
    """Return a model with random weights, biases and norms, whose attention prefers some frames."""
    torch.manual_seed(0)
    model = Spoter(sizes, positions).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "in_proj_weight" in name:
                parameter *= 3
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@torch.inference_mode()
def assert_same(model: Spoter, lengths: tuple[int, ...], tolerance: float) -> None:
    clips = [torch.randn(count, model.sizes.width, dtype=model.pos.dtype) for count in lengths]
    logits, embeddings = FusedSpoter(model)(clips, True)
    assert logits.shape == (len(clips), model.sizes.classes)
    assert embeddings.shape == (len(clips), embedding_size(model.sizes.width))
    for clip, row, pooled in zip(clips, logits, embeddings, strict=True):
        expected, first_layer = model.logits_and_first_layer(clip[None])
        torch.testing.assert_close(row, expected[0], atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(pooled, embed(first_layer)[0], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("positions", ["shared", "per-frame"])
@pytest.mark.parametrize("lengths", [(60,), (1,), (20,) * 5, LENGTHS])
def test_clips_of_any_lengths_give_the_same_results(positions, lengths):
    assert_same(make(positions=positions), lengths, 2e-5)


@pytest.mark.parametrize("layers", [(1, 1), (1, 6), (6, 1), (6, 6)])
@pytest.mark.parametrize("heads", [1, 2, 9])
def test_models_of_any_sizes_give_the_same_results(layers, heads):
    """In float64, where rounding cannot hide an error."""
    encoder, decoder = layers
    sizes = replace(SIZES, heads=heads, encoder_layers=encoder, decoder_layers=decoder, encoder_feedforward=64)
    assert_same(make(sizes).double(), (30, 2, 30), 1e-9)


def test_results_are_the_same_without_onednn(monkeypatch):
    """The documented operators are used if the oneDNN operators are missing."""
    monkeypatch.setattr(torch_runtime, "is_onednn_usable", lambda device: False)
    assert_same(make(), LENGTHS, 2e-5)


def test_unexpected_operators_of_another_torch_are_not_used(monkeypatch):
    """Operators that are missing, have other parameters, or give other results."""

    def missing():
        raise AttributeError("no such operator")

    ops = torch_runtime.onednn_ops()
    replacements = [
        missing,
        lambda: ops._replace(linear=lambda *_: torch.zeros(3, 12)),
        lambda: ops._replace(linear_add=lambda x: x),
        lambda: ops._replace(linear_add=lambda x, other, *more: ops.linear_add(x, 2 * other, *more)),
    ]
    for replacement in replacements:
        torch_runtime.is_onednn_usable.cache_clear()
        monkeypatch.setattr(torch_runtime, "onednn_ops", replacement)
        assert not torch_runtime.is_onednn_usable("cpu")
    torch_runtime.is_onednn_usable.cache_clear()
    assert not torch_runtime.is_onednn_usable("cuda")


def test_more_frames_than_positions_are_an_error():
    model = make(replace(SIZES, position_rows=10), "per-frame")
    with pytest.raises(RuntimeError):
        FusedSpoter(model)([torch.randn(11, 108)], False)


def test_embeddings_are_computed_only_on_request(monkeypatch):
    runtime = TorchRuntime(make())
    features = [np.random.default_rng(0).uniform(-1, 1, (20, 108)).astype(np.float32)]
    logits, embeddings = runtime.run(features, True)
    monkeypatch.setattr(torch_runtime, "embed", None)
    logits_only, no_embeddings = runtime.run(features, False)
    np.testing.assert_array_equal(logits_only, logits)
    assert embeddings.shape == (1, embedding_size(108)) and no_embeddings.shape == (1, 0)


def test_no_clips_give_empty_results():
    logits, embeddings = TorchRuntime(make()).run([], True)
    assert logits.shape == (0, 7) and len(embeddings) == 0
