"""The processes that train one job together, as one of them sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Share:
    """This process's part of a group of workers that train one student together.

    add_up: sums a tensor over all workers, in place of none for a single one.
    """

    rank: int = 0
    world: int = 1
    add_up: Callable[[Tensor], Tensor] = lambda tensor: tensor


@dataclass(frozen=True)
class Group:
    """This process's share, how DDP wraps the trainee; by default a process on its own."""

    share: Share = field(default_factory=Share)
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    alive: Callable[[], None] = lambda: None  # called at every step: the job has not stalled

    @classmethod
    def joined(cls, device: torch.device) -> Group:
        """Of all processes that have joined torch.distributed."""
        share = Share(distributed.get_rank(), distributed.get_world_size(), _add_up)
        return cls(share, _wrap, device)


def _add_up(tensor: Tensor) -> Tensor:
    total = tensor.clone()
    distributed.all_reduce(total)
    return total


def _wrap(module: nn.Module) -> nn.Module:
    # Buffers are BatchNorm statistics, which are frozen: nothing to broadcast.
    return DistributedDataParallel(module, forward_sync_buffers=False)
