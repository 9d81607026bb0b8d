"""Let the workers of a job on one machine find each other through a file.

Ray Train lets the first worker listen for the others, on every interface of the machine.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from ray.train.torch import TorchConfig
from torch import distributed


@dataclass
class ByFile(TorchConfig):  # type: ignore[misc]  # Ray has no types
    """Settings of torch.distributed for workers that see one temporary folder."""

    @property
    def backend_cls(self) -> type:
        """Return what Ray calls where a group of workers starts and ends."""
        return _ByFile


class _ByFile(TorchConfig().backend_cls):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: ByFile) -> None:
        """Join all workers to one process group, by a file of its own."""
        import ray

        gpus = worker_group.get_resources_per_worker().get("GPU", 0)
        file = Path(tempfile.gettempdir()) / f"vos-workers-{os.getpid()}-{uuid.uuid4().hex}"
        world, wait_s = len(worker_group), backend_config.timeout_s
        backend = "nccl" if gpus else "gloo"
        ray.get(
            [
                worker_group.execute_single_async(rank, join, backend, file, rank, world, wait_s)
                for rank in range(world)
            ]
        )


def join(backend: str, file: Path, rank: int, world: int, timeout_s: float) -> None:
    """Join this process to the group that meets in a file, which the last one deletes."""
    distributed.init_process_group(
        backend,
        init_method=f"file://{file}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=timeout_s),
    )
