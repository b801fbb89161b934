"""Evaluation: predictions of the serving code for labeled clips, and the figures from them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from spoter.errors import DataError
from spoter.serving.recognizer import Recognizer
from spoter.training.data import read_dataset
from spoter.training.data.split_record import SPLIT, read_split
from spoter.training.evaluation import evaluate as module
from spoter.training.evaluation import report
from spoter.training.evaluation.evaluate import evaluate
from spoter.training.evaluation.predictions import predict
from spoter.training.evaluation.robustness import AS_RECORDED, CONDITIONS
from tests.training.datasets import GLOSSES, generated_points, write_hdf5
from tests.training.evaluation.trained import Oracle, member, write_model

pytestmark = pytest.mark.slow


def test_scores_are_stored_by_label_index_and_refused_clips_have_none():
    predictions = predict(
        Oracle(known_from=0.6),
        [member("B", [0.2, 0.7, 0.1]), member("C", [0.5, 0.2, 0.3], name="m"), member("X", None, name="bad")],
    )
    assert predictions.labels.tolist() == [1, 2, -1]
    assert predictions.scores[:2].tolist() == [[0.2, 0.7, 0.1], [0.5, 0.2, 0.3]]
    assert np.isnan(predictions.scores[2]).all() and predictions.refused == {"bad": "no_usable_frames"}
    assert predictions.right().tolist() == [True, False, False]
    assert predictions.known[:2].tolist() == [1.0, 0.0] and predictions.similarities[:2].tolist() == [0.7, 0.5]
    assert np.isnan([predictions.known[2], predictions.similarities[2]]).all()
    assert np.isnan(predict(Oracle(), [member("B", [0.2, 0.7, 0.1])]).known).all()


def test_figures_are_those_of_single_predictions(folder, data):
    evaluation = evaluate(folder, data, split="test", robust=False)
    recognizer = Recognizer.load(folder)
    assert read_split(folder / SPLIT).split.groups("test") == ("camera03", "camera04")
    assert set(evaluation.predictions.groups) == {"camera03", "camera04"} and evaluation.figures.clips == 18
    correct = 0
    for clip in read_dataset(data).clips:
        if clip.group in ("camera03", "camera04"):
            (prediction,) = recognizer.recognize([clip.clip])
            correct += prediction.glosses[0].gloss == clip.gloss
            row = evaluation.predictions.names.index(clip.name)
            assert evaluation.predictions.scores[row].max() == pytest.approx(prediction.glosses[0].score, abs=1e-5)
    assert 0 < correct < 18  # the random weights are right for some clips
    assert evaluation.figures.top1.value == pytest.approx(correct / 18)
    assert evaluation.figures.top5.value == 1.0  # there are only three glosses
    assert evaluation.trained_on == 0 and evaluation.robustness == ()
    assert evaluate(folder, data, robust=False).trained_on == 18


def test_robustness_is_the_evaluation_of_changed_clips(folder, data):
    evaluation = evaluate(folder, data, ["camera03"])
    assert [row.condition for row in evaluation.robustness] == [AS_RECORDED, *CONDITIONS]
    assert evaluation.robustness[0].top1 == evaluation.figures.top1
    assert {row.refused for row in evaluation.robustness} == {0}
    recognizer = Recognizer.load(folder)
    clips = [clip for clip in read_dataset(data).clips if clip.group == "camera03"]
    tilt = next(condition for condition in CONDITIONS if condition.key == "tilt_right")
    expected = [
        recognizer.recognize([tilt.apply(clip.clip, clip.name, 0)])[0].glosses[0].gloss == clip.gloss
        for clip in clips
    ]  # fmt: skip
    row = next(row for row in evaluation.robustness if row.condition is tilt)
    assert row.top1.value == pytest.approx(np.mean(expected))
    scores = {row.condition.key: predict(recognizer, clips, row.condition).scores for row in evaluation.robustness[1:]}
    unchanged = evaluation.predictions.scores
    assert all(not np.allclose(scores[key], unchanged, atol=1e-7) for key in scores)


def test_clip_made_too_long_by_a_condition_is_refused_in_its_row(folder, tmp_path):
    points = generated_points("WAVE", 40, np.random.default_rng(0))
    data = write_hdf5(tmp_path / "long.hdf5", [("camera00/a", "WAVE", points)])
    evaluation = evaluate(folder, data)
    refused = {row.condition.key: row.refused for row in evaluation.robustness}
    assert refused.pop("double_rate") == 1 and set(refused.values()) == {0}  # 79 frames, at most 64 allowed
    double = next(row for row in evaluation.robustness if row.condition.key == "double_rate")
    assert double.top1.value == 0.0 and double.top1.low is None


def test_refused_clip_counts_as_wrong(folder, tmp_path):
    rng = np.random.default_rng(0)
    headless = generated_points("WAVE", 20, rng)
    headless[:, 11:13] = 0  # no shoulders: the size of the signer is unknown
    clips = [
        ("camera00/good", "WAVE", generated_points("WAVE", 20, rng)),
        ("camera00/headless", "WAVE", headless),
        ("camera00/long", "WAVE", generated_points("WAVE", 65, rng)),
    ]
    evaluation = evaluate(folder, write_hdf5(tmp_path / "some.hdf5", clips), robust=False)
    assert evaluation.predictions.refused == {
        "camera00/headless": "no_usable_frames",
        "camera00/long": "too_many_frames",
    }
    assert evaluation.figures.clips == 3 and evaluation.figures.top5.value == pytest.approx(1 / 3)
    row = evaluation.predictions.confusion()[GLOSSES.index("WAVE")]
    assert row[-1] == 2 and row.sum() == 3  # last column: refused


def test_unknown_glosses_are_an_error_or_counted(tmp_path, data, folder):
    two = write_model(tmp_path / "two", GLOSSES[:2])
    with pytest.raises(DataError, match=r"signs\.hdf5: .*\b1\b.*WAVE.*\b2\b.*--unknown count"):
        evaluate(two, data)
    evaluation = evaluate(two, data, count_unknown=True, robust=False)
    assert evaluation.trained_on == 12  # among the 36 evaluated clips, not among all 54
    assert evaluation.figures.clips == 36 and set(evaluation.predictions.labels) == {0, 1}
    assert (evaluation.unknown.glosses, evaluation.unknown.clips) == (("WAVE",), 18)
    assert (evaluation.unknown.auroc, evaluation.unknown.called_unknown, evaluation.known) == (
        None,
        None,
        None,
    )  # no detection
    none = write_hdf5(tmp_path / "none.hdf5", [("g/a", "SHRUG", generated_points("NOD", 8, np.random.default_rng(0)))])
    with pytest.raises(DataError, match=r"none\.hdf5: .*SHRUG"):
        evaluate(folder, none, count_unknown=True)


def test_figures_on_the_detection_of_unknown_signs(monkeypatch, tmp_path):
    clips = [
        member("A", [0.9, 0.1, 0.0], "g1", "a"), member("B", [0.3, 0.4, 0.3], "g2", "b"),
        member("B", [0.1, 0.6, 0.3], "g2", "c"), member("X", [0.5, 0.3, 0.2], "g1", "d"),
        member("X", [0.7, 0.2, 0.1], "g2", "e"), member("Y", None, "g2", "f"),
    ]  # fmt: skip
    data_set = SimpleNamespace(clips=clips, skipped=[], digest=lambda: "0" * 64)
    oracle = Oracle(known_from=0.55)
    oracle.config = SimpleNamespace(name="oracle", version="1.0", estimator="mediapipe")
    monkeypatch.setattr(module, "read_dataset", lambda *_, **__: data_set)
    monkeypatch.setattr(module.Recognizer, "load", lambda *_: oracle)
    evaluation = evaluate(tmp_path, tmp_path / "made-up", count_unknown=True, robust=False)
    assert evaluation.known == pytest.approx(2 / 3)  # 0.9 and 0.6, not 0.4
    unknown = evaluation.unknown
    assert (unknown.glosses, unknown.clips) == (("X", "Y"), 3)
    assert unknown.called_unknown == pytest.approx(1 / 2)  # 0.5; the refused clip does not count
    assert unknown.falsely_called_unknown == pytest.approx(1 / 3)
    assert unknown.auroc.value == pytest.approx(3 / 6)  # 0.9 exceeds both, 0.6 one, 0.4 none
    assert unknown.auroc.low <= 0.5 <= unknown.auroc.high
    text = report.render_page(evaluation, report.draw_pictures(evaluation))
    assert "AUROC 0.500" in text and "50.0%" in text and "66.7%" in text


def test_landmarks_of_another_estimator_are_evaluated_and_reported(folder, data, monkeypatch):
    data_set = read_dataset(data)
    others = [replace(clip, clip=replace(clip.clip, estimator="openpose")) for clip in data_set.clips]
    assert evaluate(folder, data, robust=False).side == "all clips"
    monkeypatch.setattr(module, "read_dataset", lambda *_, **__: replace(data_set, clips=others))
    side = evaluate(folder, data, robust=False).side
    assert side.startswith("all clips; ") and side.index("openpose") < side.index("mediapipe")


def test_missing_devices_groups_and_subsets_are_refused(folder, data):
    for name in ("xx", "cuda:99"):
        with pytest.raises(DataError, match=f"'{name}'"):
            evaluate(folder, data, device=name)
    with pytest.raises(DataError, match=r"--groups: .*'camera09'"):
        evaluate(folder, data, ["camera09"])
    with pytest.raises(DataError, match=r"'exam'.*train, validation, test"):
        evaluate(folder, data, split="exam")


def test_bundled_model_on_its_test_cameras(dgs11, shared_data):
    evaluation = evaluate(dgs11, shared_data / "dgs11-train.hdf5", split="test", robust=False)
    assert evaluation.figures.clips == 106 and evaluation.figures.groups == 5
    assert evaluation.figures.top1.value >= 0.95 and evaluation.figures.macro_f1.value >= 0.95
    assert evaluation.trained_on == 0
