"""A serving process uses the configured number of threads, also in NumPy's BLAS."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

HANDLER = ROOT / "handler"
# Start with three threads, as on a machine with several cores; a machine with one core would always have one.
BEFORE = """
import sys
from pathlib import Path
from threadpoolctl import threadpool_info, threadpool_limits
import numpy
threadpool_limits(3)
model, clip = sys.argv[1:]
"""
LOADED_HANDLER = """
from types import SimpleNamespace
from spoter_handler import SpoterHandler
config = {"handler": {"threads": 2}}
SpoterHandler().initialize(
    SimpleNamespace(system_properties={"model_dir": model}, model_yaml_config=config, metrics=None)
)
"""
BULK = """
import torch
torch.set_num_threads(3)
from spoter.batch.predictor import ShardPredictor
from spoter.batch.inputs import ClipSource
assert b"instances" in ShardPredictor(Path(model))([ClipSource(clip)])
assert torch.get_num_threads() == 1
"""
AFTER = """
print(*{pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"})
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "code", "threads"), [("onnx", LOADED_HANDLER, "2"), ("torch", BULK, "1")], ids=["handler", "bulk"]
)
def test_blas_uses_the_number_of_threads_of_a_worker(dgs11, samples, tmp_path, runtime, code, threads):
    model = Path(shutil.copytree(dgs11, tmp_path / "model"))
    config = json.loads((model / "config.json").read_text()) | {"runtime": runtime}
    (model / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-c", BEFORE + code + AFTER, model, samples / "hallo.json"],
        env=os.environ | {"PYTHONPATH": str(HANDLER)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    threads_used = done.stdout.splitlines()[-1]
    if not threads_used:
        pytest.skip("threadpoolctl does not know this NumPy's BLAS")
    assert threads_used == threads
