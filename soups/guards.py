"""Refuse what has no useful average, and say where it was made all the same."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from torch import Tensor

from orchestrator.config import RunConfig
from orchestrator.config.data import DataConfig
from orchestrator.tracking.storage import Storage
from soups.recalibration import STATISTICS, statistics_of
from soups.search import Ingredient
from vosmodels import checkpoint, registry
from vosmodels.errors import InputError, UsageError

logger = logging.getLogger(__name__)

TRAIN = "train"

Bn = Literal["average", "recalibrate"]  # what becomes of BatchNorm statistics that differ
DONE: Mapping[Bn, str] = {
    "average": "averaged",
    "recalibrate": "taken anew from training clips, for every mean",
}


def first_difference(
    ours: tuple[str, Mapping[str, Any]], theirs: tuple[str, Mapping[str, Any]]
) -> str | None:
    """Return the first key in which two models, (name, config), differ, and its values.

    Options that change no weight, such as the memory at inference, may differ. None: one model.
    """
    if ours[0] != theirs[0]:
        return f"model {ours[0]!r} and {theirs[0]!r}"
    free: frozenset[str] = frozenset()
    if ours[0] in registry.REGISTRY:
        free = getattr(registry.entry(ours[0]).config, "free_options", free)
    for key in sorted(set(ours[1]) | set(theirs[1])):
        if key not in free and ours[1].get(key) != theirs[1].get(key):
            return f"{key} {ours[1].get(key)!r} and {theirs[1].get(key)!r}"
    return None


def check_pool(
    ingredients: Sequence[Ingredient], storage: Storage, *, bn: Bn | None = None
) -> list[str]:
    """Refuse a pool of several models, or of several BatchNorm statistics; return warnings.

    Models are told by what the files in storage say of themselves; whatever lies elsewhere is
    compared by names, types and shapes when it is averaged. Every model here trains with frozen
    BatchNorm, so that checkpoints of one stem have equal statistics, which are read of each
    ingredient once. Where they differ the mean is of networks that scale their features in other
    ways. bn: what is done to them, of which a warning tells; None: they are refused.
    Raises InputError with the first key that differs.
    """
    first = ingredients[0]
    model = _model(first, storage)
    for other in ingredients[1:]:
        theirs = _model(other, storage)
        if model and theirs and (problem := first_difference(model, theirs)):
            raise InputError(
                f"{first.name} and {other.name} are of two models: {problem}; weights of one "
                "model alone have an average: take one of them out"
            )
    statistics = _statistics(first, storage)
    for other in ingredients[1:]:
        key = _unequal(statistics, _statistics(other, storage))
        if key is None:
            continue
        said = f"{first.name} and {other.name} differ in {key}"
        if bn is None:
            raise InputError(
                f"{said}: BatchNorm is frozen in training, so they did not start from the same "
                "statistics; leave one of them out, average the statistics too, --bn average, or "
                "take those of means from training clips, --bn recalibrate"
            )
        return [f"{said}: the BatchNorm statistics were {DONE[bn]} (--bn {bn})"]
    return []


def one_family(ingredients: Sequence[Ingredient]) -> tuple[tuple[Ingredient, ...], list[str]]:
    """Take checkpoints of several stems as if they were of one; return them, and a warning.

    They have no stem afterwards, and neither has their soup.
    """
    stems = {ingredient.ancestor for ingredient in ingredients}
    if len(stems) < 2 and None not in stems:
        return tuple(ingredients), []
    names = ", ".join(sorted((stem or "no stem")[:8] for stem in stems))
    return (
        tuple(replace(ingredient, ancestor=None) for ingredient in ingredients),
        [
            f"checkpoints without a common ancestor ({names}) were averaged (--force): such means "
            "are mostly worthless"
        ],
    )


def select_on_train(config: RunConfig) -> Mapping[str, Any]:
    """Return the keys by which training videos choose, as in the paper.

    Raises UsageError where the training videos are a list of folders.
    """
    if not isinstance(config.data.train, str):
        raise UsageError(
            "--select-on train: data.train is a list of folders; name one of them with --data, and "
            "its split with --split"
        )
    return {"data.select": config.data.train, "data.select_root": None}


def warning_of(data: DataConfig) -> list[str]:
    """Say that training videos choose, where they do."""
    if not chosen_on(data):
        return []
    return ["training videos chose, as in the paper: their J&F says nothing of other videos"]


def chosen_on(data: DataConfig) -> str:
    """Return `train` where the videos that choose are training videos, else nothing."""
    same = data.select_root in (None, data.root) and data.select == data.train
    return TRAIN if same else ""


def _model(ingredient: Ingredient, storage: Storage) -> tuple[str, Mapping[str, Any]] | None:
    info = _info(storage.checkpoint(ingredient.sha256))
    return None if info is None else (info.name, info.config)


def _info(path: Path) -> checkpoint.CheckpointInfo | None:
    """Read what a file says of itself; None where it is gone or corrupt.

    `Ingredient.load` then takes another copy, or says what is wrong.
    """
    try:
        return checkpoint.read_info(path)
    except InputError:
        return None


def _statistics(ingredient: Ingredient, storage: Storage) -> dict[str, Tensor]:
    """Read an ingredient's BatchNorm statistics, alone where its file is in storage."""
    path = storage.checkpoint(ingredient.sha256)
    if _info(path) is None:
        return statistics_of(ingredient.load())
    with safetensors.safe_open(path, framework="pt") as file:
        return {k: file.get_tensor(k) for k in file.keys() if k.endswith(STATISTICS)}  # noqa: SIM118


def _unequal(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str | None:
    """Return the first key whose statistics differ; those that only one has are no statistics."""
    for key in sorted(ours.keys() & theirs.keys()):
        if not torch.equal(ours[key], theirs[key]):
            return key
    return None
