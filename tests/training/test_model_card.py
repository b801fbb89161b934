"""The model card: its figures are those of the metrics, and names of glosses and groups cannot break its tables."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from spoter.model.config import ModelConfig
from spoter.training.data import DataSet, read_dataset
from spoter.training.data.split import Split
from spoter.training.evaluation import descriptions, metrics
from spoter.training.evaluation.evaluate import ConditionFigures
from spoter.training.evaluation.predictions import predict
from spoter.training.evaluation.robustness import AS_RECORDED, CONDITIONS
from spoter.training.loop import FitResult, LabelledLogits
from spoter.training.model_card import Trained, model_card
from spoter.training.settings import TrainSettings
from tests.training.datasets import generated_points, write_hdf5
from tests.training.evaluation.trained import Oracle, member

GLOSSES = ("A", "B|b", "C")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> DataSet:
    rng = np.random.default_rng(0)
    clips = [
        (f"{group}/{gloss}{number}", gloss, generated_points("NOD", 8, rng))
        for group in ("g|0", "g1", "g2", "g3") for gloss in GLOSSES for number in range(2)
    ]  # fmt: skip
    return read_dataset(write_hdf5(tmp_path_factory.mktemp("data") / "signs.hdf5", clips))


def card_of(data: DataSet, temperature: float = 1.0, groups=("g2", "g3"), **more) -> tuple[str, Trained]:
    """Return the card of a model that predicts B|b for one A in group g3, and the data of the card."""
    scores = {"A": [0.8, 0.1, 0.1], "B|b": [0.1, 0.8, 0.1], "C": [0.1, 0.2, 0.7]}
    oracle = Oracle(GLOSSES)
    test = [
        member(clip.gloss, scores[clip.gloss], clip.group, clip.name) for clip in data.clips if clip.group in groups
    ]
    test[-1 - next(i for i, clip in enumerate(reversed(test)) if clip.gloss == "A")].clip.scores = [0.3, 0.6, 0.1]
    validation = [
        member(clip.gloss, scores[clip.gloss], clip.group, clip.name) for clip in data.clips if clip.group == "g1"
    ]
    predictions = predict(oracle, validation), predict(oracle, test)
    settings = TrainSettings(data=Path("signs.hdf5"), out=Path("m"))
    config = ModelConfig(
        name="m", layout="54", heads=4, encoder_layers=1, decoder_layers=1, encoder_feedforward=8,
        decoder_feedforward=8, position_rows=64, classes=3, temperature=temperature,
    )  # fmt: skip
    fitted = FitResult({"w": torch.zeros(5)}, 1, [{"epoch": 1}], 60.0)
    trained = Trained(config, data, Split(("g|0",), ("g1",), groups), fitted, *predictions, **more)
    return model_card("", settings, trained), trained


def rows(card: str, heading: str) -> list[list[str]]:
    """Return the cells of the table in a section; all rows have the same number of cells."""
    section = card.split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in section.splitlines()
        if line[:1] == "|"
    ]
    assert len({len(row) for row in cells}) == 1
    return cells


def test_figures_of_validation_and_test_with_intervals(data):
    card, trained = card_of(data)
    figures = metrics.compute_figures(trained.test)
    head, _, validation, test = rows(card, "Figures")
    assert dict(zip(head, validation, strict=True))["Top-1"] == "1.0000"
    assert test[:4] == ["test groups", "12", f"{11 / 12:.4f}", f"{figures.top1.low:.3f} to {figures.top1.high:.3f}"]
    assert (figures.top1.low, figures.top1.high) == (pytest.approx(5 / 6), 1.0)
    assert test[-2:] == [f"{figures.ece:.3f}", f"{figures.nll:.3f}"]
    assert "ECE at temperature 1" not in card
    assert dict(zip(head, validation, strict=True))["95 % interval"] == ""  # one group
    text = " ".join(card.split())
    assert descriptions.describe_intervals(metrics.compute_figures(trained.validation)) in text
    assert descriptions.describe_unknown_detection(None, None)[0] in text


def test_calibrated_model_also_has_the_ece_at_temperature_1(data):
    card, trained = card_of(data, temperature=0.5)
    head, *_, test = rows(card, "Figures")
    cell = dict(zip(head, test, strict=True))
    before = metrics.compute_reliability(trained.test.at_temperature(2.0)).ece
    assert cell["ECE at temperature 1"] == f"{before:.3f}" != cell["ECE"]


def test_bars_in_names_are_escaped(data):
    card, _ = card_of(data)
    assert rows(card, "Glosses")[2:] == [
        ["A", "2", "4", "3", "1.000", "0.750", r"B\|b (1)"],
        [r"B\|b", "2", "4", "4", "0.800", "1.000", ""],
        ["C", "2", "4", "4", "1.000", "1.000", ""],
    ]
    assert rows(card, "Data and split")[2] == ["train", "6", r"g\|0"]
    assert data.digest() in card and "24 clips" in card and str(data.sources[0].parent) not in card


def test_robustness_and_folds_appear_only_if_measured(data):
    short, _ = card_of(data)
    assert "## Robustness" not in short and "## Cross-validation" not in short
    robustness = tuple(
        ConditionFigures(condition, i, metrics.Figure(i / 20, 0.0, 0.7), metrics.Figure(0.9), 0.1 * i, None)
        for i, condition in enumerate((AS_RECORDED, *CONDITIONS))
    )  # fmt: skip
    scores = LabelledLogits(torch.tensor([[2.0, 1, 0], [2.0, 1, 0]]), torch.tensor([0, 1]))
    card, _ = card_of(data, robustness=robustness, folds={("g1", "g2"): scores, ("g3",): scores})
    table = rows(card, "Robustness")
    assert [row[0] for row in table[3:]] == [condition.title for condition in CONDITIONS]
    assert table[2][:2] == ["as recorded", "0.0000"]
    assert table[4][:7] == [CONDITIONS[1].title, "0.1000", "0.000 to 0.700", "0.9000", "0.200", "-", "2"]
    assert rows(card, "Cross-validation")[2:] == [
        ["g1, g2", "2", "0.5000", "1.0000"],
        ["g3", "2", "0.5000", "1.0000"],
        ["**all**", "4", "**0.5000**", "**1.0000**"],
    ]
