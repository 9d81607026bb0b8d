"""Run groups of jobs without Ray in processes of their own, which a test can kill."""

import itertools
import os
import random
import signal
import sys
from datetime import timedelta

import numpy as np
import torch
from torch import distributed

from orchestrator.execution import job as jobs
from orchestrator.tracking import leases
from orchestrator.tracking.ledger import JobRecord
from orchestrator.tracking.storage import Storage
from orchestrator.training.distributed import Workers
from orchestrator.training.loop import Diverged

CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "shutil.rmtree"}


def alone(group, root, die_at=0):
    """Train in this process. die_at: SIGKILL right before the change on disk of that number."""
    _die(die_at, root)
    jobs.run(group, Storage(root))
    assert "ray" not in sys.modules


def together(rank, world, group, root, meeting, store=None, die=False):
    """Train as one of `world` processes that meet over a file.

    store: of which each has a working copy; die: SIGKILL right after its first resume state.
    """
    leases.LEASE_S = -1.0  # those of killed processes run out at once
    push = JobRecord.push_state

    def push_and_die(record, step):
        push(record, step)
        os.kill(os.getpid(), signal.SIGKILL)

    if die:
        JobRecord.push_state = push_and_die  # type: ignore[method-assign]
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=60),
    )
    jobs.run(group, Storage(root, store), Workers.of_process_group(torch.device("cpu")))
    distributed.destroy_process_group()
    assert "ray" not in sys.modules


def in_turn(todo, root, disturbed=False):
    """Train one job after the other, whatever becomes of each; with `disturbed` after everything
    a process can remember was changed."""
    if disturbed:
        disturb()
    for job in todo:
        try:
            jobs.run([job], Storage(root))
        except Diverged as error:
            assert "not finite" in str(error)


def disturb():
    """Change whatever a process remembers and training can do with."""
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    torch.set_num_threads(2)
    torch.set_flush_denormal(True)
    torch.set_float32_matmul_precision("medium")
    torch.backends.mkldnn.set_flags(False)
    torch.set_autocast_enabled("cpu", True)


def _die(number, root):
    count = itertools.count(1)

    def look(event, args):
        writing = event == "open" and args[1] is not None and set(args[1]) & set("wxa")
        here = args and isinstance(args[0], str | os.PathLike) and _inside(args[0], root)
        if here and (writing or event in CHANGES) and next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def _inside(path, root):
    return os.fspath(path).startswith(os.fspath(root))
