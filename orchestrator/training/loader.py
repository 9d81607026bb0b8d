"""Make batches in worker processes, ahead of the steps that need them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from vosmodels.data.clips import batch
from vosmodels.distillation.pixels import Selection
from vosmodels.errors import InputError
from vosmodels.support.processes import end_with_parent
from vosmodels.types import Clip, ClipSource

MOST = 8  # worker processes of one trainer, unless the config asks for more


@dataclass(frozen=True)
class Batch:
    """Clips of one step, and the pixels that the losses of each student compare."""

    clip: Clip
    selections: tuple[Selection | None, ...]

    def to(self, device: torch.device) -> Batch:
        """Copy the batch to `device`."""
        return Batch(self.clip.to(device), tuple(s and s.to(device) for s in self.selections))

    def pin_memory(self) -> Batch:
        """Copy the batch to page-locked memory; DataLoader calls this method."""
        return Batch(self.clip.pin_memory(), tuple(s and s.pin_memory() for s in self.selections))


@dataclass(frozen=True)
class Batches(Dataset[Batch | InputError]):
    """A rank's part of the batch of every step.

    selects: choose the pixels of each student, from the clips. A batch depends on the step alone:
    every worker process and every resumed run makes the same.
    """

    clips: ClipSource
    selects: tuple[Callable[[Clip], Selection | None], ...]
    batch_size: int
    rank: int = 0
    world: int = 1

    def __getitem__(self, step: int) -> Batch | InputError:
        """Make the batch of a step; return an InputError instead of raising it.

        DataLoader would bury the one line of a raised error in a traceback.
        Raises ValueError where `world` does not divide the batch size.
        """
        try:
            clip = batch(self.clips, step, self.batch_size, self.rank, self.world)
        except InputError as error:
            return error
        return Batch(clip, tuple(select(clip) for select in self.selects))


def prefetch(
    batches: Batches, steps: range, *, workers: int, pin: bool = False
) -> Generator[Batch, None, None]:
    """Yield the batches of `steps` in order.

    workers: processes that make two batches each ahead; 0 makes batches in this process on demand.
    pin: put batches into page-locked memory.
    Workers end with the iterator, and with this process, even if it is killed.
    Raises InputError at the step whose clips cannot be read; RuntimeError if a worker is killed.
    """
    loader: DataLoader[Batch | InputError] = DataLoader(
        batches,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_start_worker,
        multiprocessing_context=_context() if workers else None,
        generator=torch.Generator(),  # else DataLoader draws from the global generator
    )
    for item in loader:
        if isinstance(item, InputError):
            raise item
        yield item


def automatic(device: torch.device, threads: int) -> int:
    """Choose the number of workers where the config leaves it open.

    0 on a CPU, where the model keeps all cores busy and clips take a few percent of a step; with a
    GPU all cores of the trainer but one, at most MOST.
    """
    return 0 if device.type == "cpu" else min(MOST, max(1, threads - 1))


def _context() -> Any:
    """Return a context that forks workers off a server that only imports modules.

    A fork of a process with OpenMP, Ray or CUDA threads may hang.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _start_worker(_: int) -> None:
    """Set one thread for OpenCV, and end this worker when the trainer ends.

    DataLoader already sets one thread for torch. Its own watchdog watches the fork server, which
    lives as long as its workers.
    """
    cv2.setNumThreads(0)
    end_with_parent()
