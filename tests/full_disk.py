"""Simulate, within this process, a disk that fills up during a write."""

import resource
from contextlib import contextmanager


@contextmanager
def room(size):
    """No file of this process grows beyond `size` bytes: what goes further is cut, and fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
