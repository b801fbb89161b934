"""MODEL_CARD.md: what a model was trained on, how, and how good it is, with nothing in it that was not measured."""

from __future__ import annotations

import hashlib
import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from spoter.config import ModelConfig
from spoter.training.datasets import LabelledClip
from spoter.training.fit import Fitted, Scores
from spoter.training.settings import TrainSettings
from spoter.training.split import Split


@dataclass(frozen=True)
class Figures:
    """A model's answers to clips it was not trained on.

    Attributes
    ----------
    validation, test : Scores
    other_tempos : dict of float to Scores
        Of the test clips played in so many times the frames.
    folds : dict of tuple of str to Scores
        Of other models, trained by the same recipe without these groups.
    """

    validation: Scores
    test: Scores
    other_tempos: dict[float, Scores] = field(default_factory=dict)
    folds: dict[tuple[str, ...], Scores] = field(default_factory=dict)


def model_card(
    about: str,
    settings: TrainSettings,
    config: ModelConfig,
    glosses: Sequence[str],
    clips: Sequence[LabelledClip],
    split: Split,
    fitted: Fitted,
    figures: Figures,
) -> str:
    """Return the card's text: `about`, then what the run itself knows."""
    parts = [
        about.strip() or f"# {config.name}\n\nA SPOTER trained on {settings.data.name}.",
        _training(settings, config, fitted),
        _data(settings, clips, split),
        _figures(figures),
        _glosses(glosses, clips, split, figures.test),
    ]
    if figures.folds:
        parts.append(_folds(settings, figures.folds))
    return "\n\n".join(parts) + "\n"


def _training(settings: TrainSettings, config: ModelConfig, fitted: Fitted) -> str:
    count = sum(tensor.numel() for tensor in fitted.state.values())
    model = (
        f"{count:,} parameters: {config.encoder_layers} + {config.decoder_layers} layers, {config.heads} heads, layout "
        f"{config.layout}, normalisation `{config.normalize}`, positions `{config.positions}`. Seed {settings.seed}, "
        f"{len(fitted.history)} epochs in {fitted.seconds / 60:.0f} minutes on {settings.device}; the weights are "
        f"those after epoch {fitted.epoch}, the best on the validation groups. metrics.jsonl has every epoch. On "
        "another machine or with another number of threads floating-point sums come out in another order, and figures "
        "may differ by a clip or two."
    )
    return f"## Training\n\n```sh\n{settings.command()}\n```\n\n{_paragraph(model)}"


def _data(settings: TrainSettings, clips: Sequence[LabelledClip], split: Split) -> str:
    digest = hashlib.sha256(settings.data.read_bytes()).hexdigest()
    rows = [
        f"| {side} | {len(split.select(clips, side))} | {', '.join(getattr(split, side))} |"
        for side in ("train", "validation", "test")
    ]
    text = (
        f"`{settings.data.name}`, {len(clips)} clips, SHA-256 `{digest}`. Split by whole groups, before any result was "
        "known (split.json): no group is on two sides. Validation selected the weights; test took no part in anything."
    )
    return "\n".join(
        ["## Data and split", "", _paragraph(text), "", "| Side | Clips | Groups |", "|---|---|---|", *rows]
    )


def _figures(figures: Figures) -> str:
    named = {"validation groups": figures.validation, "test groups": figures.test}
    named |= {f"test groups, {tempo:g} x the frames": scores for tempo, scores in figures.other_tempos.items()}
    rows = []
    for name, scores in named.items():
        low, high = wilson_interval(scores.top(1), len(scores.labels))
        rows.append(
            f"| {name} | {len(scores.labels)} | {scores.top(1):.4f} | {low:.3f} to {high:.3f} | {scores.top(5):.4f} "
            f"| {scores.loss():.3f} |"
        )
    head = ["## Figures", "", "| On | Clips | Top-1 | 95 % interval | Top-5 | Loss |", "|---|---|---|---|---|---|"]
    note = (
        "The interval says what chance alone in the drawing of so many clips leaves open (Wilson's score interval). "
        "Clips of one group are alike, so that more is open than it says."
    )
    return "\n".join([*head, *rows, "", _paragraph(note)])


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share of `count` trials (E. B. Wilson, JASA 22, 1927)."""
    z2 = 1.959964**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    return middle - half, middle + half


def _glosses(glosses: Sequence[str], clips: Sequence[LabelledClip], split: Split, test: Scores) -> str:
    trained = Counter(clip.gloss for clip in split.select(clips, "train"))
    answers = test.logits.argmax(dim=1)
    rows = []
    for index, gloss in enumerate(glosses):
        of_gloss = answers[test.labels == index]
        wrong = Counter(glosses[answer] for answer in of_gloss.tolist() if answer != index)
        taken_for = ", ".join(f"{other} ({count})" for other, count in wrong.most_common())
        rows.append(f"| {gloss} | {trained[gloss]} | {len(of_gloss)} | {len(of_gloss) - wrong.total()} | {taken_for} |")
    head = ["## Glosses", "", "| Gloss | Clips trained on | Test clips | Right | Taken for |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows])


def _folds(settings: TrainSettings, results: dict[tuple[str, ...], Scores]) -> str:
    rows = [
        f"| {', '.join(groups)} | {len(scores.labels)} | {scores.top(1):.4f} | {scores.top(5):.4f} |"
        for groups, scores in results.items()
    ]
    clips = sum(len(scores.labels) for scores in results.values())
    top1, top5 = (sum(s.top(k) * len(s.labels) for s in results.values()) / clips for k in (1, 5))
    text = (
        f"How much hangs on the choice of test groups: {len(results)} more models by the same recipe, each trained "
        f"without one fold of groups for {settings.fold_epochs or settings.epochs} epochs, last weights, no selection."
    )
    head = [
        "## Other groups left out",
        "",
        _paragraph(text),
        "",
        "| Left out | Clips | Top-1 | Top-5 |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, f"| **all** | {clips} | **{top1:.4f}** | **{top5:.4f}** |"])


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)
