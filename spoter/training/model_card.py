"""MODEL_CARD.md: what a model was trained on, how, and how good it is, with nothing in it that was not measured."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from spoter.model.config import ModelConfig
from spoter.training.data import DataSet
from spoter.training.data.split import SUBSETS, Split
from spoter.training.data.split_record import find_leaks
from spoter.training.evaluation import descriptions, metrics
from spoter.training.evaluation.descriptions import format_interval, format_number
from spoter.training.evaluation.evaluate import ConditionFigures
from spoter.training.evaluation.predictions import Predictions
from spoter.training.loop import FitResult, LabelledLogits
from spoter.training.settings import TrainSettings


@dataclass(frozen=True)
class Trained:
    """The outcome of a training run: a model, its predictions, and the robustness table of the test clips."""

    config: ModelConfig
    data: DataSet
    split: Split
    fitted: FitResult
    validation: Predictions
    test: Predictions
    robustness: tuple[ConditionFigures, ...] = ()
    # Logits of other models, trained by the same recipe without the groups that are the keys.
    folds: dict[tuple[str, ...], LabelledLogits] = field(default_factory=dict)


def model_card(about: str, settings: TrainSettings, trained: Trained) -> str:
    """Return the card's text: `about`, then the facts and figures of the run."""
    config, data, split, test = trained.config, trained.data, trained.split, trained.test
    parts = [
        about.strip() or f"# {config.name}\n\nA SPOTER trained on {settings.data.name}.",
        _training(settings, config, trained.fitted),
        _data(settings, data, split),
        _figures(config, {"validation groups": trained.validation, "test groups": test}),
        _glosses(data, split, test),
    ]
    if trained.robustness:
        parts.append(_robustness(trained.robustness))
    if trained.folds:
        parts.append(_folds(settings, trained.folds))
    return "\n\n".join(parts) + "\n"


def _training(settings: TrainSettings, config: ModelConfig, fitted: FitResult) -> str:
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


def _data(settings: TrainSettings, data: DataSet, split: Split) -> str:
    rows = [(side, len(split.select(data.clips, side)), ", ".join(split.groups(side))) for side in SUBSETS]
    files = ", ".join(f"`{source.name}`" for source in data.sources)
    left_out = f", {len(data.skipped)} more left out as unfit" if data.skipped else ""
    text = (
        f"{files}: {len(data.clips)} clips{left_out}; SHA-256 of their names, glosses, groups and points "
        f"`{data.digest()}`. {_split(data, split)} Validation selected the weights, and the temperature and the "
        "threshold of `known` are fitted to it; test took no part in anything."
    )
    warnings = "".join(f"\n\n{_paragraph(f'**Warning:** {sentence}')}" for sentence in find_leaks(data, split))
    return f"## Data and split\n\n{_paragraph(text)}{warnings}\n\n{_table(('Side', 'Clips', 'Groups'), rows)}"


def _split(data: DataSet, split: Split) -> str:
    units = "whole groups" if data.grouped else "clips"
    text = f"Split by {units}, before any result of this model was known (split.json)"
    if split.validation_clips:
        return f"{text}: no group of the test side is on another; validation clips are drawn from the training groups."
    return f"{text}: no group is on two sides." if data.grouped else f"{text}."


def _figures(config: ModelConfig, sides: dict[str, Predictions]) -> str:
    columns = ["On", "Clips", "Top-1", "95 % interval", "Top-5", "Macro F1", "95 % interval", "ECE", "Loss"]
    if rescaled := config.temperature != 1:
        columns.append("ECE at temperature 1")
    rows, notes = [], []
    for name, predictions in sides.items():
        figures = metrics.compute_figures(predictions)
        row = [name, figures.clips, format_number(figures.top1.value, 4), format_interval(figures.top1)]
        row += [format_number(figures.top5.value, 4), format_number(figures.macro_f1.value)]
        row += [format_interval(figures.macro_f1), format_number(figures.ece), format_number(figures.nll)]
        if rescaled:
            plain = predictions.at_temperature(1 / config.temperature)
            row.append(format_number(metrics.compute_reliability(plain).ece))
        rows.append(row)
        notes.append(
            f"On the {name}: {descriptions.describe_intervals(figures)} By chance alone scores that mean exactly what "
            f"they say would show an ECE of {format_number(figures.ece_by_chance)} there."
        )
    known = metrics.mean_ignoring_nan(sides["test groups"].known)
    notes.append(descriptions.describe_unknown_detection(known, None)[0])
    text = "\n\n".join(map(_paragraph, notes))
    return f"## Figures\n\n{_table(columns, rows)}\n\n{text}"


def _glosses(data: DataSet, split: Split, test: Predictions) -> str:
    trained = Counter(clip.gloss for clip in split.select(data.clips, "train"))
    tested = {row.gloss: row for row in metrics.compute_gloss_figures(test)}
    rows: list[tuple[object, ...]] = []
    for gloss in test.glosses:
        cells: tuple[object, ...] = (0, 0, "", "", "")
        if row := tested.get(gloss):
            shares = (format_number(row.precision), format_number(row.recall))
            cells = (row.clips, row.right, *shares, descriptions.format_confusions(row))
        rows.append((gloss, trained[gloss], *cells))
    columns = ("Gloss", "Clips trained on", "Test clips", "Right", "Precision", "Recall", "Most taken for")
    return f"## Glosses\n\n{_table(columns, rows)}"


def _robustness(rows: Sequence[ConditionFigures]) -> str:
    table = descriptions.tabulate_robustness(rows, digits=4)
    text = (
        "The same clips, as another camera, a slower machine or another estimator would have given them. Known is the "
        "share of clips of which the model says that it knows the sign. A clip that a server would refuse counts as "
        "wrong."
    )
    return f"## Robustness\n\n{_paragraph(text)}\n\n{_table(('Test groups', *table.columns[1:]), table.rows)}"


def _folds(settings: TrainSettings, results: dict[tuple[str, ...], LabelledLogits]) -> str:
    rows = [
        (", ".join(groups), len(scores.labels), f"{scores.top(1):.4f}", f"{scores.top(5):.4f}")
        for groups, scores in results.items()
    ]
    clips = sum(len(scores.labels) for scores in results.values())
    top1, top5 = (sum(s.top(k) * len(s.labels) for s in results.values()) / clips for k in (1, 5))
    rows.append(("**all**", clips, f"**{top1:.4f}**", f"**{top5:.4f}**"))
    text = (
        f"How much depends on the choice of test groups: {len(results)} more models by the same recipe, each trained "
        f"without one fold of groups for {settings.fold_epochs or settings.epochs} epochs, last weights, no selection."
    )
    return f"## Other groups left out\n\n{_paragraph(text)}\n\n{_table(('Left out', 'Clips', 'Top-1', 'Top-5'), rows)}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; what would break it in a gloss or a group's name is escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    # a clip's text may hold a bar; a line break would end the row
    escaped = ([" ".join(str(cell).split()).replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped)


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)
