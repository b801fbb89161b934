"""Figures of a model's predictions for labelled clips: accuracy, macro F1, intervals, calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score, precision_recall_fscore_support, roc_auc_score

from spoter.landmarks.arrays import BoolArray, Float64Array
from spoter.training.evaluation.predictions import Predictions

IntArray = npt.NDArray[np.int64]

DRAWS = 2000
BINS = 15
_AT_ONCE = 100  # draws: that many times the clips is what memory holds


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval; None where there are fewer than two groups to tell it from."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Figures:
    """The figures of one set of answers; `nll` and `brier` as `Predictions.loss` and `Predictions.brier`."""

    clips: int
    groups: int
    refused: int
    top1: Figure
    top5: Figure
    macro_f1: Figure
    ece: float
    ece_by_chance: float
    nll: float
    brier: float


@dataclass(frozen=True)
class GlossFigures:
    """One row of the per-gloss table; `taken_for` holds the wrong first answers and their counts, most first."""

    gloss: str
    clips: int
    right: int
    precision: float
    recall: float
    f1: float
    taken_for: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Reliability:
    """Clips by their highest score, in equal bins; `score` and `right` are NaN in an empty bin."""

    edges: Float64Array  # (bins + 1,)
    counts: IntArray  # (bins,)
    score: Float64Array  # (bins,), the mean highest score in a bin
    right: Float64Array  # (bins,), the share of its clips that were right

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean of |right - score|, weighted by counts; NaN without any clip."""
        if not self.counts.sum():
            return float("nan")
        return float(np.nansum(self.counts * np.abs(self.right - self.score)) / self.counts.sum())


def compute_figures(predictions: Predictions, seed: int = 0) -> Figures:
    """Return all figures of predictions for clips of known glosses; `seed` is the bootstrap's."""
    labels, first = predictions.labels, predictions.first
    f1 = f1_score(labels, first, labels=np.unique(labels), average="macro", zero_division=0)
    low, high = group_bootstrap(predictions.groups, lambda drawn: macro_f1(labels, first, drawn), seed)
    bins = compute_reliability(predictions)
    return Figures(
        clips=len(predictions),
        groups=len(set(predictions.groups)),
        refused=len(predictions.refused),
        top1=mean_with_interval(predictions.right(1), predictions.groups, seed),
        top5=mean_with_interval(predictions.right(5), predictions.groups, seed),
        macro_f1=Figure(float(f1), low, high),
        ece=bins.ece,
        ece_by_chance=ece_by_chance(predictions, seed),
        nll=predictions.loss(),
        brier=predictions.brier(),
    )


def mean_with_interval(hits: BoolArray | Float64Array, groups: tuple[str, ...], seed: int = 0) -> Figure:
    """Return the mean of `hits` (clips,) with its interval by `group_bootstrap`."""
    interval = group_bootstrap(groups, lambda drawn: drawn @ hits.astype(float) / drawn.sum(axis=1), seed)
    return Figure(float(hits.mean()), *interval)


def group_bootstrap(
    groups: tuple[str, ...], statistic: Callable[[Float64Array], Float64Array], seed: int = 0, draws: int = DRAWS
) -> tuple[float | None, float | None]:
    """Return the 95 % percentile interval of a statistic, drawing whole groups with replacement.

    Clips of one group (camera, signer) are alike, so that drawing single clips would claim more than is known: the
    cluster bootstrap. B. Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7, 1979;
    other units than single observations, and percentile intervals, in Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapters 8 and 13.

    `groups` are those of each clip. `statistic` is called with how often each clip was drawn, (some draws, clips), and
    returns a number for each of these draws; NaN are left out. The ends are None where there are fewer than two groups,
    or no draw has a number.
    """
    names, number = np.unique(np.array(groups), return_inverse=True)
    if len(names) < 2:
        return None, None
    rng = np.random.default_rng(seed)
    parts = []
    for start in range(0, draws, _AT_ONCE):
        size = min(_AT_ONCE, draws - start)
        drawn = rng.integers(len(names), size=(size, len(names))) + len(names) * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * len(names)).reshape(size, len(names))
        parts.append(statistic(times[:, number].astype(float)))
    values = np.concatenate(parts)
    values = values[~np.isnan(values)]
    if not len(values):
        return None, None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def macro_f1(labels: IntArray, first: IntArray, drawn: Float64Array) -> Float64Array:
    """Return the mean F1 over the glosses that occur, for each draw (draws, clips) of `group_bootstrap`.

    F1 is 2 true positives / (clips of the gloss + clips named so). scikit-learn takes a millisecond for each draw.
    """
    classes = np.arange(max(labels.max(), first.max()) + 1)
    is_gloss, is_named = labels[:, None] == classes, first[:, None] == classes
    occurring, named, both = (drawn @ hits.astype(float) for hits in (is_gloss, is_named, is_gloss & is_named))
    f1 = 2 * both / np.maximum(occurring + named, 1)
    mean: Float64Array = f1.sum(axis=1, where=occurring > 0) / np.count_nonzero(occurring, axis=1)
    return mean


def compute_gloss_figures(predictions: Predictions) -> list[GlossFigures]:
    """Return a row for each gloss that occurs, in the order of label indices."""
    occurring = np.unique(predictions.labels)
    table = predictions.confusion()
    columns = (*predictions.glosses, "(refused)")
    shares = precision_recall_fscore_support(predictions.labels, predictions.first, labels=occurring, zero_division=0)
    rows = []
    for label, precision, recall, f1, clips in zip(occurring, *shares, strict=True):
        counts = table[label]
        wrong = (k for k in np.argsort(-counts, kind="stable") if counts[k] and k != label)
        taken_for = tuple((columns[k], int(counts[k])) for k in wrong)
        shown = (float(precision), float(recall), float(f1))
        rows.append(GlossFigures(columns[label], int(clips), int(counts[label]), *shown, taken_for))
    return rows


def compute_reliability(predictions: Predictions, bins: int = BINS) -> Reliability:
    """Sort the answered clips into equal bins of their highest score.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equations 2 to 5: bin m of M holds the scores in
    ((m - 1) / M, m / M], M = 15. On few clips the expected calibration error is noisy and too high: each bin's share
    differs from its score by chance alone (`ece_by_chance`).
    """
    kept = predictions.answered
    top, right = predictions.scores[kept].max(axis=1), predictions.right()[kept]
    place = _bin(top, bins)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        score, correct = (np.bincount(place, weights=each, minlength=bins) / counts for each in (top, right))
    return Reliability(np.linspace(0, 1, bins + 1), counts, score, correct)


def _bin(scores: Float64Array, bins: int) -> IntArray:
    return np.clip(np.ceil(scores * bins).astype(np.int64) - 1, 0, bins - 1)


def ece_by_chance(predictions: Predictions, seed: int = 0, draws: int = 500) -> float:
    """Return the mean ECE that a perfectly calibrated model would show on as many clips with these scores.

    Rightness is drawn from the scores themselves, as in the consistency resampling of Bröcker and Smith, "Increasing
    the Reliability of Reliability Diagrams", Weather and Forecasting 22, 2007.
    """
    top = predictions.scores[predictions.answered].max(axis=1)
    if not len(top):
        return float("nan")
    right = np.random.default_rng(seed).random((draws, len(top))) < top
    members = np.eye(BINS)[_bin(top, BINS)]  # (clips, bins)
    return float(np.abs((right - top) @ members).sum(axis=1).mean() / len(top))


def mean_ignoring_nan(values: Float64Array) -> float | None:
    """Return the mean of the values that are not NaN; None where all are."""
    return None if np.isnan(values).all() else float(np.nanmean(values))


def auroc(similarities: Float64Array, is_known: BoolArray, groups: tuple[str, ...], seed: int = 0) -> Figure | None:
    """Return the area under the ROC curve of telling clips of known signs from others by a score; None of one kind.

    `similarities`, `is_known` and `groups` are of each clip; similarities are higher for known signs. The interval is
    of 500 draws, as each takes a millisecond.
    """
    if is_known.all() or not is_known.any():
        return None

    def of_draws(drawn: Float64Array) -> Float64Array:
        both = (drawn @ is_known > 0) & (drawn @ ~is_known > 0)  # a draw may hold clips of one kind alone
        areas = (roc_auc_score(is_known, similarities, sample_weight=row) for row in drawn[both])
        return np.fromiter(areas, dtype=float)

    return Figure(float(roc_auc_score(is_known, similarities)), *group_bootstrap(groups, of_draws, seed, draws=500))
