"""benchmarks.training.unknown_signs with small models: draws, figures and tables; results are not computed twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.training import unknown_signs
from spoter.errors import SpoterError
from spoter.training.data import read_dataset
from spoter.training.settings import TrainSettings
from tests.training.datasets import GLOSSES, SMALL, write_hdf5

pytestmark = pytest.mark.slow


def test_every_gloss_is_drawn_before_any_is_drawn_twice():
    glosses = tuple("ABCDEFGHIJK")
    drawn = unknown_signs.draw_glosses(glosses, 11, 3, seed=0)
    assert (
        drawn
        == unknown_signs.draw_glosses(glosses, 11, 3, seed=0)
        != unknown_signs.draw_glosses(glosses, 11, 3, seed=1)
    )
    assert all(len(set(draw)) == 3 for draw in drawn)
    assert set(Counter(gloss for draw in drawn for gloss in draw).values()) == {3}
    assert len({gloss for draw in drawn[:3] for gloss in draw}) == 9


def test_draw_is_trained_and_measured_once(tmp_path, monkeypatch):
    path = write_hdf5(tmp_path / "signs.hdf5")
    data = read_dataset(path)
    settings = TrainSettings(data=path, out=tmp_path / "draw0", leave_out=GLOSSES[2:], epochs=12, **SMALL)
    figures = unknown_signs.measure_draw(settings, data, [1, 3], tries=2, seed=0)
    assert figures["leave_out"] == ["WAVE"]
    assert figures["enrolled_3"] > 0.8  # WAVE, with a raised hand, differs clearly from the two lower signs
    assert 0 <= figures["refused"] <= 1 and 0 <= figures["called_known"] <= 1
    for count in (1, 3):
        assert min(figures[f"trained_{count}"], figures[f"enrolled_{count}"]) <= figures[f"all_{count}"]
    monkeypatch.setattr(unknown_signs, "train", None)  # fails if the model is trained again
    monkeypatch.setattr(unknown_signs, "measure_enrolled", None)
    assert unknown_signs.measure_draw(settings, data, [1, 3], tries=2, seed=0) == figures
    text = unknown_signs.results_tables([figures, figures], [1, 3])
    assert f"| WAVE | {figures['top1']:.3f} | {figures['auroc']:.3f} |" in text
    assert f"| 3 clips | {figures['all_3']:.3f} (" in text


def test_auroc_exceeds_one_half_if_known_signs_are_more_similar():
    from spoter.training.evaluation.predictions import Predictions

    def answers(similarities: list[float]) -> Predictions:
        count = len(similarities)
        scores, ones = np.tile([0.7, 0.3], (count, 1)), np.ones(count)
        names = tuple(map(str, range(count)))
        labels = np.zeros(count, dtype=np.int64)
        return Predictions(("A", "B"), names, names, labels, scores, ones, np.array(similarities), {})

    figures = unknown_signs.measure_separation(answers([0.9, 0.8, 0.3]), answers([0.1, 0.2]))
    assert figures["auroc"] == 1 and figures["auroc_softmax"] == 0.5
    assert (figures["called_known"], figures["refused"]) == (1, 0)


def test_missing_data_is_an_error(tmp_path):
    with pytest.raises(SpoterError, match=r"nothing.hdf5"):
        unknown_signs.main(Path(tmp_path / "nothing.hdf5"), clips="1", out=tmp_path)
