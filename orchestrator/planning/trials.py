"""Expand a sweep into trials: every point x every grid place x every repeat."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.config import RunConfig, SweepConfig
from orchestrator.config.content_key import canonical
from orchestrator.config.document import with_keys


@dataclass(frozen=True)
class Trial:
    """A point of the grid: its values, the number of the repeat, the resulting config.

    baseline: name of the trial of the first point in `sweep.points` with the same grid values and
    repeat; None for a trial of the first point, and without points.
    """

    name: str
    values: Mapping[str, Any]
    seed_index: int
    config: RunConfig
    baseline: str | None = None


def trials(config: SweepConfig) -> list[Trial]:
    """List the trials of a sweep in the order of the file; last key fastest."""
    base = config.model_dump(exclude={"sweep"})
    sweep = config.sweep
    short = {key: key.removesuffix(".name").rpartition(".")[2] for key in sweep.parameters}
    names = {k: s if list(short.values()).count(s) == 1 else k for k, s in short.items()}
    result = []
    points: Mapping[str, Mapping[str, Any]] = sweep.points or {"": {}}
    first = next(iter(points))
    for point, changes in points.items():
        for place in itertools.product(*sweep.parameters.values()):
            swept = {**changes, **dict(zip(sweep.parameters, place, strict=True))}
            run = RunConfig.model_validate(with_keys(base, swept))
            grid = [f"{names[key]}={_text(_get(run, key))}" for key in sweep.parameters]
            label = " ".join(filter(None, (point, *grid))) or config.name
            values = {key: _get(run, key) for key in swept}
            for index in range(sweep.seeds):
                repeat = f" repeat={index}" if sweep.seeds > 1 else ""
                baseline = None if point == first else " ".join((first, *grid)) + repeat
                result.append(Trial(label + repeat, values, index, run, baseline))
    return result


def _get(config: RunConfig, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        if isinstance(value, tuple):
            value = value[int(part)]
        else:
            value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)
