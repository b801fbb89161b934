"""Figures in words, shared by the command, the report and the model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spoter.training.evaluation.evaluate import ConditionFigures, UnknownSignFigures
from spoter.training.evaluation.metrics import BINS, Figure, Figures, GlossFigures, compute_gloss_figures
from spoter.training.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Table:
    """A table for people; the cells of `numeric` columns are right-aligned."""

    title: str
    columns: tuple[str, ...]
    numeric: range
    rows: Sequence[tuple[str, ...]]


def format_number(value: float | None, digits: int = 3) -> str:
    """Return a figure's digits, "-" for what could not be measured."""
    return "-" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def format_interval(figure: Figure) -> str:
    """Return "0.967 to 1.000", or nothing where there is no interval."""
    return "" if figure.low is None else f"{figure.low:.3f} to {figure.high:.3f}"


def format_confusions(row: GlossFigures, most: int = 3) -> str:
    """Return the wrong answers to a gloss's clips, "ICH (2), DU (1)", the most frequent first."""
    shown = ", ".join(f"{gloss} ({count})" for gloss, count in row.taken_for[:most])
    return shown + (", …" if len(row.taken_for) > most else "")


def tabulate_figures(figures: Figures) -> Table:
    """Return a row for each figure: name, value, interval, and what it means."""
    top1, top5, f1 = figures.top1, figures.top5, figures.macro_f1
    ece = (
        f"How far scores are from the share that is right, over {BINS} bins of {figures.clips - figures.refused} "
        "answered clips. Scores that mean exactly what they say would show "
        f"{format_number(figures.ece_by_chance)} on them, by chance alone."
    )
    rows: list[tuple[str, Figure, str]] = [
        ("top-1", top1, f"The right gloss was the first answer for {_of(top1.value, figures.clips)} clips."),
        ("top-5", top5, f"It was among the first five answers for {_of(top5.value, figures.clips)} clips."),
        ("macro F1", f1, "The balance of precision and recall; each gloss that occurs counts the same."),
        ("ECE", Figure(figures.ece), ece),
        ("NLL", Figure(figures.nll), "Mean negative logarithm of the right gloss's score: 0 is best."),
        ("Brier", Figure(figures.brier), "Mean squared error of all scores: 0 is best, 2 worst."),
    ]
    cells = [(name, format_number(figure.value), format_interval(figure), text) for name, figure, text in rows]
    return Table("Figures", ("Figure", "Value", "95 % interval", "What it means"), range(1, 3), cells)


def tabulate_glosses(predictions: Predictions) -> Table:
    """Return a row for each gloss that occurs."""
    rows = []
    for row in compute_gloss_figures(predictions):
        shares = map(format_number, (row.precision, row.recall, row.f1))
        rows.append((row.gloss, str(row.clips), str(row.right), *shares, format_confusions(row)))
    columns = ("Gloss", "Clips", "Right", "Precision", "Recall", "F1", "Most taken for")
    return Table("Each gloss", columns, range(1, 6), rows)


def tabulate_robustness(rows: Sequence[ConditionFigures], digits: int = 3) -> Table:
    """Return the robustness table with `digits` digits of top-1 and top-5."""
    cells = [
        (row.condition.title, format_number(row.top1.value, digits), format_interval(row.top1))
        + (format_number(row.top5.value, digits), format_number(row.ece), format_number(row.known))
        + (str(row.refused), row.condition.meaning)
        for row in rows
    ]
    columns = ("Condition", "Top-1", "95 % interval", "Top-5", "ECE", "Known", "Refused", "What was done")
    return Table("Robustness", columns, range(1, 7), cells)


def describe_intervals(figures: Figures) -> str:
    """Return what the intervals say, or why there are none, and what they cannot say."""
    if figures.top1.low is None:
        return (
            f"No intervals: all {figures.clips} clips are of one group. Clips of one group are alike, so that nothing "
            "can be told about others from them."
        )
    text = (
        f"The 95 % intervals say what the choice of just these {figures.groups} groups leaves open: whole groups are "
        "drawn anew with replacement (bootstrap). "
    )
    if figures.groups < 10:
        text += "From so few groups they are rough, and rather too narrow. "
    if figures.top1.value == 1.0:
        text += (
            f"Where no clip was wrong the interval cannot be any wider than a point; even if all {figures.clips} clips "
            f"were independent, a true top-1 of {0.05 ** (1 / figures.clips):.3f} would show no error one time in "
            "twenty. "
        )
    return text.strip()


def describe_unknown_detection(known: float | None, unknown: UnknownSignFigures | None) -> list[str]:
    """Return sentences on whether the model detects signs that it does not know; parameters as in `Evaluation`."""
    if known is None:
        first = "The model does not say whether it knows a sign: whatever it is shown gets one of its glosses."
    else:
        first = f"Of the clips of signs that it knows, the model says so for {known:.1%} and calls the rest unknown."
    if unknown is None:
        return [first, "The data hold no sign that it does not know, so that telling such apart was not measured."]
    sentences = [first, f"{unknown.clips} clips show signs that it does not know: {', '.join(unknown.glosses)}."]
    if unknown.auroc is not None:
        between = f" (95 % interval {format_interval(unknown.auroc)})" if format_interval(unknown.auroc) else ""
        sentences.append(
            f"AUROC {format_number(unknown.auroc.value)}{between}: the chance that a known sign looks more known to it "
            "than an unknown one; 0.5 is guessing."
        )
    if unknown.called_unknown is not None:
        sentences.append(f"It calls {unknown.called_unknown:.1%} of them unknown.")
    return sentences


def _of(value: float, clips: int) -> str:
    return f"{round(value * clips)} of {clips}"
