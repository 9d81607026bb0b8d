"""The trials of a sweep: every point of its grid times every repeat."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator import complaints
from orchestrator.config import RunConfig, SweepConfig
from orchestrator.keys import canonical


@dataclass(frozen=True)
class Trial:
    """One point of the grid: the swept values, which repeat it is, the config with them in."""

    name: str
    values: Mapping[str, Any]
    seed_index: int
    config: RunConfig


def trials(config: SweepConfig) -> list[Trial]:
    """Every grid point times every repeat, in the order of the file, the last key fastest."""
    base = config.model_dump(exclude={"sweep"})
    keys = list(config.sweep.parameters)
    short = {key: key.rpartition(".")[2] for key in keys}
    names = {k: s if list(short.values()).count(s) == 1 else k for k, s in short.items()}
    made = []
    for point in itertools.product(*config.sweep.parameters.values()):
        run = RunConfig.model_validate(
            complaints.with_keys(base, dict(zip(keys, point, strict=True)))
        )
        values = {key: _get(run, key) for key in keys}
        text = " ".join(f"{names[key]}={_text(value)}" for key, value in values.items())
        for index in range(config.sweep.seeds):
            repeat = f" repeat={index}" if config.sweep.seeds > 1 else ""
            made.append(Trial((text or config.name) + repeat, values, index, run))
    return made


def _get(config: RunConfig, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)
