"""The number of threads that a process computes with."""

from __future__ import annotations

from spoter.model.torch_dependency import require_torch


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
