"""handler/worker_path hides imports from TorchServe's workers, and changes nothing else."""

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
QUESTION = """
import torch  # as ts/protocol/otf_message_handler.py does
print(isinstance(b"", (bytes, bytearray)) or isinstance(b"", torch.Tensor), isinstance({}, torch.Tensor))
for use in ("torch.zeros", "from torch import nn", "import torch.nn", "hasattr(torch, 'cuda')"):
    try:
        exec(use)
    except ImportError as error:
        print(error)
"""
IMPORTED = """
import sys, other
print("other ran" if other.RAN else "", "pyarrow" in sys.modules and sys.modules["pyarrow"] is None)
"""


def run(folder: Path, script: str, code: str, config: dict | None, *path: Path) -> list[str]:
    """Run `code` as the file `script` in an archive's folder, with worker_path before `path`; return its output."""
    file = folder / script
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (STARTS, *path))), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, file], cwd=folder, env=environ, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.splitlines()


def test_the_stand_in_for_torch_has_tensor_and_explains_other_failures(tmp_path):
    printed = run(tmp_path, "ts/model_service_worker.py", QUESTION, {"runtime": "onnx"})
    assert printed[0] == "True False" and len(printed) == 5
    assert all("ONNX Runtime" in line or "not a package" in line for line in printed[1:])


@pytest.mark.parametrize(
    ("script", "config", "stands_in"),
    [
        ("ts/model_service_worker.py", {"runtime": "onnx-int8"}, True),
        ("ts/model_service_worker.py", {"runtime": "torch"}, False),
        ("ts/model_service_worker.py", {}, False),
        ("ts/model_service_worker.py", None, False),
        ("ts/metric_collector.py", {"runtime": "onnx"}, False),
    ],
)
def test_only_workers_with_onnx_runtime_get_the_stand_in(tmp_path, script, config, stands_in):
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "torch.py").write_text("Tensor = 'the real one'\n")
    [printed] = run(tmp_path, script, "import torch\nprint(torch.Tensor)\n", config, packages)
    assert (printed != "the real one") == stands_in


@pytest.mark.parametrize(("script", "hidden"), [("ts/model_service_worker.py", True), ("train.py", False)])
def test_another_sitecustomize_on_the_path_also_runs(tmp_path, script, hidden):
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "other.py").write_text("RAN = False\n")
    (packages / "sitecustomize.py").write_text("import other\nother.RAN = True\n")
    assert run(tmp_path, script, IMPORTED, None, packages) == [f"other ran {hidden}"]
