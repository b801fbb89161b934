"""`spoter export`: a model's graphs, the one in 8 bits judged on clips that were left out of training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from spoter.cli.main import app
from spoter.errors import DataError, SpoterError
from spoter.files import file_sha256
from spoter.model.config import ModelConfig, read_config
from spoter.model.folder import CARD, GRAPH, INT8_GRAPH, WEIGHTS, load_model_folder, write_model_folder
from spoter.model.network import Spoter
from spoter.runtime.onnx_runtime import WEIGHTS_SHA256
from spoter.serving.recognizer import Recognizer
from spoter.training.data.split_record import SPLIT
from spoter.training.evaluation.quantize import QuantizationLossError
from spoter.training.settings import TrainSettings
from spoter.training.train import train
from tests.generate import figure_clip
from tests.training.datasets import GROUPS, SMALL, generated_clips, write_hdf5

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_hdf5(tmp_path_factory.mktemp("data") / "clips.hdf5")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    """A model that knows the generated glosses."""
    out = tmp_path_factory.mktemp("trained") / "model"
    train(TrainSettings(data=data, out=out, layout="54", name="made", epochs=30, **SMALL))
    return out


@pytest.fixture
def model(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "model"))


def export(*arguments: object):
    return CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=True)


def test_both_graphs_are_written_and_serve(model, data):
    done = export(model, "--int8", "--data", data)
    assert done.exit_code == 0, done.exception
    assert "model.onnx" in done.output and "model-int8.onnx" in done.output and "left-out clips" in done.output
    sizes = [(model / name).stat().st_size for name in (GRAPH, INT8_GRAPH)]
    graphs = [onnx.load(model / name) for name in (GRAPH, INT8_GRAPH)]
    for graph in graphs:
        onnx.checker.check_model(graph)
        assert {note.key: note.value for note in graph.metadata_props}[WEIGHTS_SHA256] == file_sha256(model / WEIGHTS)
    weights = [{tensor.data_type for tensor in graph.graph.initializer if len(tensor.dims) > 1} for graph in graphs]
    assert onnx.TensorProto.INT8 not in weights[0] and onnx.TensorProto.INT8 in weights[1] and sizes[0] != sizes[1]
    clips = [figure_clip(frames=frames, seed=frames) for frames in (20, 60, 55)]
    torchs, onnxs, int8s = (
        Recognizer.load(model, runtime=runtime).recognize(clips) for runtime in ("torch", "onnx", "onnx-int8")
    )
    for one, same, near in zip(torchs, onnxs, int8s, strict=True):
        scores, others, nears = ({g.gloss: g.score for g in answer.glosses} for answer in (one, same, near))
        np.testing.assert_allclose([others[gloss] for gloss in scores], list(scores.values()), atol=1e-4)
        np.testing.assert_allclose([nears[gloss] for gloss in scores], list(scores.values()), atol=0.1)
        assert nears != others


def test_an_answer_in_8_bits_does_not_hang_on_its_neighbours(model, data):
    assert export(model, "--int8", "--data", data).exit_code == 0
    runtime = Recognizer.load(model, runtime="onnx-int8").runtime
    rng = np.random.default_rng(0)
    quiet, loud = (rng.uniform(-size, size, (50, 108)).astype(np.float32) for size in (0.2, 30))
    np.testing.assert_allclose(runtime.run([quiet, loud], True)[0][0], runtime.run([quiet], True)[0][0], atol=1e-5)


def test_the_same_clips_give_the_same_graph(model, data):
    written = []
    for _ in range(2):
        assert export(model, "--int8", "--data", data).exit_code == 0
        written.append([(model / name).read_bytes() for name in (GRAPH, INT8_GRAPH)])
    assert written[0] == written[1]


def spread_out(model: Spoter) -> None:
    """Scale a layer's numbers apart by powers of two, which float32 does not notice and one scale for all cannot hold.

    Queries are large and keys small; values are small and read with large weights; so are hidden units, but for one
    that nothing reads.
    """
    far = 2.0**20
    for layer in model.transformer.encoder.layers:
        attention, width = layer.self_attn, len(layer.linear2.bias)
        for part, factor in enumerate((far, 1 / far, 1 / far)):
            attention.in_proj_weight[part * width : (part + 1) * width] *= factor
            attention.in_proj_bias[part * width : (part + 1) * width] *= factor
        attention.out_proj.weight *= far
        layer.linear1.weight /= far
        layer.linear1.bias /= far
        layer.linear2.weight *= far
        layer.linear1.bias[0], layer.linear2.weight[:, 0] = 1, 0


def test_a_model_that_8_bits_destroy_is_refused_and_nothing_is_written(model, data):
    """The same answers in float32, by weights that need more than 8 bits."""
    loaded = load_model_folder(model)
    with torch.no_grad():
        spread_out(loaded.model)
    state, card = loaded.model.state_dict(), (model / CARD).read_text()
    write_model_folder(model, state, loaded.config, loaded.glosses, card, prototypes=loaded.prototypes)
    before = sorted(path.name for path in model.iterdir())
    done = export(model, "--int8", "--data", data)
    assert isinstance(done.exception, QuantizationLossError) and done.exception.exit_code == 1
    assert "in int8 and" in str(done.exception) and "expected at most 0.5 points less" in str(done.exception)
    assert sorted(path.name for path in model.iterdir()) == before
    assert export(model).exit_code == 0  # in float32 it is as good as ever
    assert (model / GRAPH).exists() and not (model / INT8_GRAPH).exists()


def test_what_is_judged_on_is_what_training_left_out(model, data, tmp_path):
    said = json.loads((model / SPLIT).read_text())
    left_out = said["validation"]["clips"] + said["test"]["clips"]
    assert f"on {left_out} left-out clips" in export(model, "--int8", "--data", data).output
    (model / SPLIT).unlink()
    refused = export(model, "--int8", "--data", data).exception
    assert isinstance(refused, DataError) and "found no split.json" in str(refused) and "--left-out" in str(refused)
    clips = list(generated_clips())
    parts = [[clip for clip in clips if clip[0].startswith(GROUPS[:4]) == seen] for seen in (True, False)]
    mine, others = (write_hdf5(tmp_path / f"{len(part)}.hdf5", part) for part in parts)
    done = export(model, "--int8", "--data", mine, "--left-out", others)
    assert f"calibrated on {len(clips) * 4 // 6} clips" in done.output
    assert f"on {len(clips) * 2 // 6} left-out clips" in done.output
    both = export(model, "--int8", "--data", mine, "--left-out", mine).exception
    assert isinstance(both, DataError) and "camera00" in str(both)


def test_options_that_do_not_go_together(model, data):
    for options in (["--int8"], ["--data", data], ["--left-out", data], ["--int8", "--left-out", data]):
        error = export(model, *options).exception
        assert isinstance(error, SpoterError) and "--int8 --data DATA" in str(error)
    assert not (model / GRAPH).exists()


def test_graphs_of_an_earlier_model_go_with_it(model):
    assert export(model).exit_code == 0
    loaded = load_model_folder(model)
    write_model_folder(model, loaded.model.state_dict(), loaded.config, loaded.glosses, "card")
    assert not (model / GRAPH).exists()


def test_a_config_tells_the_runtime(model):
    assert read_config(model).runtime == "torch"
    config: ModelConfig = msgspec.structs.replace(read_config(model), runtime="onnx-int8")
    assert b'"runtime": "onnx-int8"' in config.to_json()
    assert isinstance(load_model_folder(model).model, Spoter)
