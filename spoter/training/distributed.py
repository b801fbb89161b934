"""Training of one model by one or several processes, one per GPU, with torch's DistributedDataParallel.

``torchrun --nproc-per-node 4 -m spoter train …`` starts the processes and sets their environment variables.
If one process fails, torchrun ends the others.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from spoter.errors import DataError
from spoter.runtime.device import choose_device

_Value = TypeVar("_Value")

# The other processes wait while the main process validates, evaluates and writes. After this time they give up.
_TIMEOUT = timedelta(hours=1)


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together: rank of this process, number of processes, device of this process."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process validates, prints and writes."""
        return self.rank == 0

    def broadcast(self, value: _Value) -> _Value:
        """Return the `value` of the main process in all processes; the values of the others are ignored."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def sum(self, numbers: Tensor) -> Tensor:
        """Return the sum of `numbers` over all processes."""
        if self.world_size > 1:
            dist.all_reduce(numbers)
        return numbers

    def wrap(self, model: nn.Module) -> nn.Module:
        """Wrap a model so that its backward pass averages gradients over all processes."""
        if self.world_size == 1:
            return model
        if getattr(model, "positions", None) == "shared":
            # Shared positions do not use this parameter; every process would wait for its gradient.
            model.get_parameter("row_embed").requires_grad_(False)
        return nn.parallel.DistributedDataParallel(model, [self.device] if self.device.type == "cuda" else None)


@contextmanager
def join_processes(device: str) -> Iterator[ProcessGroup]:
    """Join the process group that torchrun started, if any, and leave it at the end.

    `device` is ``cpu`` or ``cuda``; a single process may choose one of several GPUs, as in ``cuda:1``. Raises
    `DataError` for a device that does not exist.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield ProcessGroup(device=choose_device(device))
        return
    if device == "cuda":
        chosen = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(chosen)
    elif device == "cpu":
        chosen = choose_device(device)
    else:
        raise DataError(f"found device {device!r} for {world_size} processes, expected cuda (one GPU each) or cpu")
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_TIMEOUT)
    yield ProcessGroup(dist.get_rank(), world_size, chosen)
    dist.destroy_process_group()  # not after an error: this process and the others would wait for each other
