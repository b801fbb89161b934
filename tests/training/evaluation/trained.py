"""Models to judge: one with random weights, and one that says what it is told to say."""

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
    """Write a model folder with random weights, by which some answers are right, and a split of generated groups."""
    layout = load_layout("54")
    sizes = Sizes(width=2 * len(layout), position_rows=64, classes=len(glosses), **HIDDEN)
    torch.manual_seed(1)
    model = Spoter(sizes, "per-frame")
    config = ModelConfig(
        name="random", layout="54", positions="per-frame", max_frames=64, **sizes.config_fields()
    )  # fmt: skip
    write_model_folder(out, model.state_dict(), config, glosses, "# random\n")
    sides = {"train": ["camera00", "camera01"], "validation": ["camera02"], "test": ["camera03", "camera04"]}
    (out / "split.json").write_text(
        json.dumps({"seed": 0} | {side: {"groups": groups} for side, groups in sides.items()})
    )
    return out


class Oracle:
    """Stands for a Recognizer: it answers with the scores that a clip of `member` holds; None stands for a refusal."""

    def __init__(self, glosses=("A", "B", "C"), known_from=None):
        self.glosses, self.known_from = glosses, known_from

    def recognize(self, clips, top_k):
        return [self._answer(clip.scores) for clip in clips]

    def _answer(self, scores):
        if scores is None:
            return InputError(ErrorCode.NO_USABLE_FRAMES, "nothing there")
        order = sorted(range(len(scores)), key=lambda k: -scores[k])
        ranked = [Ranked(self.glosses[k], scores[k], k) for k in order]
        known = None if self.known_from is None else max(scores) >= self.known_from
        similarity = None if known is None else max(scores)
        return Prediction(tuple(ranked), known, 9, ModelName("oracle", "1.0"), similarity)


def member(gloss, scores, group="g", name="n"):
    """Return what stands for a labelled clip."""
    return SimpleNamespace(clip=SimpleNamespace(scores=scores, estimator=None), gloss=gloss, group=group, name=name)
