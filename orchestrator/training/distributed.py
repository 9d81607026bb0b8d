"""Describe one worker among the processes that train a student together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from vosmodels.model import VideoModel
from vosmodels.terms import Term
from vosmodels.types import StepOutput


@dataclass(frozen=True)
class Workers:
    """This worker's rank, world size, device and DDP wrapper; one process by default.

    all_reduce: returns the sum of a tensor over all workers, as a new tensor.
    wrap: returns the trainee as the training loop calls it (DistributedDataParallel), given the
    terms of its loss.
    alive: called after every step, which tells a watchdog that the job has not stalled.
    """

    rank: int = 0
    world: int = 1
    all_reduce: Callable[[Tensor], Tensor] = lambda tensor: tensor
    wrap: Callable[[nn.Module, Sequence[Term]], nn.Module] = lambda module, terms: module
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    alive: Callable[[], None] = lambda: None

    @classmethod
    def of_process_group(cls, device: torch.device) -> Workers:
        """Describe this process within the initialised torch.distributed process group."""
        rank, world = distributed.get_rank(), distributed.get_world_size()
        return cls(rank, world, _all_reduce, _wrap, device)


def _all_reduce(tensor: Tensor) -> Tensor:
    total = tensor.clone()
    distributed.all_reduce(total)
    return total


class _WithoutLogits(nn.Module):
    """The trainee with logits that are no part of the graph, so that DDP sees what is unused."""

    def __init__(self, trainee: nn.Module) -> None:
        super().__init__()
        self.trainee = trainee

    def forward(self, *given: Any) -> tuple[StepOutput, Tensor | None]:
        output, embedded = self.trainee(*given)
        return replace(output, logits=output.logits.detach()), embedded


def _wrap(module: nn.Module, terms: Sequence[Term]) -> nn.Module:
    # Buffers are BatchNorm statistics, which are frozen: nothing to broadcast. The search
    # for parameters without gradient walks the whole graph, so it runs only where a model skips
    # some, or where no term reads the logits, which leaves the mask head without gradient.
    skips = any(isinstance(m, VideoModel) and m.skips_parameters for m in module.modules())
    if not any("logits" in term.at for term in terms):
        module, skips = _WithoutLogits(module), True
    return DistributedDataParallel(module, forward_sync_buffers=False, find_unused_parameters=skips)
