"""Test that freed memory is used again, by the pages that a process is given anew."""

import subprocess
import sys

import pytest

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


def test_memory_that_was_freed_is_used_again_where_the_c_library_can_be_told():
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATIONS], check=True, capture_output=True, text=True
    )
    unasked, kept, asked = done.stdout.split()
    if kept != "True":
        pytest.skip("not glibc: nothing to tell")
    assert int(asked) < 10 < int(unasked)
