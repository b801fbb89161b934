"""Devices of torch, by their names."""

from __future__ import annotations

import torch

from spoter.errors import DataError


def choose_device(name: str) -> torch.device:
    """Return the device of a name such as cpu, cuda or cuda:1; raise `DataError` where there is no such thing here."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise DataError(f"found device {name!r}, expected cpu, cuda or cuda:1")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DataError(f"found device {name!r}, but torch sees {torch.cuda.device_count()} CUDA devices here")
    return device
