"""Upstream's SPOTER, built from torch's transformer, for pickled checkpoints like those of other projects.

The classes are placed in ``spoter.spoter_model``, the module that upstream's pickles name.
"""

from __future__ import annotations

import sys
import types
from contextlib import contextmanager

import torch

import benchmarks.baseline.layers
from benchmarks.baseline.layers import SPOTER, SPOTERTransformerDecoderLayer


@contextmanager
def as_upstream_module():
    """Let pickle find the classes in upstream's module."""
    module = types.ModuleType("spoter.spoter_model")
    for cls in (SPOTER, SPOTERTransformerDecoderLayer):
        setattr(module, cls.__name__, cls)
        cls.__module__ = module.__name__
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        del sys.modules[module.__name__]
        for cls in (SPOTER, SPOTERTransformerDecoderLayer):
            cls.__module__ = benchmarks.baseline.layers.__name__


def make(
    seed: int = 0, classes: int = 7, width: int = 108, heads: int = 9, layers=(2, 1), feedforward=(64, 32), rows=50
):
    """Return an upstream model with random weights, biases included, in evaluation mode."""
    torch.manual_seed(seed)
    model = SPOTER(classes, width, heads, layers, feedforward, rows).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model
