"""The steps of a request, in this process, on one core."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from bench.bodies import FRAMES, compact, full_holistic
from bench.timing import Timing, in_turn
from spoter.config import Sizes
from spoter.formats import Limits, decode
from spoter.model import Spoter
from spoter.normalize import normalize
from spoter.recognizer import Recognizer
from spoter.service import Incoming, respond

# The variant that the Peruvian system ran: 6 + 6 layers, 9 heads, feed-forward 2048 and 256.
ORIGINAL = Sizes(
    width=108, heads=9, encoder_layers=6, decoder_layers=6, encoder_feedforward=2048, decoder_feedforward=256,
    position_rows=1024, classes=50,
)  # fmt: skip

JSON_LOADS = "json.loads of the full request"


def things(recognizer: Recognizer) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name; `JSON_LOADS` is the unit that ratios refer to."""
    full, small = full_holistic(), compact(recognizer.layout)
    limits, layout = Limits(), recognizer.layout
    (clip,) = decode(full, "application/json", layout, limits).clips
    points = layout.select(clip)

    def decode_and_normalize(body: bytes) -> object:
        (clip,) = decode(body, "application/json", layout, limits).clips
        return recognizer.features(clip)

    def forward(model: Spoter) -> Callable[[], object]:
        frames = torch.rand(1, FRAMES, model.sizes.width)

        def run() -> object:
            with torch.inference_mode():
                return model(frames)

        return run

    return {
        JSON_LOADS: lambda: json.loads(full),
        f"decode, full request ({len(full) / 1e6:.1f} MB)": lambda: decode(full, "application/json", layout, limits),
        f"decode, compact request ({len(small) / 1e3:.0f} kB)": lambda: decode(
            small, "application/json", layout, limits
        ),
        "select and normalise": lambda: normalize(layout.select(clip), layout, recognizer.config.normalize),
        "normalise": lambda: normalize(points, layout, recognizer.config.normalize),
        "decode and normalise, full request": lambda: decode_and_normalize(full),
        "decode and normalise, compact request": lambda: decode_and_normalize(small),
        f"forward, {recognizer.config.name}": forward(recognizer.forward.model),
        "forward, 6 + 6 layers, 9 heads, 2048 / 256": forward(Spoter(ORIGINAL).eval()),
        "whole request, full": lambda: respond(recognizer, [Incoming(full, "application/json")]),
        "whole request, compact": lambda: respond(recognizer, [Incoming(small, "application/json")]),
    }


def measure(model: Path, seconds: float) -> list[Timing]:
    """Time every step of a 60-frame request, one thread."""
    torch.set_num_threads(1)
    return in_turn(things(Recognizer.load(model)), seconds, "in process")
