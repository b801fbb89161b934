"""benchmarks.training.recipes on generated data with tiny models: runs, files and tables."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest
from sklearn.metrics import f1_score

from benchmarks.training import recipes
from spoter.errors import DataError, SpoterError
from spoter.training.augment.augmentation import Augmentation, OriginalAugmentation
from spoter.training.settings import TrainSettings
from tests.training.datasets import write_hdf5

pytestmark = pytest.mark.slow

SMALL = dict(
    heads=2, encoder_layers=1, decoder_layers=1, encoder_feedforward=16, decoder_feedforward=16, position_rows=64
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_hdf5(tmp_path_factory.mktemp("data") / "signs.hdf5")


@pytest.fixture(scope="module")
def results(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "results"
    recipes.train_variants(data, data, [0, 1], 2, ["original", "ours", "face-29"], out, SMALL)
    return out


def _runs(results: Path) -> dict[str, dict]:
    return {path.name: json.loads(path.read_bytes()) for path in sorted(results.glob("[!.]*"))}


def test_each_run_writes_a_file_and_uses_the_same_data_split_and_epochs(results):
    runs = _runs(results)
    assert list(runs) == [f"{name}.seed{seed}.json" for name in ("face-29", "original", "ours") for seed in (0, 1)]
    recipe_runs = [run for name, run in runs.items() if not name.startswith("face")]
    for key in ("clips", "groups", "data_digest", "epochs"):
        assert len({json.dumps(run[key]) for run in recipe_runs}) == 1, key
    assert all(run["epochs"] == 2 == len(run["history"]) for run in runs.values())
    assert recipe_runs[0]["clips"] == {"train": 36, "validation": 9, "test": 9}
    assert len(runs["face-29.seed0.json"]["groups"]["test"]) == runs["face-29.seed0.json"]["clips"]["test"]  # by clip
    assert runs["ours.seed0.json"]["history"][0]["train_loss"] != runs["ours.seed1.json"]["history"][0]["train_loss"]


def test_figures_are_from_the_epoch_with_the_best_validation(results):
    for run in _runs(results).values():
        accuracies = [line["validation_top1"] for line in run["history"]]
        assert run["validation_top1"] == max(accuracies) == accuracies[run["best_epoch"] - 1]
        assert 0 <= run["test_macro_f1"] <= 1 and 0 <= run["test_top1"] <= run["test_top5"] == 1.0  # three glosses
        assert run["cpu_seconds_per_epoch"] > 0


def test_macro_f1_is_computed_over_the_tested_glosses(data, tmp_path, monkeypatch):
    answers = []
    predict_logits = recipes.predict_logits
    monkeypatch.setattr(recipes, "predict_logits", lambda *args: answers.append(predict_logits(*args)) or answers[-1])
    run = recipes.train_once(TrainSettings(data=data, out=tmp_path, epochs=1, **SMALL), "once")
    labels, predicted = answers[0].labels.numpy(), answers[0].logits.numpy().argmax(axis=1)
    assert run["test_top1"] == pytest.approx((labels == predicted).mean())
    assert run["test_macro_f1"] == pytest.approx(f1_score(labels, predicted, labels=[0, 1, 2], average="macro"))


def test_settings_of_recipes_match_their_titles():
    settings = {name: variant.settings for name, variant in recipes.VARIANTS.items()}
    original = TrainSettings(data=Path("d"), out=Path("o"), **settings["original"])
    assert (original.optimizer, original.learning_rate, original.schedule) == ("sgd", 0.001, "constant")
    assert (original.batch_size, original.positions) == (1, "shared")
    assert (original.encoder_layers, original.decoder_layers) == (6, 6)
    assert (original.encoder_feedforward, original.decoder_feedforward) == (2048, 256)
    assert isinstance(original.augmenter, OriginalAugmentation)
    assert original.weight_decay == original.label_smoothing == original.average == original.gradient_norm == 0
    ours = TrainSettings(data=Path("d"), out=Path("o"), **settings["ours"])
    assert ours == TrainSettings(data=Path("d"), out=Path("o"))
    assert (ours.optimizer, ours.positions, ours.layout, ours.batch_size) == ("adamw", "per-frame", "54", 32)
    assert isinstance(ours.augmenter, Augmentation)
    assert settings["ours-shared"] == {"positions": "shared"} and settings["ours-29"] == {"layout": "29"}
    assert [settings[f"face-{layout}"]["layout"] for layout in ("29", "54", "71")] == ["29", "54", "71"]


def test_runs_with_a_result_are_skipped(data, results, monkeypatch):
    trained = []
    monkeypatch.setattr(recipes, "train_once", lambda settings, name: trained.append(name) or {})
    recipes.train_variants(data, data, [0, 1, 2], 2, ["original", "ours"], results, SMALL)
    assert trained == ["original, seed 2", "ours, seed 2"]
    for name in ("original", "ours"):
        (results / f"{name}.seed2.json").unlink()
    recipes.train_variants(data, None, [0], 2, ["face-29", "face-71"], results, SMALL)  # no data for these
    assert len(trained) == 2


def test_results_with_other_settings_are_an_error(data, results):
    with pytest.raises(DataError, match=r"ours\.seed0\.json: .*epochs"):
        recipes.train_variants(data, None, [0], 3, ["ours"], results, SMALL)
    with pytest.raises(DataError, match="encoder_feedforward, heads"):
        recipes.train_variants(data, None, [0], 2, ["ours"], results, SMALL | dict(heads=4, encoder_feedforward=8))


def test_run_of_another_process_is_skipped(data, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(recipes, "train_once", lambda settings, name: trained.append(name) or {})
    with open(tmp_path / ".ours.seed0.json.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        recipes.train_variants(data, None, [0, 1], 1, ["ours"], tmp_path)
    assert trained == ["ours, seed 1"]


def test_failed_run_leaves_no_result(data, tmp_path, monkeypatch):
    def fail(*_):
        raise DataError("lost")

    monkeypatch.setattr(recipes, "fit", fail)
    with pytest.raises(DataError, match="lost"):
        recipes.train_variants(data, None, [0], 1, ["ours"], tmp_path, SMALL)
    assert not list(tmp_path.glob("[!.]*"))


def test_table_has_means_and_extremes(results):
    lines = recipes.results_table("signs", ["original", "ours", "ours-29"], results).splitlines()[2:]
    assert lines[0].split(" | ")[2:5] == ["seeds", "test top-1", "test top-5"]
    rows = {row[1].strip(): [cell.strip() for cell in row] for row in (line.split("|") for line in lines[2:5])}
    assert {len(row) for row in rows.values()} == {len(lines[0].split("|"))}
    cells = rows[recipes.VARIANTS["original"].title]
    runs = [run for name, run in _runs(results).items() if name.startswith("original")]
    low, high = sorted(run["test_top1"] for run in runs)
    expected = f"{low:.4f}" if low == high else f"{(low + high) / 2:.4f} ({low:.4f} to {high:.4f})"
    assert cells[2:5] == [f"{runs[0]['parameters']:,}", "2", expected]
    assert rows[recipes.VARIANTS["ours-29"].title][3] == "0"  # not run
    assert "train 36, validation 9, test 9" in lines[-1]


def test_unknown_variants_are_an_error(data, tmp_path):
    with pytest.raises(SpoterError, match=r"theirs.*original,ours"):
        recipes.main(data, only="ours,theirs", out=tmp_path, seeds="0", epochs=1)


def test_command_prints_the_tables(data, results, monkeypatch, capsys):
    monkeypatch.setattr(recipes, "train_variants", lambda *_: None)
    recipes.main(data, asl=data, seeds="0,1", epochs=2, only="ours, face-29", out=results)
    printed = capsys.readouterr().out
    assert printed.count("### signs.hdf5") == 2 and printed.count("| recipe |") == 2
