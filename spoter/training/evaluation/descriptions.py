"""Tables and sentences on figures, for the command, the report and the model card."""

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
    """Return a number with `digits` decimals; "-" for None and NaN."""
    return "-" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def format_interval(figure: Figure) -> str:
    """Return "0.967 to 1.000"; empty without an interval."""
    return "" if figure.low is None else f"{figure.low:.3f} to {figure.high:.3f}"


def format_confusions(row: GlossFigures, most: int = 3) -> str:
    """Return the wrong predictions for the clips of a gloss, "ICH (2), DU (1)", the most frequent first."""
    shown = ", ".join(f"{gloss} ({count})" for gloss, count in row.taken_for[:most])
    return shown + (", …" if len(row.taken_for) > most else "")


def tabulate_figures(figures: Figures) -> Table:
    """Return one row per figure: name, value, interval and meaning."""
    top1, top5, f1 = figures.top1, figures.top5, figures.macro_f1
    ece = (
        f"Mean distance between score and accuracy, over {BINS} bins of {figures.clips - figures.refused} clips. A "
        f"perfectly calibrated model would have {format_number(figures.ece_by_chance)} by chance."
    )
    rows: list[tuple[str, Figure, str]] = [
        ("top-1", top1, f"The true gloss has the highest score for {_of(top1.value, figures.clips)} clips."),
        (
            "top-5",
            top5,
            f"The true gloss has one of the five highest scores for {_of(top5.value, figures.clips)} clips.",
        ),
        ("macro F1", f1, "Harmonic mean of precision and recall, averaged over the glosses that occur."),
        ("ECE", Figure(figures.ece), ece),
        ("NLL", Figure(figures.nll), "Mean negative logarithm of the score of the true gloss: 0 is best."),
        ("Brier", Figure(figures.brier), "Mean squared error of all scores: 0 is best, 2 worst."),
    ]
    cells = [(name, format_number(figure.value), format_interval(figure), text) for name, figure, text in rows]
    return Table("Figures", ("Figure", "Value", "95 % interval", "Meaning"), range(1, 3), cells)


def tabulate_glosses(predictions: Predictions) -> Table:
    """Return one row per gloss that occurs."""
    rows = []
    for row in compute_gloss_figures(predictions):
        shares = map(format_number, (row.precision, row.recall, row.f1))
        rows.append((row.gloss, str(row.clips), str(row.right), *shares, format_confusions(row)))
    columns = ("Gloss", "Clips", "Correct", "Precision", "Recall", "F1", "Confused with")
    return Table("Glosses", columns, range(1, 6), rows)


def tabulate_robustness(rows: Sequence[ConditionFigures], digits: int = 3) -> Table:
    """Return the robustness table, with `digits` decimals for top-1 and top-5."""
    cells = [
        (row.condition.title, format_number(row.top1.value, digits), format_interval(row.top1))
        + (format_number(row.top5.value, digits), format_number(row.ece), format_number(row.known))
        + (str(row.refused), row.condition.meaning)
        for row in rows
    ]
    columns = ("Condition", "Top-1", "95 % interval", "Top-5", "ECE", "Known", "Refused", "Change")
    return Table("Robustness", columns, range(1, 7), cells)


def describe_intervals(figures: Figures) -> str:
    """Return a text on the meaning and the limits of the intervals, or on the reason why there are none."""
    if figures.top1.low is None:
        return (
            f"No intervals: all {figures.clips} clips are of one group. Clips of one group are similar and do not show "
            "the accuracy for other groups."
        )
    text = (
        f"The 95 % intervals show the uncertainty from the choice of these {figures.groups} groups: whole groups are "
        "drawn with replacement (bootstrap). "
    )
    if figures.groups < 10:
        text += "With fewer than 10 groups, they are rough and tend to be too narrow. "
    if figures.top1.value == 1.0:
        text += (
            f"Without a wrong clip, the interval is a single point. Yet even if all {figures.clips} clips were "
            f"independent, a true top-1 of {0.05 ** (1 / figures.clips):.3f} would show no error in 1 of 20 tests. "
        )
    return text.strip()


def describe_unknown_detection(known: float | None, unknown: UnknownSignFigures | None) -> list[str]:
    """Return sentences on the detection of unknown signs; parameters as in `Evaluation`."""
    if known is None:
        first = "The model does not detect unknown signs: every clip gets one of its glosses."
    else:
        first = f"Of the clips of known signs, the model calls {known:.1%} known and the rest unknown."
    if unknown is None:
        return [first, "The data have no unknown signs, so their detection was not measured."]
    sentences = [first, f"{unknown.clips} clips show unknown signs: {', '.join(unknown.glosses)}."]
    if unknown.auroc is not None:
        interval = f" (95 % interval {format_interval(unknown.auroc)})" if format_interval(unknown.auroc) else ""
        sentences.append(
            f"AUROC {format_number(unknown.auroc.value)}{interval}: the probability that a clip of a known sign has a "
            "higher similarity than a clip of an unknown sign; 0.5 is chance."
        )
    if unknown.called_unknown is not None:
        sentences.append(f"The model calls {unknown.called_unknown:.1%} of them unknown.")
    return sentences


def _of(value: float, clips: int) -> str:
    return f"{round(value * clips)} of {clips}"
