"""Metrics of predictions for labeled clips: accuracy, macro F1, intervals, calibration."""

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
_DRAWS_PER_BLOCK = 100  # limits memory: a block has a number for each draw and clip


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval; the ends are None for fewer than two groups."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Figures:
    """The figures of a set of predictions; `nll` and `brier` as `Predictions.loss` and `Predictions.brier`."""

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
    """One row of the table of glosses; `taken_for` has the wrong predictions and their counts, most frequent first."""

    gloss: str
    clips: int
    right: int
    precision: float
    recall: float
    f1: float
    taken_for: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Reliability:
    """Clips in equal bins by their highest score; `score` and `right` are NaN in an empty bin."""

    edges: Float64Array  # (bins + 1,)
    counts: IntArray  # (bins,)
    score: Float64Array  # (bins,), mean highest score of the clips in a bin
    right: Float64Array  # (bins,), share of the clips in a bin that are correct

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean of |right - score|, weighted by counts; NaN without clips."""
        if not self.counts.sum():
            return float("nan")
        return float(np.nansum(self.counts * np.abs(self.right - self.score)) / self.counts.sum())


def compute_figures(predictions: Predictions, seed: int = 0) -> Figures:
    """Return all figures of predictions for clips of known glosses; `seed` is the seed of the bootstrap."""
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
    """Return the 95 % percentile interval of a statistic by the cluster bootstrap: groups are drawn with replacement.

    Clips of one group (camera, signer) are similar, so drawing single clips would make the interval too narrow.
    B. Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7, 1979; for units other than
    single observations, and percentile intervals: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
    chapters 8 and 13.

    `groups` has the group of each clip. `statistic` gets the number of times that each clip was drawn (draws, clips),
    and returns one number per draw; NaN are ignored. The ends are None for fewer than two groups and if all are NaN.
    """
    names, number = np.unique(np.array(groups), return_inverse=True)
    if len(names) < 2:
        return None, None
    rng = np.random.default_rng(seed)
    parts = []
    for start in range(0, draws, _DRAWS_PER_BLOCK):
        size = min(_DRAWS_PER_BLOCK, draws - start)
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

    F1 = 2 * true positives / (clips of the gloss + predictions of the gloss). scikit-learn would need 1 ms per draw.
    """
    classes = np.arange(max(labels.max(), first.max()) + 1)
    is_true, is_predicted = labels[:, None] == classes, first[:, None] == classes
    masks = (is_true, is_predicted, is_true & is_predicted)
    occurring, predicted, correct = (drawn @ mask.astype(float) for mask in masks)
    f1 = 2 * correct / np.maximum(occurring + predicted, 1)
    mean: Float64Array = f1.sum(axis=1, where=occurring > 0) / np.count_nonzero(occurring, axis=1)
    return mean


def compute_gloss_figures(predictions: Predictions) -> list[GlossFigures]:
    """Return one row per gloss that occurs, in the order of label indices."""
    occurring = np.unique(predictions.labels)
    table = predictions.confusion()
    columns = (*predictions.glosses, "(refused)")
    shares = precision_recall_fscore_support(predictions.labels, predictions.first, labels=occurring, zero_division=0)
    rows = []
    for label, precision, recall, f1, clips in zip(occurring, *shares, strict=True):
        counts = table[label]
        wrong = (k for k in np.argsort(-counts, kind="stable") if counts[k] and k != label)
        taken_for = tuple((columns[k], int(counts[k])) for k in wrong)
        values = (float(precision), float(recall), float(f1))
        rows.append(GlossFigures(columns[label], int(clips), int(counts[label]), *values, taken_for))
    return rows


def compute_reliability(predictions: Predictions, bins: int = BINS) -> Reliability:
    """Sort the clips that were not refused into equal bins of their highest score.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equations 2 to 5: bin m of M holds the scores in
    ((m - 1) / M, m / M], M = 15. With few clips, the expected calibration error is noisy and too high, because the
    accuracy of each bin differs from its score by chance (`ece_by_chance`).
    """
    answered = predictions.answered
    top, right = predictions.scores[answered].max(axis=1), predictions.right()[answered]
    place = _bin(top, bins)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        score, correct = (np.bincount(place, weights=each, minlength=bins) / counts for each in (top, right))
    return Reliability(np.linspace(0, 1, bins + 1), counts, score, correct)


def _bin(scores: Float64Array, bins: int) -> IntArray:
    return np.clip(np.ceil(scores * bins).astype(np.int64) - 1, 0, bins - 1)


def ece_by_chance(predictions: Predictions, seed: int = 0, draws: int = 500) -> float:
    """Return the mean ECE of a perfectly calibrated model with the same number of clips and the same scores.

    Correctness is drawn from the scores, as in the consistency resampling of Bröcker and Smith, "Increasing
    the Reliability of Reliability Diagrams", Weather and Forecasting 22, 2007.
    """
    top = predictions.scores[predictions.answered].max(axis=1)
    if not len(top):
        return float("nan")
    right = np.random.default_rng(seed).random((draws, len(top))) < top
    members = np.eye(BINS)[_bin(top, BINS)]  # (clips, bins)
    return float(np.abs((right - top) @ members).sum(axis=1).mean() / len(top))


def mean_ignoring_nan(values: Float64Array) -> float | None:
    """Return the mean of the values that are not NaN; None if all are NaN."""
    return None if np.isnan(values).all() else float(np.nanmean(values))


def auroc(similarities: Float64Array, is_known: BoolArray, groups: tuple[str, ...], seed: int = 0) -> Figure | None:
    """Return the area under the ROC curve for separating known from unknown signs; None if all clips are of one kind.

    `similarities`, `is_known` and `groups` have one value per clip; similarities are higher for known signs. The
    interval uses 500 draws: each takes about 1 ms.
    """
    if is_known.all() or not is_known.any():
        return None

    def compute_areas(drawn: Float64Array) -> Float64Array:
        both = (drawn @ is_known > 0) & (drawn @ ~is_known > 0)  # a draw may hold only one kind of clips
        areas = (roc_auc_score(is_known, similarities, sample_weight=row) for row in drawn[both])
        return np.fromiter(areas, dtype=float)

    return Figure(
        float(roc_auc_score(is_known, similarities)), *group_bootstrap(groups, compute_areas, seed, draws=500)
    )
