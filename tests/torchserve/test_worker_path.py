"""What handler/worker_start keeps TorchServe's workers from importing, and that nobody else notices it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

pytestmark = pytest.mark.slow

STARTS = ROOT / "handler" / "worker_path"
LOOK = """
import sys, torch
print("torch._C" in sys.modules)
print(isinstance(b"", (bytes, bytearray)) or isinstance(b"", torch.Tensor), "torch._C" in sys.modules)
print(float(torch.nn.functional.relu(torch.tensor([-1.0, 2.0])).sum()))
"""
IMPORTED = """
import sys, other
print("other ran" if other.RAN else "", "pyarrow" in sys.modules and sys.modules["pyarrow"] is None)
"""


def run(folder: Path, script: str, code: str, config: dict | None, *path: Path) -> list[str]:
    """Run `code` as the file `script` in an archive's folder, with worker_start before `path`; return what it says."""
    file = folder / script
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (STARTS, *path))), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, file], cwd=folder, env=environ, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.splitlines()


def test_a_worker_without_torch_gets_it_when_it_asks_for_it(tmp_path):
    said = run(tmp_path, "ts/model_service_worker.py", LOOK, {"runtime": "onnx"})
    assert said == ["False", "True False", "2.0"]


def test_a_part_of_torch_brings_torch_first(tmp_path):
    said = run(tmp_path, "ts/model_service_worker.py", "import torch.nn\nprint(torch.nn.ReLU())\n", {"runtime": "onnx"})
    assert said == ["ReLU()"]


@pytest.mark.parametrize(
    ("script", "config", "put_off"),
    [
        ("ts/model_service_worker.py", {"runtime": "onnx-int8"}, True),
        ("ts/model_service_worker.py", {"runtime": "torch"}, False),
        ("ts/model_service_worker.py", {}, False),
        ("ts/model_service_worker.py", None, False),
        ("ts/metric_collector.py", {"runtime": "onnx"}, False),
    ],
)
def test_only_a_worker_of_onnx_does_without_torch(tmp_path, script, config, put_off):
    """Told by a package of torch's name that says when it runs: importing the real one takes a second each time."""
    package = tmp_path / "packages" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("print('runs')\nTensor = int\n")
    said = run(tmp_path, script, "import torch\nprint('asks')\ntorch.Tensor\n", config, package.parent)
    assert said == (["asks", "runs"] if put_off else ["runs", "asks"])


@pytest.mark.parametrize(("script", "hidden"), [("ts/model_service_worker.py", True), ("train.py", False)])
def test_a_sitecustomize_that_was_there_before_runs_too(tmp_path, script, hidden):
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "other.py").write_text("RAN = False\n")
    (packages / "sitecustomize.py").write_text("import other\nother.RAN = True\n")
    assert run(tmp_path, script, IMPORTED, None, packages) == [f"other ran {hidden}"]
