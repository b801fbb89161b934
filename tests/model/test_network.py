"""SPOTER computes the same results as the original, clip by clip and in padded batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spoter.model.checkpoint import infer_sizes, read_checkpoint
from spoter.model.config import Sizes
from spoter.model.network import Spoter
from tests import upstream

SIZES = Sizes(
    width=108, heads=9, encoder_layers=2, decoder_layers=1, encoder_feedforward=64, decoder_feedforward=32,
    position_rows=50, classes=7,
)  # fmt: skip


def load(state: dict, heads: int = 9, positions: str = "shared") -> Spoter:
    model = Spoter(infer_sizes(state, heads), positions)
    model.load_state_dict(state)
    return model.eval()


@torch.inference_mode()
@pytest.mark.parametrize("layers", [(1, 1), (2, 1), (3, 4)])
def test_logits_equal_those_of_the_original_with_torchs_transformer(layers):
    original = upstream.make(layers=layers)
    model = load(original.state_dict())
    for frames in (1, 2, 60):
        clip = torch.randn(frames, 108)
        torch.testing.assert_close(model(clip[None])[0], original(clip), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("weights", "logits"),
    [
        ("training-dict.pth", "logits-training-dict.npz"),
        ("whole-module.pth", "logits-whole-module.npz"),
        ("state-dict.pth", "logits-whole-module.npz"),
    ],
)
def test_logits_equal_stored_reference_logits(shared_data, weights, logits):
    model = load(read_checkpoint(shared_data / "reference" / weights).state)
    with np.load(shared_data / "reference" / logits) as reference:
        for key in (key for key in reference.files if key.startswith("input_")):
            clip = torch.from_numpy(reference[key]).flatten(1)
            expected = reference[key.replace("input", "logits")]
            np.testing.assert_allclose(model(clip[None])[0].numpy(), expected, atol=1e-4)


def test_parameters_have_the_names_and_shapes_of_the_original():
    original = {name: tuple(value.shape) for name, value in upstream.make().state_dict().items()}
    assert {name: tuple(value.shape) for name, value in Spoter(SIZES).state_dict().items()} == original


@torch.inference_mode()
@pytest.mark.parametrize("positions", ["shared", "per-frame"])
def test_a_padded_batch_equals_single_clips(positions):
    model = load(upstream.make().state_dict(), positions=positions)
    clips = [torch.randn(frames, 108) for frames in (1, 7, 50, 23)]
    lengths = torch.tensor([len(clip) for clip in clips])
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=99.0)
    together = model(batch, lengths)
    for clip, row in zip(clips, together, strict=True):
        torch.testing.assert_close(row, model(clip[None])[0], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_the_order_of_frames_matters_only_with_per_frame_positions():
    clip = torch.randn(1, 30, 108)
    reverse = clip.flip(1)
    shared = load(upstream.make().state_dict(), positions="shared")
    torch.testing.assert_close(shared(clip), shared(reverse), atol=1e-5, rtol=1e-5)
    per_frame = load(upstream.make().state_dict(), positions="per-frame")
    assert (per_frame(clip) - per_frame(reverse)).abs().max() > 0.01


@torch.inference_mode()
def test_more_frames_than_positions_is_an_error():
    with pytest.raises(RuntimeError):
        Spoter(SIZES, "per-frame").eval()(torch.zeros(1, 51, 108))


def test_every_used_parameter_gets_a_gradient():
    for positions, unused in (("shared", {"row_embed"}), ("per-frame", set())):
        model = Spoter(SIZES, positions)
        model(torch.randn(2, 50, 108), torch.tensor([50, 40])).sum().backward()
        without_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is None}
        assert without_gradient == unused


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"108 .* 7 heads"):
        Sizes(108, 7, 1, 1, 8, 8, 50, 3)
