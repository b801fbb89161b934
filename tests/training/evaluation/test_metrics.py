"""Metrics, compared with values computed by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import f1_score

from spoter.training.evaluation import descriptions, metrics
from spoter.training.evaluation.predictions import Predictions

NAN = float("nan")


def predictions_of(labels, scores, groups=None, known=None, similarities=None) -> Predictions:
    """Return predictions for clips named 0, 1, …; None in `scores` is a refused clip."""
    size = len(next(row for row in scores if row is not None))
    names = tuple(str(i) for i in range(len(labels)))
    absent = np.full(len(labels), NAN)
    return Predictions(
        glosses=tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:size]),
        names=names,
        groups=tuple(groups or names),
        labels=np.array(labels),
        scores=np.array([[NAN] * size if row is None else row for row in scores], dtype=float),
        known=absent if known is None else np.array(known, dtype=float),
        similarities=absent if similarities is None else np.array(similarities, dtype=float),
        refused={name: "no_usable_frames" for name, row in zip(names, scores, strict=True) if row is None},
    )


MIXED = predictions_of(
    [0, 0, 1, 1, 1],
    [[0.9, 0.06, 0.04], [0.2, 0.7, 0.1], [0.1, 0.6, 0.3], [0.1, 0.2, 0.7], None],
    groups=["a", "a", "b", "b", "b"],
)


def test_accuracy_and_confusion_count_a_refused_clip_as_wrong():
    assert MIXED.top(1) == pytest.approx(2 / 5)
    assert MIXED.top(2) == pytest.approx(4 / 5)
    assert MIXED.top(3) == pytest.approx(4 / 5)
    assert MIXED.first.tolist() == [0, 1, 1, 2, 3]
    assert MIXED.confusion().tolist() == [[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]]


def test_equal_scores_are_ranked_by_label_index_as_in_the_recognizer():
    tied = predictions_of([1, 0], [[0.4, 0.4, 0.2], [0.4, 0.4, 0.2]])
    assert tied.first.tolist() == [0, 0]
    assert tied.right(1).tolist() == [False, True]
    assert tied.right(2).tolist() == [True, True]


def test_macro_f1_equals_the_value_by_hand_and_of_scikit_learn():
    # A: precision 1/1, recall 1/2 -> 2/3; B: precision 1/2, recall 1/3 -> 2/5; C does not occur
    assert metrics.compute_figures(MIXED).macro_f1.value == pytest.approx((2 / 3 + 2 / 5) / 2)
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels, first, times = rng.integers(0, 6, 40), rng.integers(0, 8, 40), rng.integers(0, 3, 40)
        expected = [
            f1_score(true, predicted, labels=np.unique(true), average="macro", zero_division=0)
            for true, predicted in ((labels, first), (np.repeat(labels, times), np.repeat(first, times)))
        ]
        np.testing.assert_allclose(metrics.macro_f1(labels, first, np.stack([np.ones(40), times])), expected)


def test_figures_of_each_gloss():
    first, second = metrics.compute_gloss_figures(MIXED)
    assert (first.gloss, first.clips, first.right, first.precision, first.recall) == ("A", 2, 1, 1.0, 0.5)
    assert first.taken_for == (("B", 1),)
    assert (second.gloss, second.clips, second.right) == ("B", 3, 1)
    assert (second.precision, second.recall, second.f1) == pytest.approx((1 / 2, 1 / 3, 2 / 5))
    assert second.taken_for == (("C", 1), ("(refused)", 1))


def test_expected_calibration_error_equals_the_value_by_hand():
    # Two clips with 0.9 in one bin, one of them correct: |0.5 - 0.9|; one correct clip with 0.55: |1 - 0.55|.
    predictions = predictions_of([0, 1, 0, 0], [[0.9, 0.1], [0.9, 0.1], [0.55, 0.45], None])
    bins = metrics.compute_reliability(predictions)
    assert bins.ece == pytest.approx((2 * 0.4 + 0.45) / 3)
    assert bins.counts.sum() == 3 and bins.counts[13] == 2 and bins.counts[8] == 1
    assert bins.right[13] == 0.5 and bins.score[13] == pytest.approx(0.9)
    assert np.isnan(bins.right[0])


def test_bins_include_their_upper_edge():
    predictions = predictions_of([0, 0], [[1.0, 0.0], [0.5, 0.5]])
    assert np.flatnonzero(metrics.compute_reliability(predictions).counts).tolist() == [7, 14]
    assert np.flatnonzero(metrics.compute_reliability(predictions, bins=2).counts).tolist() == [0, 1]  # 0.5 in (0, 0.5]


def test_ece_by_chance_is_the_mean_ece_of_calibrated_scores():
    rng = np.random.default_rng(0)
    top = rng.uniform(0.5, 1, 200)
    simulated = []
    for _ in range(60):
        labels = (rng.random(200) > top).astype(int)
        simulated.append(
            metrics.compute_reliability(predictions_of(labels, np.stack([top, 1 - top], axis=1).tolist())).ece
        )
    expected = metrics.ece_by_chance(predictions_of(labels, np.stack([top, 1 - top], axis=1).tolist()))
    assert expected == pytest.approx(np.mean(simulated), abs=0.005)
    certain = predictions_of([0] * 9, [[1.0, 0.0]] * 9)
    assert metrics.ece_by_chance(certain) == 0.0


def test_loss_and_brier_equal_the_values_by_hand():
    predictions = predictions_of([0, 1], [[0.8, 0.2], [0.5, 0.5]])
    assert predictions.loss() == pytest.approx(-(np.log(0.8) + np.log(0.5)) / 2)
    assert predictions.brier() == pytest.approx((2 * 0.2**2 + 2 * 0.5**2) / 2)


def test_temperature_can_be_undone():
    logits = np.random.default_rng(0).normal(size=(6, 4))

    def softmax(values):
        return np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)

    at_two = predictions_of([0] * 6, [*softmax(logits / 2.0).tolist()[:5], None])
    at_one = at_two.at_temperature(1 / 2.0).scores
    np.testing.assert_allclose(at_one[:5], softmax(logits)[:5], rtol=1e-9)
    assert np.isnan(at_one[5]).all()


def test_bootstrap_draws_whole_groups():
    hits = np.array([1.0, 1, 1, 1, 0, 0, 0, 0])
    figure = metrics.mean_with_interval(hits, ("a",) * 4 + ("b",) * 4)
    # One group is all correct and one all wrong: means 0, 1/2 and 1 with probabilities 1/4, 1/2, 1/4.
    assert (figure.value, figure.low, figure.high) == (0.5, 0.0, 1.0)
    single = metrics.mean_with_interval(hits, tuple("abcdefgh"))
    assert 0.0 < single.low < 0.5 < single.high < 1.0


def test_equal_groups_have_an_interval_without_width():
    figure = metrics.mean_with_interval(np.array([1.0, 0, 1, 0, 1, 0]), ("a", "a", "b", "b", "c", "c"))
    assert (figure.value, figure.low, figure.high) == (0.5, 0.5, 0.5)


def test_interval_of_many_groups_is_that_of_a_normal_distribution():
    hits = np.random.default_rng(0).random(400) < 0.8
    figure = metrics.mean_with_interval(hits.astype(float), tuple(map(str, range(400))))
    half = 1.96 * np.sqrt(figure.value * (1 - figure.value) / 400)
    assert (figure.low, figure.high) == pytest.approx((figure.value - half, figure.value + half), abs=0.01)


def test_interval_depends_only_on_the_seed():
    hits = np.random.default_rng(0).random(60)
    groups = tuple(str(i % 7) for i in range(60))
    assert (
        metrics.mean_with_interval(hits, groups, 3)
        == metrics.mean_with_interval(hits, groups, 3)
        != metrics.mean_with_interval(hits, groups, 4)
    )


def test_one_group_has_no_interval():
    one = metrics.compute_figures(predictions_of([0, 1], [[0.8, 0.2], [0.5, 0.5]], groups=["a", "a"]))
    assert (one.top1.low, one.top1.high, one.macro_f1.low) == (None, None, None)
    assert descriptions.format_interval(one.top1) == "" and "95 %" not in descriptions.describe_intervals(one)
    assert "95 %" in descriptions.describe_intervals(metrics.compute_figures(MIXED))


def test_description_of_intervals_without_a_wrong_clip_has_a_lower_bound():
    perfect = metrics.compute_figures(predictions_of([0] * 30, [[0.9, 0.1]] * 30, groups=list("abc") * 10))
    assert (perfect.top1.low, perfect.top1.high) == (1.0, 1.0)
    assert "0.905" in descriptions.describe_intervals(perfect)  # 0.905 ** 30 = 1/20
    few = metrics.compute_figures(predictions_of([0] * 2, [[0.9, 0.1]] * 2, groups=list("ab")))
    # With 2 clips, the rule of three (1 - 3 / clips) would give no bound.
    assert "0.224" in descriptions.describe_intervals(few)


def test_refused_clips_only_have_accuracy_0_and_no_calibration():
    mixed = predictions_of([0, 1], [[0.5, 0.5], None], groups=["a", "b"])
    none = dataclasses.replace(mixed, scores=np.full((2, 2), NAN), refused={"0": "no_frames", "1": "no_frames"})
    figures = metrics.compute_figures(none)
    assert (figures.top1.value, figures.top1.high, figures.refused) == (0.0, 0.0, 2)
    assert np.isnan([figures.ece, figures.ece_by_chance, figures.nll, figures.brier]).all()
    assert [row[1] for row in descriptions.tabulate_figures(figures).rows] == ["0.000", "0.000", "0.000", "-", "-", "-"]


def test_auroc_equals_the_value_by_hand():
    # Five of the six pairs of a known and an unknown clip are in order.
    is_known = np.array([True, True, False, False, True])
    similarities = np.array([0.9, 0.4, 0.5, 0.1, 0.6])
    figure = metrics.auroc(similarities, is_known, ("a", "b", "a", "b", "b"))
    assert figure.value == pytest.approx(5 / 6)
    # Draws of two groups: a twice 1.0 (0.9 > 0.5), b twice 1.0 (both > 0.1), one each 5/6.
    assert (figure.low, figure.high) == pytest.approx((5 / 6, 1.0))
    assert metrics.auroc(similarities, is_known, ("a",) * 5).low is None
    assert metrics.auroc(similarities[:2], is_known[:2], ("a", "b")) is None
    separate = metrics.auroc(similarities, is_known, ("a", "a", "b", "b", "a"))
    assert separate.low == separate.high == pytest.approx(5 / 6)  # draws with one kind of clips are ignored
