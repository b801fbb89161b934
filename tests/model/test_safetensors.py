"""Checkpoints as safetensors: reading, conversion, and damaged files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from spoter.cli.main import app
from spoter.errors import ModelFolderError
from spoter.model.checkpoint import read_checkpoint
from spoter.model.folder import load_model_folder


@pytest.fixture(scope="module")
def weights(dgs11: Path, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(read_checkpoint(dgs11 / "model.pth").state, path)
    return path


def test_safetensors_survive_a_round_trip(weights, dgs11):
    checkpoint, expected = read_checkpoint(weights), read_checkpoint(dgs11 / "model.pth").state
    assert (checkpoint.kind, checkpoint.heads) == ("safetensors", None)
    assert checkpoint.state.keys() == expected.keys()
    assert all(torch.equal(checkpoint.state[name], tensor) for name, tensor in expected.items())


def test_convert_and_inspect_accept_safetensors(weights, dgs11, tmp_path):
    config = load_model_folder(dgs11).config
    out, meaning = tmp_path / "model", dgs11 / "meaning.json"
    options = ["--out", out, "--meaning", meaning, "--nhead", config.heads, "--layout", config.layout]
    done = CliRunner().invoke(app, ["convert", str(weights), *map(str, options)])
    assert done.exit_code == 0, done.output
    state, expected = load_model_folder(out).model.state_dict(), load_model_folder(dgs11).model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    done = CliRunner().invoke(app, ["inspect", "--json", str(weights)])
    assert json.loads(done.output)["form"] == "safetensors"


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:5000],
        lambda raw: b"",
        lambda raw: raw[:8] + b"x" * 100,
        lambda raw: b"\xff" * 8 + raw[8:],
        lambda raw: (10**7).to_bytes(8, "little") + b"{}",
        lambda raw: raw + b"more",
    ],
    ids=["truncated", "empty", "no header", "endless header", "header beyond the end", "extra bytes"],
)
def test_a_damaged_file_is_refused_with_an_error_of_one_line(weights, tmp_path, damage):
    path = tmp_path / "model.safetensors"
    path.write_bytes(damage(weights.read_bytes()))
    with pytest.raises(ModelFolderError, match=r"model\.safetensors: ") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


def test_a_pickle_with_the_suffix_of_safetensors_is_not_unpickled(dgs11, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes((dgs11 / "model.pth").read_bytes())
    with pytest.raises(ModelFolderError, match=r"model\.safetensors: "):
        read_checkpoint(path)


def test_tensors_of_another_model_are_refused(tmp_path):
    save_file({"class_query": torch.zeros(1, 108)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelFolderError, match=r"a\.safetensors: .*linear1"):
        read_checkpoint(tmp_path / "a.safetensors")
    save_file({"class_query": torch.zeros(1, 108, dtype=torch.int64)}, tmp_path / "b.safetensors")
    with pytest.raises(ModelFolderError, match=r"int64.*class_query"):
        read_checkpoint(tmp_path / "b.safetensors")


@pytest.mark.parametrize("name", ["class_query\nINFO all is well", "x" * 5000])
def test_a_long_or_unprintable_name_is_refused_with_an_error_of_one_line(tmp_path, name):
    save_file({name: torch.zeros(1, 108)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelFolderError, match=r"a\.safetensors: ") as error:
        read_checkpoint(tmp_path / "a.safetensors")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
