"""Say which half types this machine's processor multiplies, and what emulating one costs."""

from __future__ import annotations

import time

import torch
from torch.nn import functional

# Capabilities as torch names them: matrix or vector instructions on x86, and Arm's.
BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")
FLOAT16 = ("amx_fp16", "avx512_fp16", "fp16_arith")
ROUNDS = 3  # timed convolutions, of which the fastest counts


def multiplies(dtype: torch.dtype) -> bool:
    """Return whether the processor has instructions for products of a half type."""
    known = torch.cpu.get_capabilities()
    names = BFLOAT16 if dtype == torch.bfloat16 else FLOAT16
    return any(known.get(name) for name in names)


def slowdown(dtype: torch.dtype) -> float:
    """Measure how many times longer a convolution and its gradient take than in float32."""
    return _seconds(dtype) / _seconds(torch.float32)


def _seconds(dtype: torch.dtype) -> float:
    images = torch.ones(1, 64, 48, 48)
    weight = torch.full((64, 64, 3, 3), 0.01, requires_grad=True)
    best = float("inf")
    for _ in range(1 + ROUNDS):  # the first one prepares
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            functional.conv2d(images, weight).sum().backward()
        best = min(best, time.perf_counter() - start)
    return best
