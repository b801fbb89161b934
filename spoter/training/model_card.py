"""The model card, MODEL_CARD.md: the data, the training and the measured accuracy of a model."""

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
    """The result of a training run: a model, its predictions, and the robustness table of the test clips."""

    config: ModelConfig
    data: DataSet
    split: Split
    fitted: FitResult
    validation: Predictions
    test: Predictions
    robustness: tuple[ConditionFigures, ...] = ()
    # Logits of the models of cross-validation; each key has the groups that its model was not trained on.
    folds: dict[tuple[str, ...], LabelledLogits] = field(default_factory=dict)


def model_card(about: str, settings: TrainSettings, trained: Trained) -> str:
    """Return the text of the card: `about`, then the facts and figures of the run."""
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
        f"{config.layout}, normalization `{config.normalize}`, positions `{config.positions}`. Seed {settings.seed}, "
        f"{len(fitted.history)} epochs in {fitted.seconds / 60:.0f} minutes on {settings.device}. The weights are "
        f"those after epoch {fitted.epoch}, which has the best validation accuracy. metrics.jsonl lists all epochs. On "
        "another machine or with another number of threads, figures may differ by one or two clips: floating-point "
        "sums then have another order."
    )
    return f"## Training\n\n```sh\n{settings.command()}\n```\n\n{_paragraph(model)}"


def _data(settings: TrainSettings, data: DataSet, split: Split) -> str:
    rows = [(subset, len(split.select(data.clips, subset)), ", ".join(split.groups(subset))) for subset in SUBSETS]
    files = ", ".join(f"`{source.name}`" for source in data.sources)
    skipped = f", {len(data.skipped)} more skipped as unusable" if data.skipped else ""
    text = (
        f"{files}: {len(data.clips)} clips{skipped}; SHA-256 of their names, glosses, groups and points "
        f"`{data.digest()}`. {_split(data, split)} The validation clips were used to select the weights and to fit the "
        "temperature and the threshold of `known`. The test clips were used only for the figures."
    )
    warnings = "".join(f"\n\n{_paragraph(f'**Warning:** {sentence}')}" for sentence in find_leaks(data, split))
    return f"## Data and split\n\n{_paragraph(text)}{warnings}\n\n{_table(('Subset', 'Clips', 'Groups'), rows)}"


def _split(data: DataSet, split: Split) -> str:
    units = "whole groups" if data.grouped else "clips"
    text = f"Split by {units}, before any result of this model was known (split.json)"
    if split.validation_clips:
        return f"{text}: no test group is in another subset; validation clips are drawn from the training groups."
    return f"{text}: no group is in two subsets." if data.grouped else f"{text}."


def _figures(config: ModelConfig, subsets: dict[str, Predictions]) -> str:
    columns = ["On", "Clips", "Top-1", "95 % interval", "Top-5", "Macro F1", "95 % interval", "ECE", "Loss"]
    if rescaled := config.temperature != 1:
        columns.append("ECE at temperature 1")
    rows, notes = [], []
    for name, predictions in subsets.items():
        figures = metrics.compute_figures(predictions)
        row = [name, figures.clips, format_number(figures.top1.value, 4), format_interval(figures.top1)]
        row += [format_number(figures.top5.value, 4), format_number(figures.macro_f1.value)]
        row += [format_interval(figures.macro_f1), format_number(figures.ece), format_number(figures.nll)]
        if rescaled:
            plain = predictions.at_temperature(1 / config.temperature)
            row.append(format_number(metrics.compute_reliability(plain).ece))
        rows.append(row)
        notes.append(
            f"On the {name}: {descriptions.describe_intervals(figures)} With this number of clips, a perfectly "
            f"calibrated model would have an ECE of {format_number(figures.ece_by_chance)} by chance."
        )
    known = metrics.mean_ignoring_nan(subsets["test groups"].known)
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
    columns = ("Gloss", "Training clips", "Test clips", "Correct", "Precision", "Recall", "Confused with")
    return f"## Glosses\n\n{_table(columns, rows)}"


def _robustness(rows: Sequence[ConditionFigures]) -> str:
    table = descriptions.tabulate_robustness(rows, digits=4)
    text = (
        "The same clips, changed as by another camera, a slower machine or another estimator. Known is the share of "
        "clips that the model calls known. A clip that a server would refuse counts as wrong."
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
        f"How much the accuracy depends on the choice of test groups: {len(results)} more models with the same recipe, "
        f"each trained without one fold of groups for {settings.fold_epochs or settings.epochs} epochs. Their last "
        "weights are used; no epoch was selected."
    )
    return f"## Cross-validation\n\n{_paragraph(text)}\n\n{_table(('Left out', 'Clips', 'Top-1', 'Top-5'), rows)}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table, with bars in glosses and names of groups escaped and line breaks replaced."""
    lines = [columns, ["---"] * len(columns), *rows]
    escaped = ([" ".join(str(cell).split()).replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped)


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)
