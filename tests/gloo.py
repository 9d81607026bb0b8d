"""Meet other ranks on this machine, for tests that train with several processes."""

import os
from contextlib import contextmanager

import torch
from torch import distributed

from orchestrator.training.distributed import Workers


@contextmanager
def two_ranks(rank, meeting):
    """This process as one of two gloo ranks on one thread; `meeting` is a file both can write."""
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    try:
        yield Workers.of_process_group(torch.device("cpu"))
    finally:
        distributed.destroy_process_group()
