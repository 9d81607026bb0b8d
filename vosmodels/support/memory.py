"""Tell the C library to keep the memory that this process frees."""

from __future__ import annotations

import ctypes
import functools

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h


@functools.cache
def keep_freed_memory() -> bool:
    """Make malloc keep freed memory in this process; return False without glibc.

    Every frame frees its feature maps and allocates maps of the same sizes. glibc returns large
    blocks to the system each time, and faulting in new pages costs more than the arithmetic.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    options = {M_MMAP_THRESHOLD: 2**30, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 64 * 2**20}
    return all(mallopt(option, value) == 1 for option, value in options.items())
