"""Devices of torch, by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spoter.errors import DataError
from spoter.model.torch_dependency import require_torch

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """Return the device of a name such as cpu, cuda or cuda:1; raise `DataError` where this machine lacks it."""
    require_torch(f"device {name}")
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise DataError(f"found device {name!r}, expected cpu, cuda or cuda:1")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DataError(f"found device {name!r}, but torch sees {torch.cuda.device_count()} CUDA devices here")
    return device
