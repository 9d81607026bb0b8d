"""Expand a sweep into trials: every point x every place of the parameters x every repeat."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.config import RunConfig, SweepConfig, ranges
from orchestrator.config.content_key import canonical
from orchestrator.config.document import with_keys


@dataclass(frozen=True)
class Trial:
    """A place of the sweep: its values, the number of the repeat, the resulting config.

    baseline: name of the trial of the first point in `sweep.points` at the same place, with the
    same repeat; None for a trial of the first point, and without points.
    """

    name: str
    values: Mapping[str, Any]
    seed_index: int
    config: RunConfig
    baseline: str | None = None


def trials(config: SweepConfig) -> list[Trial]:
    """List the trials of a sweep: a grid in the order of the file, last key fastest, or as drawn.

    A larger `sweep.max_trials` adds trials and changes none. For a search by Optuna, which chooses
    while the sweep runs, places drawn at random stand in.
    """
    return trials_at(config, places(config))


def places(config: SweepConfig) -> Iterator[dict[str, Any]]:
    """Yield the values of the swept keys that `trials` are made of, in order."""
    sweep = config.sweep
    found = ranges.places(RunConfig, sweep.parameters, sweep.search, config.seed)
    return itertools.islice(found, sweep.max_trials)


def trials_at(config: SweepConfig, at: Iterable[Mapping[str, Any]]) -> list[Trial]:
    """List the trials at places: of every point there, every repeat."""
    base = config.model_dump(exclude={"sweep"})
    sweep = config.sweep
    names = short_names(sweep.parameters)
    result = []
    points: Mapping[str, Mapping[str, Any]] = sweep.points or {"": {}}
    first, each_place = next(iter(points)), list(at)
    for point, changes in points.items():
        for place in each_place:
            swept = {**changes, **place}
            run = RunConfig.model_validate(with_keys(base, swept))
            grid = [f"{names[key]}={text_of(_get(run, key))}" for key in sweep.parameters]
            label = " ".join(filter(None, (point, *grid))) or config.name
            values = {key: _get(run, key) for key in swept}
            for index in range(sweep.seeds):
                repeat = f" repeat={index}" if sweep.seeds > 1 else ""
                baseline = None if point == first else " ".join((first, *grid)) + repeat
                result.append(Trial(label + repeat, values, index, run, baseline))
    return result


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Name keys by their last part, `omega` for loss.omega; in full where two would be alike."""
    short = {key: key.removesuffix(".name").rpartition(".")[2] for key in keys}
    return {k: s if list(short.values()).count(s) == 1 else k for k, s in short.items()}


def idle_keys(config: SweepConfig) -> list[str]:
    """List swept keys that no trial reads, each with what would have to be set; trials are equal.

    The terms of weight 0 and the samplers that are not chosen leave the keys of `loss` unread.
    """
    losses = [trial.config.loss for trial in trials(config)]
    read: Mapping[str, tuple[bool, str]] = {
        **dict.fromkeys(
            ("tau", "kl", "kl_pixels", "tau_squared"),
            (any(loss.logit > 0 for loss in losses), "loss.logit is 0"),
        ),
        **dict.fromkeys(
            ("omega", "method", "norm"),
            (any(loss.representation > 0 for loss in losses), "loss.representation is 0"),
        ),
        "z": (
            any(loss.representation > 0 or loss.cka > 0 for loss in losses),
            "loss.representation and loss.cka are 0",
        ),
        "jaccard": (any(loss.dice > 0 for loss in losses), "loss.dice is 0"),
        "poly": (any(loss.ce > 0 for loss in losses), "loss.ce is 0"),
        "sampling": (
            any(loss.needs_pixels for loss in losses),
            "loss.logit and loss.representation are 0",
        ),
        "boundary_width": (
            any(
                loss.needs_pixels and (loss.sampling != "all" or loss.kl_pixels == "boundary")
                for loss in losses
            ),
            "all pixels are compared (loss.sampling, loss.kl_pixels)",
        ),
        "relation_tau": (
            any(loss.inter > 0 or loss.intra > 0 for loss in losses),
            "loss.inter and loss.intra are 0",
        ),
        **dict.fromkeys(
            ("attention_pairs", "attention_of", "attention_part", "attention_loss"),
            (any(loss.attention > 0 for loss in losses), "loss.attention is 0"),
        ),
        "attention_tau": (
            any(
                loss.attention > 0
                and loss.attention_loss == "kl"
                and loss.attention_part != "weights"
                for loss in losses
            ),
            "no outputs are compared by the KL divergence (loss.attention_loss, attention_part)",
        ),
        "projectors": (
            any(loss.attention > 0 and loss.attention_loss == "projectors" for loss in losses),
            "loss.attention_loss is not projectors",
        ),
    }
    unread = _unread_teacher_keys([trial.config for trial in trials(config)])
    return [
        f"sweep: {key} has no effect: {unread[key]}"
        for key in sorted(config.sweep.keys & unread.keys())
    ] + [
        f"sweep: {key} has no effect: {read[name][1]} in every trial"
        for key in sorted(config.sweep.keys)
        if (name := key.removeprefix("loss.")) in read and key != name and not read[name][0]
    ]


def _unread_teacher_keys(runs: Sequence[RunConfig]) -> dict[str, str]:
    """Return the keys by which a teacher labels videos that no run reads, each with the reason."""
    if not any("teacher" in run.labels for run in runs):
        reason = "no folder has labels: teacher in any trial"
        return {f"teacher.{key}": reason for key in ("segments", "rows", "targets", "threshold")}
    if not any(run.loss.ce > 0 or run.loss.dice > 0 for run in runs):
        return {"teacher.targets": "loss.ce and loss.dice are 0 in every trial"}
    return {}


def _get(config: RunConfig, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        if isinstance(value, tuple):
            value = value[int(part)]
        else:
            value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def text_of(value: Any) -> str:
    """Write a swept value as names of trials do."""
    return value if isinstance(value, str) else canonical(value)
