"""Judging: the serving path's answers to labelled clips, and what becomes of them."""

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


def test_scores_reach_their_own_gloss_and_a_refused_clip_none():
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


def test_the_figures_are_those_of_single_answers(folder, data):
    judged = evaluate(folder, data, split="test", robust=False)
    recognizer = Recognizer.load(folder)
    assert read_split(folder / SPLIT).split.groups("test") == ("camera03", "camera04")
    assert set(judged.predictions.groups) == {"camera03", "camera04"} and judged.figures.clips == 18
    right = 0
    for clip in read_dataset(data).clips:
        if clip.group in ("camera03", "camera04"):
            (answer,) = recognizer.recognize([clip.clip])
            right += answer.glosses[0].gloss == clip.gloss
            row = judged.predictions.names.index(clip.name)
            assert judged.predictions.scores[row].max() == pytest.approx(answer.glosses[0].score, abs=1e-5)
    assert 0 < right < 18  # the weights are random, but not so that the test is empty
    assert judged.figures.top1.value == pytest.approx(right / 18)
    assert judged.figures.top5.value == 1.0  # three glosses are always among five
    assert judged.trained_on == 0 and judged.robustness == ()
    assert evaluate(folder, data, robust=False).trained_on == 18


def test_robustness_is_the_same_evaluation_of_changed_clips(folder, data):
    judged = evaluate(folder, data, ["camera03"])
    assert [row.condition for row in judged.robustness] == [AS_RECORDED, *CONDITIONS]
    assert judged.robustness[0].top1 == judged.figures.top1
    assert {row.refused for row in judged.robustness} == {0}
    recognizer = Recognizer.load(folder)
    clips = [clip for clip in read_dataset(data).clips if clip.group == "camera03"]
    tilt = next(condition for condition in CONDITIONS if condition.key == "tilt_right")
    by_hand = [
        recognizer.recognize([tilt.apply(clip.clip, clip.name, 0)])[0].glosses[0].gloss == clip.gloss
        for clip in clips
    ]  # fmt: skip
    row = next(row for row in judged.robustness if row.condition is tilt)
    assert row.top1.value == pytest.approx(np.mean(by_hand))
    scores = {row.condition.key: predict(recognizer, clips, row.condition).scores for row in judged.robustness[1:]}
    plain = judged.predictions.scores
    assert all(not np.allclose(scores[key], plain, atol=1e-7) for key in scores)


def test_a_clip_that_becomes_too_long_is_refused_in_its_row(folder, tmp_path):
    points = generated_points("WAVE", 40, np.random.default_rng(0))
    data = write_hdf5(tmp_path / "long.hdf5", [("camera00/a", "WAVE", points)])
    judged = evaluate(folder, data)
    refused = {row.condition.key: row.refused for row in judged.robustness}
    assert refused.pop("double_rate") == 1 and set(refused.values()) == {0}  # 79 frames; it takes 64
    double = next(row for row in judged.robustness if row.condition.key == "double_rate")
    assert double.top1.value == 0.0 and double.top1.low is None


def test_a_clip_that_a_server_would_refuse_counts_as_wrong(folder, tmp_path):
    rng = np.random.default_rng(0)
    headless = generated_points("WAVE", 20, rng)
    headless[:, 11:13] = 0  # no shoulders: its size cannot be told
    clips = [
        ("camera00/good", "WAVE", generated_points("WAVE", 20, rng)),
        ("camera00/headless", "WAVE", headless),
        ("camera00/long", "WAVE", generated_points("WAVE", 65, rng)),
    ]
    judged = evaluate(folder, write_hdf5(tmp_path / "some.hdf5", clips), robust=False)
    assert judged.predictions.refused == {"camera00/headless": "no_usable_frames", "camera00/long": "too_many_frames"}
    assert judged.figures.clips == 3 and judged.figures.top5.value == pytest.approx(1 / 3)
    row = judged.predictions.confusion()[GLOSSES.index("WAVE")]
    assert row[-1] == 2 and row.sum() == 3  # the last column: refused


def test_glosses_the_model_does_not_know_are_named_or_counted(tmp_path, data, folder):
    two = write_model(tmp_path / "two", GLOSSES[:2])
    with pytest.raises(DataError, match="1 glosses that the model does not know: WAVE; expected some of its 2"):
        evaluate(two, data)
    judged = evaluate(two, data, count_unknown=True, robust=False)
    assert judged.trained_on == 12  # of the 36 clips that the figures are of, not of all 54
    assert judged.figures.clips == 36 and set(judged.predictions.labels) == {0, 1}
    assert (judged.unknown.glosses, judged.unknown.clips) == (("WAVE",), 18)
    assert (judged.unknown.auroc, judged.unknown.called_unknown, judged.known) == (None, None, None)  # it does not tell
    none = write_hdf5(tmp_path / "none.hdf5", [("g/a", "SHRUG", generated_points("NOD", 8, np.random.default_rng(0)))])
    with pytest.raises(DataError, match="does not know: SHRUG"):
        evaluate(folder, none, count_unknown=True)


def test_how_well_unknown_signs_are_told_apart(monkeypatch, tmp_path):
    clips = [
        member("A", [0.9, 0.1, 0.0], "g1", "a"), member("B", [0.3, 0.4, 0.3], "g2", "b"),
        member("B", [0.1, 0.6, 0.3], "g2", "c"), member("X", [0.5, 0.3, 0.2], "g1", "d"),
        member("X", [0.7, 0.2, 0.1], "g2", "e"), member("Y", None, "g2", "f"),
    ]  # fmt: skip
    read = SimpleNamespace(clips=clips, skipped=[], digest=lambda: "0" * 64)
    oracle = Oracle(known_from=0.55)
    oracle.config = SimpleNamespace(name="oracle", version="1.0", estimator="mediapipe")
    monkeypatch.setattr(module, "read_dataset", lambda *_, **__: read)
    monkeypatch.setattr(module.Recognizer, "load", lambda *_: oracle)
    judged = evaluate(tmp_path, tmp_path / "made-up", count_unknown=True, robust=False)
    assert judged.known == pytest.approx(2 / 3)  # 0.9 and 0.6, not 0.4
    unknown = judged.unknown
    assert (unknown.glosses, unknown.clips) == (("X", "Y"), 3)
    assert unknown.called_unknown == pytest.approx(1 / 2)  # 0.5; the clip that a server refuses is not counted
    assert unknown.falsely_called_unknown == pytest.approx(1 / 3)
    assert unknown.auroc.value == pytest.approx(3 / 6)  # 0.9 over both, 0.6 over one, 0.4 over none
    assert unknown.auroc.low <= 0.5 <= unknown.auroc.high
    text = report.render_page(judged, report.draw_pictures(judged))
    assert "AUROC 0.500" in text and "It calls 50.0% of them unknown" in text and "says so for 66.7%" in text


def test_landmarks_of_another_estimator_are_judged_and_told(folder, data, monkeypatch):
    read = read_dataset(data)
    others = [replace(clip, clip=replace(clip.clip, estimator="openpose")) for clip in read.clips]
    assert evaluate(folder, data, robust=False).side == "all clips"
    monkeypatch.setattr(module, "read_dataset", lambda *_, **__: replace(read, clips=others))
    side = evaluate(folder, data, robust=False).side
    assert side == "all clips; landmarks of openpose, though the model was trained on those of mediapipe"


def test_devices_and_groups_that_are_not_there(folder, data):
    for name in ("xx", "cuda:99"):
        with pytest.raises(DataError, match=f"found device '{name}'"):
            evaluate(folder, data, device=name)
    with pytest.raises(DataError, match="--groups: found no group 'camera09'"):
        evaluate(folder, data, ["camera09"])
    with pytest.raises(DataError, match="no side 'exam'"):
        evaluate(folder, data, split="exam")


def test_the_embedded_model_on_its_test_cameras(dgs11, shared_data):
    judged = evaluate(dgs11, shared_data / "dgs11-train.hdf5", split="test", robust=False)
    assert judged.figures.clips == 106 and judged.figures.groups == 5
    assert judged.figures.top1.value >= 0.95 and judged.figures.macro_f1.value >= 0.95
    assert judged.trained_on == 0
