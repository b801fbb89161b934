"""Models for evaluation: one with random weights, and one with given scores."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import torch

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats.response import ModelName, Prediction, Ranked
from spoter.landmarks.layouts import load_layout
from spoter.model.config import ModelConfig, Sizes
from spoter.model.folder import write_model_folder
from spoter.model.network import Spoter

HIDDEN = dict(heads=4, encoder_layers=1, decoder_layers=1, encoder_feedforward=16, decoder_feedforward=16)


def write_model(out: Path, glosses: tuple[str, ...]) -> Path:
    """Write a model folder with random weights, some of whose predictions are correct, and a split of the groups."""
    layout = load_layout("54")
    sizes = Sizes(width=2 * len(layout), position_rows=64, classes=len(glosses), **HIDDEN)
    torch.manual_seed(1)
    model = Spoter(sizes, "per-frame")
    config = ModelConfig(
        name="random", layout="54", positions="per-frame", max_frames=64, **sizes.config_fields()
    )  # fmt: skip
    write_model_folder(out, model.state_dict(), config, glosses, "# random\n")
    subsets = {"train": ["camera00", "camera01"], "validation": ["camera02"], "test": ["camera03", "camera04"]}
    (out / "split.json").write_text(
        json.dumps({"seed": 0} | {name: {"groups": groups} for name, groups in subsets.items()})
    )
    return out


class Oracle:
    """A replacement for Recognizer that returns the scores in a clip of `member`; None makes it refuse the clip."""

    def __init__(self, glosses=("A", "B", "C"), known_from=None):
        self.glosses, self.known_from = glosses, known_from

    def recognize(self, clips, top_k):
        return [self._predict(clip.scores) for clip in clips]

    def _predict(self, scores):
        if scores is None:
            return InputError(ErrorCode.NO_USABLE_FRAMES, "found no usable frame")
        order = sorted(range(len(scores)), key=lambda k: -scores[k])
        ranked = [Ranked(self.glosses[k], scores[k], k) for k in order]
        known = None if self.known_from is None else max(scores) >= self.known_from
        similarity = None if known is None else max(scores)
        return Prediction(tuple(ranked), known, 9, ModelName("oracle", "1.0"), similarity)


def member(gloss, scores, group="g", name="n"):
    """Return a replacement for a labeled clip, with the scores that `Oracle` returns for it."""
    return SimpleNamespace(clip=SimpleNamespace(scores=scores, estimator=None), gloss=gloss, group=group, name=name)
