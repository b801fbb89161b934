"""How many threads a process computes with: as many as said, in all that computes for it."""

from __future__ import annotations


def limit_threads(threads: int, runtime: str) -> None:
    """Hold numpy's BLAS, and torch where it is what computes, to a number of threads in this process.

    OpenBLAS takes all cores for a product of two clips' embeddings, and its idle threads spin: with a worker on each
    core that halves what all of them get done. It reads its environment when numpy is imported, which may be long past
    by now, so it is told directly. Sessions of ONNX Runtime have one thread by themselves (`spoter.runtime.onnx_runtime`).

    Parameters
    ----------
    threads : int
    runtime : str
        One of `spoter.model.config.RUNTIMES`; only ``torch`` imports torch.
    """
    import numpy as np  # noqa: F401  what is not loaded yet cannot be told
    from threadpoolctl import threadpool_limits

    if runtime == "torch":
        import torch

        torch.set_num_threads(threads)
    threadpool_limits(threads)
