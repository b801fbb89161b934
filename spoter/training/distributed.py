"""One process, or several that train one model together, each on its own GPU: torch's DistributedDataParallel.

``torchrun --nproc-per-node 4 -m spoter.cli.main train …`` starts the processes and tells each by environment variables who
it is; where one of them fails, torchrun ends the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from spoter.errors import DataError
from spoter.runtime.device import choose_device

_Value = TypeVar("_Value")

# The others wait while the first validates, judges and writes. One that waits longer than this waits for the dead.
_PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class ProcessGroup:
    """Which of how many processes this is; by default the only one.

    Attributes
    ----------
    rank, world : int
        Number of this process, from 0, and of all of them.
    device : torch.device
        This process's own.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def first(self) -> bool:
        """Whether this is the process that validates, prints and writes."""
        return self.rank == 0

    def share(self, value: _Value) -> _Value:
        """Return the first process's `value` in all of them; what the others pass is not looked at."""
        if self.world == 1:
            return value
        box = [value if self.first else None]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def sum(self, numbers: Tensor) -> Tensor:
        """Return the sum of all processes' `numbers`."""
        if self.world > 1:
            dist.all_reduce(numbers)
        return numbers

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return a model whose gradients become the mean over all processes in its backward pass."""
        if self.world == 1:
            return model
        if getattr(model, "positions", None) == "shared":
            model.row_embed.requires_grad_(False)  # idle then, and every gradient would be waited for
        return nn.parallel.DistributedDataParallel(model, [self.device] if self.device.type == "cuda" else None)


@contextmanager
def join_processes(device: str) -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started with this one, if it did, and leave them at the end.

    Parameters
    ----------
    device : str
        ``cpu`` or ``cuda``; a process alone may name one of several, ``cuda:1``.

    Raises
    ------
    DataError
        For a device that is not there.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ProcessGroup(device=choose_device(device))
        return
    if device == "cuda":
        chosen = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(chosen)
    elif device == "cpu":
        chosen = choose_device(device)
    else:
        raise DataError(f"found device {device!r} for {world} processes, expected cuda (a GPU each) or cpu")
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_PATIENCE)
    yield ProcessGroup(dist.get_rank(), world, chosen)
    dist.destroy_process_group()  # not after an error: leaving waits for the others, and they for this one
