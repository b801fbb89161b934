"""Runs the start-up code of AWS's PyTorch container where there is no container.

`container.py` starts this file with the interpreter of the environment that holds `sagemaker-pytorch-inference`. That
code takes a machine of its own for granted in two places, and there, and nowhere else, it is told otherwise.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator


def main() -> None:
    """Start TorchServe as the container does, and stay until it ends."""
    import psutil
    from sagemaker_pytorch_serving_container import serving, torchserve

    # It writes TorchServe's settings to /etc, where only root may write, and where two would share one file.
    torchserve.TS_CONFIG_FILE = os.path.join(os.environ["SAGEMAKER_BASE_DIR"], "sagemaker-ts.properties")

    # It waits for, and ends, whatever TorchServe it finds on the machine: that may be a stranger's.
    every_process = psutil.process_iter

    def own_processes() -> Iterator[psutil.Process]:
        return (process for process in every_process() if _session(process.pid) == os.getsid(0))

    torchserve.psutil.process_iter = own_processes

    try:
        serving.main()
    except Exception as error:  # a line is enough: the cause stands above it, in pip's or TorchServe's words
        sys.exit(f"{type(error).__name__}: {error}")


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:  # it has ended, or is none of ours
        return None


if __name__ == "__main__":
    main()
