"""Randomness belongs to the sample: every draw is seeded by what it is for, never by a process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_of(*parts: int | str) -> int:
    """63-bit seed of (seed, purpose, ...): the same parts give the same seed on every machine."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU torch generator, e.g. generator(seed, "pixels", sample, frame, slot)."""
    import torch  # here: numpy's generators are drawn from without it

    return torch.Generator().manual_seed(seed_of(*parts))


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """A numpy generator, e.g. numpy_generator(seed, "clip", sample)."""
    return np.random.default_rng(seed_of(*parts))


@contextmanager
def drawn_from(seed: int, device: torch.device) -> Iterator[None]:
    """Let torch's own generators of the CPU and `device` start from `seed`, then restore them.

    For layers that take no generator, such as nn.Dropout.
    """
    import torch

    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
