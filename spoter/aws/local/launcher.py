"""Run the start-up code of AWS's PyTorch container outside a container.

`container.py` starts this file with the interpreter of the environment that holds `sagemaker-pytorch-inference`. In two
places that code assumes that no other process uses the machine; `main` replaces these.
"""

import os
import sys
from collections.abc import Iterator


def main() -> None:
    """Start TorchServe as the container does, and wait until it ends."""
    import psutil
    from sagemaker_pytorch_serving_container import serving, torchserve  # type: ignore[import-not-found]

    # It writes TorchServe's settings to /etc, which needs root and would be shared by all endpoints.
    torchserve.TS_CONFIG_FILE = os.path.join(os.environ["SAGEMAKER_BASE_DIR"], "sagemaker-ts.properties")

    # It waits for, and ends, every TorchServe on the machine, including other people's.
    all_processes = psutil.process_iter

    def own_processes() -> Iterator[psutil.Process]:
        return (process for process in all_processes() if _session_id(process.pid) == os.getsid(0))

    torchserve.psutil.process_iter = own_processes

    try:
        serving.main()
    except Exception as error:  # one line, because pip or TorchServe has printed the cause
        sys.exit(f"{type(error).__name__}: {error}")


def _session_id(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:  # it has ended or belongs to another user
        return None


if __name__ == "__main__":
    main()
