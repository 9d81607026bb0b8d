"""Batches made ahead of the steps that want them, in processes of their own."""

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

MOST = 8  # processes of one trainer, unless told otherwise


@dataclass(frozen=True)
class Batch:
    """What one step looks at: clips, and the pixels that its losses compare."""

    clip: Clip
    selection: Selection | None

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        return Batch(self.clip.to(device), self.selection and self.selection.to(device))

    def pin_memory(self) -> Batch:
        """The same batch where a GPU can fetch it while the CPU goes on; DataLoader calls it."""
        return Batch(self.clip.pin_memory(), self.selection and self.selection.pin_memory())


@dataclass(frozen=True)
class Batches(Dataset[Batch | InputError]):
    """A rank's share of every step's batch, by the step alone: whoever makes it, and however often
    a run was resumed, it is the same."""

    clips: ClipSource
    select: Callable[[Clip], Selection | None]
    batch_size: int
    rank: int = 0
    world: int = 1

    def __getitem__(self, step: int) -> Batch | InputError:
        """A person's error is an answer too: DataLoader would bury its one line in a traceback.

        Raises ValueError where `world` does not divide the batch.
        """
        try:
            clip = batch(self.clips, step, self.batch_size, self.rank, self.world)
        except InputError as error:
            return error
        return Batch(clip, self.select(clip))


def prefetch(
    batches: Batches, steps: range, *, workers: int, pin: bool = False
) -> Generator[Batch, None, None]:
    """The batches of `steps`, in order; two per worker are made ahead, none where there are no
    workers. pin: into page-locked memory.

    Raises InputError at the step whose clips cannot be read; RuntimeError where a worker was
    killed. Workers end with the iterator, and with this process, however that ends.
    """
    loader: DataLoader[Batch | InputError] = DataLoader(
        batches,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_start_worker,
        multiprocessing_context=_context() if workers else None,
        generator=torch.Generator(),  # else it would draw from the process's own
    )
    for made in loader:
        if isinstance(made, InputError):
            raise made
        yield made


def automatic(device: torch.device, threads: int) -> int:
    """Workers where none are asked for. On a CPU none: the model itself keeps its cores busy, and
    clips are a few percent of a step. Beside a GPU all but one of the trainer's cores."""
    return 0 if device.type == "cpu" else min(MOST, max(1, threads - 1))


def _context() -> Any:
    """Workers are forked off a small server that has done nothing but import: a process whose
    OpenMP, Ray or CUDA threads run may hang in a fork of itself."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _start_worker(_: int) -> None:
    """One thread for OpenCV, as DataLoader has it for torch; and an end with the trainer's end.

    DataLoader's own watch is on the process it was forked off, the server, which lives as long as
    its workers do.
    """
    cv2.setNumThreads(0)
    end_with_parent()
