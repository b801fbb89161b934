"""`spoter export`: the float32 graph, and the 8-bit graph, which is evaluated on clips left out of training."""

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
    """A model trained on the generated glosses."""
    out = tmp_path_factory.mktemp("trained") / "model"
    train(TrainSettings(data=data, out=out, layout="54", name="made", epochs=30, **SMALL))
    return out


@pytest.fixture
def model(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "model"))


def export(*arguments: object):
    return CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=True)


def test_both_graphs_are_written_and_can_serve(model, data):
    done = export(model, "--int8", "--data", data)
    assert done.exit_code == 0, done.exception
    assert "model.onnx" in done.output and "model-int8.onnx" in done.output
    sizes = [(model / name).stat().st_size for name in (GRAPH, INT8_GRAPH)]
    graphs = [onnx.load(model / name) for name in (GRAPH, INT8_GRAPH)]
    for graph in graphs:
        onnx.checker.check_model(graph)
        assert {note.key: note.value for note in graph.metadata_props}[WEIGHTS_SHA256] == file_sha256(model / WEIGHTS)
    weights = [{tensor.data_type for tensor in graph.graph.initializer if len(tensor.dims) > 1} for graph in graphs]
    assert onnx.TensorProto.INT8 not in weights[0] and onnx.TensorProto.INT8 in weights[1] and sizes[0] != sizes[1]
    clips = [figure_clip(frames=frames, seed=frames) for frames in (20, 60, 55)]
    from_torch, from_onnx, from_int8 = (
        Recognizer.load(model, runtime=runtime).recognize(clips) for runtime in ("torch", "onnx", "onnx-int8")
    )
    for predictions in zip(from_torch, from_onnx, from_int8, strict=True):
        torch_scores, onnx_scores, int8_scores = ({g.gloss: g.score for g in each.glosses} for each in predictions)
        expected = list(torch_scores.values())
        np.testing.assert_allclose([onnx_scores[gloss] for gloss in torch_scores], expected, atol=1e-4)
        np.testing.assert_allclose([int8_scores[gloss] for gloss in torch_scores], expected, atol=0.1)
        assert int8_scores != onnx_scores


def test_8_bit_prediction_does_not_depend_on_other_clips_in_the_batch(model, data):
    assert export(model, "--int8", "--data", data).exit_code == 0
    runtime = Recognizer.load(model, runtime="onnx-int8").runtime
    rng = np.random.default_rng(0)
    small, large = (rng.uniform(-size, size, (50, 108)).astype(np.float32) for size in (0.2, 30))
    np.testing.assert_allclose(runtime.run([small, large], True)[0][0], runtime.run([small], True)[0][0], atol=1e-5)


def test_same_clips_give_the_same_graph(model, data):
    written = []
    for _ in range(2):
        assert export(model, "--int8", "--data", data).exit_code == 0
        written.append([(model / name).read_bytes() for name in (GRAPH, INT8_GRAPH)])
    assert written[0] == written[1]


def spread_out(model: Spoter) -> None:
    """Scale numbers of each layer by powers of two: exact in float32, but too far apart for one scale in 8 bits.

    Queries become large and keys small. Values and hidden units become small, and their output weights large; one
    hidden unit stays large and gets output weights of 0.
    """
    factor = 2.0**20
    for layer in model.transformer.encoder.layers:
        attention, width = layer.self_attn, len(layer.linear2.bias)
        for part, scale in enumerate((factor, 1 / factor, 1 / factor)):
            attention.in_proj_weight[part * width : (part + 1) * width] *= scale
            attention.in_proj_bias[part * width : (part + 1) * width] *= scale
        attention.out_proj.weight *= factor
        layer.linear1.weight /= factor
        layer.linear1.bias /= factor
        layer.linear2.weight *= factor
        layer.linear1.bias[0], layer.linear2.weight[:, 0] = 1, 0


def test_model_that_8_bits_destroy_is_refused_and_nothing_is_written(model, data):
    """The model gives the same predictions in float32, but its weights need more than 8 bits."""
    loaded = load_model_folder(model)
    with torch.no_grad():
        spread_out(loaded.model)
    state, card = loaded.model.state_dict(), (model / CARD).read_text()
    write_model_folder(model, state, loaded.config, loaded.glosses, card, prototypes=loaded.prototypes)
    before = sorted(path.name for path in model.iterdir())
    done = export(model, "--int8", "--data", data)
    assert isinstance(done.exception, QuantizationLossError) and done.exception.exit_code == 1
    assert "int8" in str(done.exception) and " 0.5 points" in str(done.exception)
    assert sorted(path.name for path in model.iterdir()) == before
    assert export(model).exit_code == 0  # float32 is not affected
    assert (model / GRAPH).exists() and not (model / INT8_GRAPH).exists()


def test_quantized_model_is_evaluated_on_clips_left_out_of_training(model, data, tmp_path):
    split = json.loads((model / SPLIT).read_text())
    left_out = split["validation"]["clips"] + split["test"]["clips"]
    assert f" {left_out} left-out clips" in export(model, "--int8", "--data", data).output
    (model / SPLIT).unlink()
    refused = export(model, "--int8", "--data", data).exception
    assert isinstance(refused, DataError) and "split.json" in str(refused) and "--left-out" in str(refused)
    clips = list(generated_clips())
    parts = [[clip for clip in clips if clip[0].startswith(GROUPS[:4]) == train] for train in (True, False)]
    train, others = (write_hdf5(tmp_path / f"{len(part)}.hdf5", part) for part in parts)
    done = export(model, "--int8", "--data", train, "--left-out", others)
    assert f" {len(clips) * 4 // 6} clips" in done.output
    assert f" {len(clips) * 2 // 6} left-out clips" in done.output
    overlap = export(model, "--int8", "--data", train, "--left-out", train).exception
    assert isinstance(overlap, DataError) and "camera00" in str(overlap)


def test_invalid_combinations_of_options_are_refused(model, data):
    for options in (["--int8"], ["--data", data], ["--left-out", data], ["--int8", "--left-out", data]):
        error = export(model, *options).exception
        assert isinstance(error, SpoterError) and "--int8" in str(error) and "--data" in str(error)
    assert not (model / GRAPH).exists()


def test_writing_a_model_deletes_the_graphs_of_the_earlier_model(model):
    assert export(model).exit_code == 0
    loaded = load_model_folder(model)
    write_model_folder(model, loaded.model.state_dict(), loaded.config, loaded.glosses, "card")
    assert not (model / GRAPH).exists()


def test_config_names_the_runtime(model):
    assert read_config(model).runtime == "torch"
    config: ModelConfig = msgspec.structs.replace(read_config(model), runtime="onnx-int8")
    assert b'"runtime": "onnx-int8"' in config.to_json()
    assert isinstance(load_model_folder(model).model, Spoter)
