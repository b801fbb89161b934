"""Clips for tests of `spoter predict … --out` and `spoter batch-pack`, and the sources that they find in a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from spoter.batch.inputs import ClipSource, iterate_shards
from spoter.batch.run import RunPlan, plan_run
from tests.training.datasets import generated_points


def make_clips(count: int) -> list[tuple[str, str, np.ndarray]]:
    """Return name, gloss and points (T, 543, 2) of `count` clips, equal in each call."""
    rng = np.random.default_rng(0)
    return [(f"camera/{i}", "WAVE", generated_points("WAVE", 4 + i % 5, rng)) for i in range(count)]


def find_sources(root: Path) -> list[ClipSource]:
    """Return the sources in a folder or file of clips."""
    return [source for shard in iterate_shards([root], 1000) for source in shard.sources]


def plan_shards(out: Path, model: Path, clips: Path, size: int, options: dict | None = None) -> RunPlan:
    """Plan a run with `size` sources in each shard."""
    return replace(plan_run(out, model, [clips], options or {}), shard_size=size)
