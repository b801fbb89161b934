"""Archives of models that run in torch or in ONNX Runtime."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from spoter.errors import ModelFolderError
from spoter.model.config import read_config
from spoter.model.folder import GRAPH, WEIGHTS
from spoter.serving.recognizer import Recognizer
from spoter.torchserve.pack import build
from tests import ROOT
from tests.generate import figure_clip


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_an_archive_holds_the_files_of_its_runtime(tmp_path, dgs11, runtime):
    folder = Path(shutil.copytree(dgs11, tmp_path / "model"))
    if runtime == "onnx":
        (folder / GRAPH).unlink()
        with pytest.raises(ModelFolderError, match=r"model\.onnx"):
            build(folder, "spoter", None, tmp_path / "store", runtime)
        assert not (tmp_path / "store").exists()
        shutil.copy(dgs11 / GRAPH, folder)
    [mar, _] = build(folder, "spoter", None, tmp_path / "store", runtime)
    with zipfile.ZipFile(mar) as archive:
        names, manifest = set(archive.namelist()), json.loads(archive.read("MAR-INF/MANIFEST.json"))
        requirements = [archive.read(name).decode() for name in ("requirements.txt", "code/requirements.txt")]
        archive.extractall(tmp_path / "unpacked")
    used, other = (WEIGHTS, GRAPH) if runtime == "torch" else (GRAPH, WEIGHTS)
    assert used in names and other not in names and manifest["model"]["serializedFile"] == used
    assert read_config(tmp_path / "unpacked").runtime == runtime
    assert all(("onnxruntime" in text) == (runtime == "onnx") for text in requirements)
    assert Recognizer.load(tmp_path / "unpacked").recognize([figure_clip()])[0].glosses
    if runtime == "onnx":  # a graph of other weights is refused
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes() + b" ")
        with pytest.raises(ModelFolderError, match=r"model\.onnx.*weights"):
            build(folder, "spoter", None, tmp_path / "store", runtime)


def test_requirements_of_an_onnx_archive_are_those_of_pyproject():
    requirement = (ROOT / "handler" / "onnx-requirements.txt").read_text().splitlines()[-1]
    assert f'"{requirement}"' in (ROOT / "pyproject.toml").read_text()
