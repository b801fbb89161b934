"""Figures in words: what the command, the report and the model card say alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spoter.training.evaluation.evaluate import ConditionFigures, UnknownSignFigures
from spoter.training.evaluation.metrics import BINS, Figure, Figures, GlossFigures


@dataclass(frozen=True)
class Row:
    """A figure as it is shown: name, value, 95 % interval (or empty), and what it means in a sentence."""

    name: str
    value: str
    interval: str
    meaning: str


@dataclass(frozen=True)
class RobustnessRow:
    """A row of the robustness table: the clips as they are, or under a condition."""

    title: str
    top1: Figure
    top5: Figure
    ece: float
    known: float | None
    refused: int
    meaning: str


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


def describe_figures(figures: Figures) -> list[Row]:
    """Return the figures of a set of answers with what each means."""
    answered = figures.clips - figures.refused
    return [
        Row(
            "top-1",
            format_number(figures.top1.value),
            format_interval(figures.top1),
            f"The right gloss was the first answer for {_of(figures.top1.value, figures.clips)} clips.",
        ),
        Row(
            "top-5",
            format_number(figures.top5.value),
            format_interval(figures.top5),
            f"It was among the first five answers for {_of(figures.top5.value, figures.clips)} clips.",
        ),
        Row(
            "macro F1",
            format_number(figures.macro_f1.value),
            format_interval(figures.macro_f1),
            "The balance of precision and recall, each gloss that occurs counting the same however many clips it has.",
        ),
        Row(
            "ECE",
            format_number(figures.ece),
            "",
            f"How far scores are from the share that is right, over {BINS} bins of {answered} answered clips. Scores "
            f"that mean exactly what they say would show {format_number(figures.ece_by_chance)} on them, by chance alone.",
        ),
        Row("NLL", format_number(figures.nll), "", "Mean negative logarithm of the right gloss's score: 0 is best."),
        Row("Brier", format_number(figures.brier), "", "Mean squared error of all scores: 0 is best, 2 worst."),
    ]


def build_robustness_rows(
    figures: Figures, known: float | None, changed: Sequence[ConditionFigures]
) -> list[RobustnessRow]:
    """Return the robustness table; its first row holds the clips as they are, of which a share `known` is known."""
    plain = (figures.top1, figures.top5, figures.ece, known, figures.refused)
    return [RobustnessRow("as recorded", *plain, "Nothing was changed.")] + [
        RobustnessRow(row.condition.title, row.top1, row.top5, row.ece, row.known, row.refused, row.condition.meaning)
        for row in changed
    ]


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
    """Return sentences on whether the model tells signs that it does not know.

    Parameters
    ----------
    known : float or None
        Share of the clips of known signs that the model says it knows.
    unknown : UnknownSignFigures or None
        What it said of signs that it does not know, where the data hold any.
    """
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
            f"AUROC {format_number(unknown.auroc.value)}{between}: the chance that a known sign looks more known to it than "
            "an unknown one; 0.5 is guessing."
        )
    if unknown.called_unknown is not None:
        sentences.append(f"It calls {unknown.called_unknown:.1%} of them unknown.")
    return sentences


def _of(value: float, clips: int) -> str:
    return f"{round(value * clips)} of {clips}"
