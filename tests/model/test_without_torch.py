"""Machines without torch: ONNX Runtime serves models; other functions raise an error with the install command."""

from __future__ import annotations

import subprocess
import sys

import pytest

from spoter.errors import ModelFolderError
from spoter.model.folder import load_model_folder
from spoter.runtime.device import choose_device, limit_threads
from spoter.runtime.loading import load_runtime
from spoter.runtime.onnx_runtime import OnnxRuntime

MODULES = (
    "spoter.landmarks.normalize",
    "spoter.fewshot.enrolled",
    "spoter.model.config",
    "spoter.model.folder",
    "spoter.runtime.device",
    "spoter.runtime.loading",
    "spoter.runtime.onnx_export",
)


def test_modules_import_without_torch():
    program = f"import sys; sys.modules['torch'] = None; import {', '.join(MODULES)}"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    "needs_torch",
    [
        lambda folder: load_model_folder(folder),
        lambda folder: load_runtime(folder, "torch"),
        lambda folder: limit_threads(1, "torch"),
        lambda folder: choose_device("cpu"),
    ],
    ids=["weights", "runtime", "threads", "device"],
)
def test_without_torch_the_error_names_the_install_command(dgs11, monkeypatch, needs_torch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModelFolderError, match=r"pip install 'spoter\[torch\]'.*`make training`") as error:
        needs_torch(dgs11)
    assert "\n" not in str(error.value)


def test_without_torch_the_bundled_model_loads_in_onnx_runtime(dgs11, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    model_folder, runtime = load_runtime(dgs11)
    assert isinstance(runtime, OnnxRuntime)
    assert model_folder.config.runtime == "onnx"
