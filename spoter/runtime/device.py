"""The device and the number of threads that a process computes with."""

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


def limit_threads(threads: int, runtime: str) -> None:
    """Limit numpy's BLAS, and torch where it is the runtime, to a number of threads in this process.

    OpenBLAS takes all cores for a product of two clips' embeddings, and its idle threads spin: with a worker on each
    core that halves the work all of them get done. It reads its environment when numpy is imported, which may be long
    past, so it is limited by a call. Sessions of ONNX Runtime have one thread (`spoter.runtime.onnx_runtime`).
    Only the runtime ``torch`` imports torch, and raises `ModelFolderError` without it.
    """
    import numpy as np  # noqa: F401  a BLAS that is not loaded yet cannot be limited
    from threadpoolctl import threadpool_limits

    if runtime == "torch":
        require_torch("the runtime torch")
        import torch

        torch.set_num_threads(threads)
    threadpool_limits(threads)
