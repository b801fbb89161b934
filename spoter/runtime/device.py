"""The device and the number of threads that a process uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spoter.errors import DataError
from spoter.model.torch_dependency import require_torch

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """Return the device of a name such as cpu, cuda or cuda:1; raise `DataError` if this machine lacks it."""
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
    """Limit NumPy's BLAS, and torch if it is the runtime, to a number of threads in this process.

    OpenBLAS uses all cores even for the product of two clips' embeddings, and its idle threads spin. With one worker
    per core, this halves the throughput. OpenBLAS reads its environment variables only when NumPy is imported, which
    may have happened already; therefore a call sets the limit. Sessions of ONNX Runtime have one thread
    (`spoter.runtime.onnx_runtime`). Only the runtime ``torch`` imports torch, and raises `ModelFolderError` without it.
    """
    import numpy as np  # noqa: F401  the limit applies only to a loaded BLAS
    from threadpoolctl import threadpool_limits

    if runtime == "torch":
        require_torch("the runtime torch")
        import torch

        torch.set_num_threads(threads)
    threadpool_limits(threads)
