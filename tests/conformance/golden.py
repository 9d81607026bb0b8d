"""Find the files of golden vectors, and read their arrays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KINDS = {"eval": "mem_every", "train": "selector", "misc": "agg_in"}  # kind -> a name only it has
_AOT = r"aott|deaott|deaotl|r50_aotl|r50_deaotl"
# Fixture of a test -> names of the files that it gets one by one. The group `pattern` is what the
# name is reported and required by; what follows it tells files of one pattern apart.
FAMILIES = {
    "golden_file": re.compile(
        r"(?P<pattern>stcn_(eval_last|eval_5obj|eval|train_mo|train_so|misc))(_.*)?"
    ),
    "golden_aot_loss": re.compile(rf"(?P<pattern>({_AOT})_trainloss)(_.*)?"),
    "golden_aot_video": re.compile(rf"(?P<pattern>{_AOT})(?!_trainloss)(_.*)?"),
    "golden_aot_misc": re.compile(r"(?P<pattern>aot_misc)(_.*)?"),
}


class Golden:
    """A file of golden vectors: arrays by name."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self._arrays = dict(np.load(path))

    def __getitem__(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = self._arrays[name]
        return array

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    @property
    def rule(self) -> str:
        """Rule that filled the weights: the last part of the file's name."""
        return self.name.rpartition("_")[2]

    @property
    def kind(self) -> str:
        """Kind of run, known by the arrays in the file."""
        return next(kind for kind, only in KINDS.items() if only in self)

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self[name])

    def frames(self) -> Tensor:
        """(..., 3, H, W) float in [0, 1]."""
        return self.tensor("rgb_u8").movedim(-1, -3).float() / 255


def found(folder: Path, family: str | None = None) -> list[Path]:
    """The golden files of a folder, by name: those of one family, or those of all."""
    patterns = [FAMILIES[family]] if family else list(FAMILIES.values())
    files = sorted(folder.glob("*.npz"))
    return [path for path in files if any(one.fullmatch(path.stem) for one in patterns)]


def pattern(path: Path) -> str:
    """`stcn_eval_last` of `stcn_eval_last_B.npz`."""
    match = next(filter(None, (one.fullmatch(path.stem) for one in FAMILIES.values())))
    return match["pattern"]


def missing(required: list[str], files: list[Path]) -> list[str]:
    """The required names, of a file or of a pattern, with or without `stcn_`, that nothing has."""
    there = {name for path in files for name in (path.stem, pattern(path))}
    return [n for n in required if not {n, f"stcn_{n}"} & {*there}]
