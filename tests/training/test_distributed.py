"""Training with several processes: the same model as with one process, except for rounding errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spoter.errors import DataError
from spoter.landmarks.layouts import load_layout
from spoter.model.folder import load_model_folder
from spoter.training.augment.augmentation import NoAugmentation
from spoter.training.batches import ClipEncoder, ClipSet
from spoter.training.data import read_dataset
from spoter.training.distributed import join_processes
from spoter.training.prepare import prepare
from spoter.training.settings import TrainSettings
from spoter.training.train import train
from tests import ROOT
from tests.training.datasets import GLOSSES, generated_clips, write_hdf5

pytestmark = pytest.mark.slow

# Batches of 5: the last batch of an epoch is a single clip, and the second process gets none. `shared` positions leave
# a parameter unused. SGD: Adam would amplify gradients that are only noise, those of the biases of the keys.
SETTINGS = dict(
    heads=4, encoder_layers=1, decoder_layers=1, encoder_feedforward=32, decoder_feedforward=32, position_rows=64,
    positions="shared", epochs=3, batch_size=5, optimizer="sgd", learning_rate=0.1, average=0.5, dropout=0.0, threads=1,
    val_groups=("camera01",), test_groups=("camera02",), folds=2, fold_epochs=1,
)  # fmt: skip


def on_two_processes(data: Path, out: Path, *options: str) -> subprocess.CompletedProcess:
    for name, value in SETTINGS.items():
        options += f"--{name.replace('_', '-')}", ",".join(value) if isinstance(value, tuple) else str(value)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "spoter", "train", str(data), "--out", str(out), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def metrics(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_train_like_one_even_after_a_failure_and_resuming(tmp_path):
    data = write_hdf5(tmp_path / "signs.hdf5")
    single, parallel = tmp_path / "single", tmp_path / "parallel"
    (parallel / ".training" / "metrics.jsonl").mkdir(parents=True)  # the first epoch cannot be written
    failed = on_two_processes(data, parallel)
    assert failed.returncode != 0 and not failed.stdout  # the other process did not wait forever
    assert failed.stderr.count(": Is a directory") == 1, failed.stderr
    (parallel / ".training" / "metrics.jsonl").rmdir()
    run = on_two_processes(data, parallel, "--resume")
    assert run.returncode == 0, run.stderr
    assert run.stdout.count(str(parallel)) == 1 and f"{parallel}: " not in run.stderr
    assert not (parallel / ".training").exists()

    threads = torch.get_num_threads()
    train(TrainSettings(data=data, out=single, **SETTINGS))
    torch.set_num_threads(threads)
    for one, two in zip(metrics(single), metrics(parallel), strict=True):
        for name in ("train_loss", "train_top1", "validation_loss", "validation_top1", "learning_rate"):
            assert two[name] == pytest.approx(one[name], abs=1e-5), (one["epoch"], name)
    single_state, parallel_state = (load_model_folder(out).model.state_dict() for out in (single, parallel))
    for name, tensor in single_state.items():
        torch.testing.assert_close(parallel_state[name], tensor, atol=1e-5, rtol=0, msg=name)
    first = TrainSettings(data=data, out=single, **SETTINGS)
    assert not torch.equal(single_state["pos"], prepare(first).new_model().pos)  # the weights changed
    cards = [(out / "MODEL_CARD.md").read_text().partition("## Cross-validation")[2] for out in (single, parallel)]
    assert cards[0] and cards[0] == cards[1]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_processes_divide_each_batch(size, tmp_path):
    few = [clip for i, clip in enumerate(generated_clips()) if i % 5 == 0]
    clips = read_dataset(write_hdf5(tmp_path / "few.hdf5", few)).clips
    clip_set = ClipSet(clips, GLOSSES, ClipEncoder(load_layout("54"), "box", 64))
    batches = list(clip_set.augmented_batches(size, NoAugmentation(), 0, 1))
    parts = [list(clip_set.augmented_batches(size, NoAugmentation(), 0, 1, rank, 3)) for rank in range(3)]
    assert sum(batch.global_size for batch in batches) == len(clips)
    assert any(batch.is_filler for batch in parts[2]) and not any(batch.is_filler for batch in parts[0])
    for batch, *shares in zip(batches, *parts, strict=True):
        counting = [share for share in shares if not share.is_filler]
        assert all(share.global_size == batch.global_size and len(share.labels) > 0 for share in shares)
        divided = sorted(clip for share in counting for clip in _clips(share))
        assert divided == sorted(_clips(batch))


def _clips(batch) -> list[bytes]:
    """Return each clip of a batch without its padding."""
    frames, lengths = batch.frames.numpy(), batch.lengths.tolist()
    return [np.ascontiguousarray(clip[:length]).tobytes() for clip, length in zip(frames, lengths, strict=True)]


def test_several_processes_refuse_a_single_gpu(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(DataError, match="'cuda:1' for 2 "), join_processes("cuda:1"):
        pass
    if torch.cuda.device_count() < 2:
        with pytest.raises(DataError, match="'cuda:1'"), join_processes("cuda"):
            pass
