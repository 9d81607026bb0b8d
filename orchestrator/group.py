"""The processes that train one job together, as one of them sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from orchestrator.state import Share


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
