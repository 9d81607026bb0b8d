"""Decide what `train.amp: auto` means, once per sweep, and warn of a type that is emulated."""

from __future__ import annotations

import torch

from orchestrator.config import RunConfig, SweepConfig
from orchestrator.config.train import Precision
from orchestrator.planning.trials import trials
from orchestrator.tracking.storage import Storage
from vosmodels.support import processor
from vosmodels.support.atomic_files import read_json

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def precision_of(config: RunConfig, storage: Storage, sweep: str) -> Precision:
    """Decide on bfloat16 where GPUs train, or a processor that multiplies it; off elsewhere.

    The keys of the jobs hold the answer, so it stays what the first run chose, on whatever machine
    the sweep goes on: `auto` for a sweep from before there was a choice on CPUs. Raises InputError
    if the file that holds the answer cannot be read.
    """
    settings = read_json(storage.sweeps / f"{sweep}.json")
    if settings is not None:
        known: Precision = settings.get("amp", "auto")
        return known
    if config.cluster.gpus_per_worker > 0 or processor.multiplies(torch.bfloat16):
        return "bfloat16"
    return "off"


def emulated(config: SweepConfig) -> list[str]:
    """List the half types of the trials that this machine's processor emulates, with the cost.

    Empty for trials on GPUs, or on other machines.
    """
    if config.cluster.gpus_per_worker > 0 or config.cluster.address is not None:
        return []
    types = {trial.config.train.amp for trial in trials(config)} & HALF.keys()
    return [
        f"train.amp {name}: this processor has no instructions for it and emulates them: a "
        f"convolution takes {processor.slowdown(HALF[name]):.1f} times as long as in float32; "
        "take train.amp=auto"
        for name in sorted(types)
        if not processor.multiplies(HALF[name])
    ]
