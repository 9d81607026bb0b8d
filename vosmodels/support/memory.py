"""Read what memory the machine has, keep what is freed, and tell when there is no more."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

GIB = 2**30
# A limit of this group of processes: cgroup v2, then v1.
LIMITS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h


@functools.cache
def keep_freed_memory() -> bool:
    """Make malloc keep freed memory in this process; return False without glibc.

    Every frame frees its feature maps and allocates maps of the same sizes. glibc returns large
    blocks to the system each time, and faulting in new pages costs more than the arithmetic.
    """
    mallopt = _c_function("mallopt")
    if mallopt is None:
        return False
    options = {M_MMAP_THRESHOLD: 2**30, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 64 * 2**20}
    return all(mallopt(option, value) == 1 for option, value in options.items())


def return_freed_memory() -> None:
    """Give the system back what malloc kept; without glibc do nothing.

    malloc keeps it for the thread that freed it. Ray runs every job of a process in a thread of its
    own and leaves that of the job before waiting: each would keep the memory of a whole job.
    """
    trim = _c_function("malloc_trim")
    if trim is not None:
        trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on a GPU or in the machine."""
    import torch  # the other functions serve commands that answer before it is loaded

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error).lower()
    full = "out of memory" in said or "allocate memory" in said
    return isinstance(error, RuntimeError) and full


def _c_function(name: str) -> Callable[..., int] | None:
    """Return a function of this process's C library; None where it has none of that name."""
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return found


@dataclass(frozen=True)
class Memory:
    """Bytes of memory that processes here may have in all, and that are free now."""

    total: int
    free: int

    def __str__(self) -> str:
        """Describe both in GiB."""
        return f"{self.total / GIB:.0f} GiB ({self.free / GIB:.0f} free)"


def machine_memory(root: Path = Path("/")) -> Memory:
    """Read the machine's memory, or the lower limit of the container or group of this process.

    root: folder with `proc` and `sys`, for tests.
    """
    machine = psutil.virtual_memory()
    total, free = machine.total, machine.available
    for folder in _group_folders(root):
        for limit_file, used_file in LIMITS:
            limit, used = _number(folder / limit_file), _number(folder / used_file)
            if limit is not None and limit < total:
                total = limit
            if limit is not None and used is not None:
                free = min(free, max(0, limit - used))
    return Memory(total, min(free, total))


def _group_folders(root: Path) -> list[Path]:
    """List the folders of this process's control groups, with all groups above them."""
    top = root / "sys" / "fs" / "cgroup"
    folders = {top, top / "memory"}  # in a container its own group is the top
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:  # no Linux
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            base = top / controllers
            own = base / path.strip("/")
            folders |= {own, *(up for up in own.parents if up.is_relative_to(base))}
    return sorted(folders)


def _number(path: Path) -> int | None:
    """Read a file of a control group; None where there is none, or it says `max`."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def gib(size: float) -> str:
    """Write bytes as GiB, with a decimal below 10, or as MiB below a tenth."""
    if size < 0.1 * GIB:
        return f"{size / 2**20:.0f} MiB"
    return f"{size / GIB:.1f} GiB" if size < 9.95 * GIB else f"{size / GIB:,.0f} GiB"
