"""Where soup ingredients come from: an MLflow experiment, or a folder of checkpoints."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from orchestrator.config import RunConfig
from orchestrator.config.content_key import digest
from orchestrator.tracking.mlflow_reader import Catalogue
from soups.search import Ingredient, Weights
from vosmodels import checkpoint
from vosmodels.errors import InputError

logger = logging.getLogger(__name__)

SCHEME = "mlflow:"


@dataclass(frozen=True)
class Pool:
    """Ingredients of one ancestor.

    sweep: its id, made from the files for a folder; config: the run they come from, None for a
    folder; scored: whether their scores were measured as that config says.
    """

    ingredients: tuple[Ingredient, ...]
    sweep: str
    config: RunConfig | None
    scored: bool


def from_experiment(
    catalogue: Catalogue, name: str, sweep: str | None = None, *, include_soups: bool = False
) -> Pool:
    """The trial checkpoints of the newest sweep of an experiment, or of the sweep named.

    InputError: no such experiment (with those there), no such sweep, no checkpoint in it.
    """
    experiment = catalogue.find_experiment(name)
    sweep = sweep or catalogue.newest_sweep(experiment)
    config = catalogue.config_of(experiment, sweep)
    records = catalogue.checkpoints(
        experiment, sweep, ("trial", "soup") if include_soups else ("trial",)
    )
    ingredients = [
        Ingredient(
            name=f"{record.job} step {record.step}",
            sha256=record.sha256,
            score=record.scores["jf"],
            load=_loader(partial(catalogue.download, record)),
            ancestor=record.ancestor,
            meta={"model_id": record.model_id, "step": record.step, "role": record.role},
        )
        for record in records
        if "jf" in record.scores
    ]
    if not ingredients:
        raise InputError(
            f"{catalogue.store.uri}: no scored trial checkpoint in sweep {sweep} of experiment "
            f"{experiment!r}; run the sweep to the end"
        )
    return Pool(_one_ancestor(ingredients), sweep, config, scored=True)


def from_folder(folder: Path) -> Pool:
    """The checkpoints in a folder that were trained from a stem; stems and teachers are left out.

    InputError: no such folder, no checkpoint in it, none with an ancestor, a corrupt one.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; give one with *.safetensors checkpoints, or "
            f"{SCHEME}EXPERIMENT"
        )
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise InputError(f"{folder}: no checkpoints (*.safetensors) in it; nothing to average")
    ingredients = []
    for path in paths:
        info = checkpoint.read_info(path)
        if info.ancestor is not None:
            ingredients.append(
                Ingredient(
                    name=f"{path.stem[:8]} step {info.step}",
                    sha256=sha256_of(path),
                    score=info.scores.get("jf", 0.0),
                    load=_loader(partial(Path, path)),
                    ancestor=info.ancestor,
                    meta={
                        "path": str(path),
                        "step": info.step,
                        "student": {"name": info.name, "options": dict(info.config)},
                    },
                )
            )
    if not ingredients:
        raise InputError(
            f"{folder}: none of its {len(paths)} checkpoints says which stem it was trained from; "
            "weights without a common ancestor cannot be averaged"
        )
    mine = _one_ancestor(ingredients)
    return Pool(mine, digest([i.sha256 for i in mine]), None, scored=False)


def sha256_of(path: Path) -> str:
    """Of the file itself: a person may have renamed it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _loader(path: Callable[[], Path]) -> Callable[[], Weights]:
    return lambda: checkpoint.read_tensors(path())


def _one_ancestor(ingredients: Sequence[Ingredient]) -> tuple[Ingredient, ...]:
    """Those that share the best ingredient's ancestor: sweeps with several stems have several
    pools, and a soup across them would be worthless."""
    best = min(ingredients, key=lambda i: (-i.score, i.sha256))
    mine = tuple(i for i in ingredients if i.ancestor == best.ancestor)
    if len(mine) < len(ingredients):
        left = Counter(str(i.ancestor)[:8] for i in ingredients if i.ancestor != best.ancestor)
        logger.warning(
            "taking %d checkpoints of stem %s; of other stems left out: %s",
            len(mine),
            str(best.ancestor)[:8],
            ", ".join(f"{count} of {ancestor}" for ancestor, count in sorted(left.items())),
        )
    return mine
