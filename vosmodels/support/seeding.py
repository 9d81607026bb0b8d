"""Make random generators seeded by (seed, purpose, sample, ...).

No draw depends on the process, rank or loader worker that makes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_of(*parts: int | str) -> int:
    """Hash (seed, purpose, ...) to a 63-bit seed, the same on every machine."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """Make a torch CPU generator, e.g. generator(seed, "pixels", sample, frame, slot)."""
    import torch  # here, because numpy's generators are used without torch

    return torch.Generator().manual_seed(seed_of(*parts))


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """Make a numpy generator, e.g. numpy_generator(seed, "clip", sample)."""
    return np.random.default_rng(seed_of(*parts))


@contextmanager
def drawn_from(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators of the CPU and `device`, then restore them.

    Needed for layers that take no generator, such as nn.Dropout.
    """
    import torch

    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
