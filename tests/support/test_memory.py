"""Test what memory is read, and that freed memory is used again, by its fresh pages."""

import subprocess
import sys

import psutil
import pytest
import torch

from vosmodels.support import memory
from vosmodels.support.memory import Memory, gib, machine_memory

ALLOCATIONS = """
import ctypes, resource
from vosmodels.support.memory import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
SIZE = 40 * 2**20  # more than the C library keeps unasked
def fresh_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(SIZE)
    ctypes.memset(block, 1, SIZE)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def fewest():
    fresh_pages()
    return min(fresh_pages() for _ in range(3))
print(fewest(), keep_freed_memory(), fewest())
"""
WAITING_THREAD = """
import ctypes, threading
import psutil
from vosmodels.support.memory import keep_freed_memory, return_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
keep_freed_memory()
done = threading.Event()
def job():
    blocks = [libc.malloc(2**20) for _ in range(200)]
    for block in blocks:
        ctypes.memset(block, 1, 2**20)
    for block in blocks:
        libc.free(block)
    done.set()
    threading.Event().wait()
def mib():
    return psutil.Process().memory_info().rss // 2**20
threading.Thread(target=job, daemon=True).start()
done.wait()
held = mib()
return_freed_memory()
print(held, mib())
"""


def test_memory_that_was_freed_is_used_again_where_the_c_library_can_be_told():
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATIONS], check=True, capture_output=True, text=True
    )
    unasked, kept, asked = done.stdout.split()
    if kept != "True":
        pytest.skip("not glibc: nothing to tell")
    assert int(asked) < 10 < int(unasked)


def group(root, path, **files):
    folder = root / "sys" / "fs" / "cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_a_container_has_the_memory_of_its_limit_and_not_the_machines(tmp_path):
    group(tmp_path, "", memory__max=2**30, memory__current=2**28)
    assert machine_memory(tmp_path) == Memory(2**30, 2**30 - 2**28)


def test_the_lowest_limit_of_a_group_and_those_above_it_counts(tmp_path):
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/user/job\n")
    group(tmp_path, "user/job", memory__max="max", memory__current=5)
    group(tmp_path, "user", memory__max=2**29, memory__current=2**28)
    assert machine_memory(tmp_path) == Memory(2**29, 2**28)


def test_the_first_version_of_groups_is_read_too(tmp_path):
    group(tmp_path, "memory", memory__limit_in_bytes=2**29, memory__usage_in_bytes=0)
    assert machine_memory(tmp_path).total == 2**29


def test_without_a_limit_the_machine_counts(tmp_path):
    group(tmp_path, "", memory__max="max")
    assert machine_memory(tmp_path).total == psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("size", "text"),
    [(2**20, "1 MiB"), (1.5 * 2**30, "1.5 GiB"), (1234 * 2**30, "1,234 GiB")],
)
def test_bytes_are_written_in_the_unit_that_fits(size, text):
    assert gib(size) == text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="malloc of glibc")
def test_what_a_waiting_thread_has_freed_goes_back_to_the_system():
    printed = subprocess.run(
        [sys.executable, "-c", WAITING_THREAD], capture_output=True, text=True, check=True
    ).stdout
    held, left = map(int, printed.split())
    assert held - left > 150


def test_memory_that_ran_out_is_told_from_other_errors():
    full = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes")
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA"), full):
        assert memory.is_out_of_memory(error)
    for other in (RuntimeError("shapes differ"), ValueError("out of memory"), OSError()):
        assert not memory.is_out_of_memory(other)
