"""Clips and helpers for tests of `spoter show`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from spoter.cli.main import app
from spoter.formats import Limits, Options
from spoter.inspection.reader import inspect_clip
from spoter.landmarks.layouts import load_layout
from tests.generate import figure_clip
from tests.training.datasets import put
from tests.wire import dumps, nested

LAYOUT = load_layout("54")
CLIP = figure_clip(frames=24)
POINTS = LAYOUT.select(figure_clip(frames=24, gaps=False))
LEFT, RIGHT = LAYOUT.section("leftHand"), LAYOUT.section("rightHand")


def compact(points: np.ndarray, **options) -> bytes:
    return dumps({"layout": 54, "points": nested(points), "fps": 25} | options)


def run(*words: object):
    return CliRunner().invoke(app, ["show", *(str(word) for word in words)])


def inspect(tmp_path: Path, content: bytes, name: str = "clip.json", scheme: str = "box", number: int = 0):
    return inspect_clip(put(tmp_path / name, content), number, LAYOUT, scheme, Limits(), Options())


def ink(picture: np.ndarray, colour: str) -> int:
    """Count the pixels with approximately the given color."""
    target = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(picture[..., :3].astype(int) - target).max(axis=-1) < 25).sum())


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def remove(columns: np.ndarray, frames: slice = slice(None)) -> np.ndarray:
    points = POINTS.copy()
    points[frames, columns] = np.nan
    return points
