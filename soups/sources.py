"""Gather the ingredients of a soup: from ledgers, from MLflow, from folders.

A trial that did not run to its end, or was stopped early, is left out unless it is asked for.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.config import RunConfig, SweepConfig
from orchestrator.config.content_key import canonical, digest
from orchestrator.config.loading import changed, run_of
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.config.sections import EXPERIMENT
from orchestrator.planning.protocol import protocol_key
from orchestrator.tracking.events import Role, Started
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_names import CheckpointRecord
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.storage import Storage
from soups.guards import first_difference, one_family
from soups.scoring import Weights
from soups.search import Ingredient
from vosmodels import checkpoint, registry
from vosmodels.data.listing import visible
from vosmodels.errors import InputError
from vosmodels.support.atomic_files import read_json
from vosmodels.support.digests import sha256_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Student:
    """A model by its registry name and its whole config."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Pool:
    """Checkpoints of one ancestor that a soup may be made of.

    sweep: id of the sweep they belong to, or a digest of a folder's checkpoints; config: the run
    they come from, None for a folder; scored: whether their scores are select scores of `config`;
    students: what a folder's checkpoints are of, each model once; warnings: what was done against a
    guard.
    """

    ingredients: tuple[Ingredient, ...]
    sweep: str
    config: RunConfig | None
    scored: bool
    students: tuple[Student, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The content key of the ingredients, whatever their order and wherever they lie."""
        return digest(sorted({ingredient.sha256 for ingredient in self.ingredients}))


def from_ledger(
    storage: Storage,
    config: RunConfig,
    sweep: str,
    trials: Sequence[str],
    fetch: Callable[[str], Path] | None = None,
    *,
    include_unfinished: bool = False,
    force: bool = False,
) -> Pool:
    """Gather the trial checkpoints of a sweep from the ledger and the files beside it.

    The pool equals that of `from_experiment`, and needs no MLflow: it has the trials that the
    sweep trained, those of an earlier grid too, and `trials`, the job keys of its plan, which
    another sweep may have trained.
    fetch: returns a copy of a file that is gone or corrupt, by sha256; asked when its weights are
    loaded. force: those of every stem, not of the best one's alone.

    InputError: no scored checkpoint, or a line of the ledger of `trials` cannot be read.
    """
    ingredients, unfinished = [], 0
    for job in Ledger.of(storage).jobs():
        try:
            first = next(iter(job.of(Started)), None)  # MLflow names a job by its first start, too
        except InputError as error:
            if job.key in trials:
                raise
            logger.warning("a job that this sweep does not plan is left out: %s", error)
            continue
        if first is None or first.role != "trial":
            continue
        if first.sweep != sweep and job.key not in trials:
            continue
        if job.state != "done" and not include_unfinished:
            unfinished += 1
            continue
        for event in sorted(job.checkpoints(), key=lambda event: event.step):
            if "jf" in event.scores:
                ingredients.append(
                    Ingredient(
                        name=f"{first.name} step {event.step}",
                        sha256=event.sha256,
                        score=event.scores["jf"],
                        load=partial(_read, storage.root / event.path, event.sha256, fetch),
                        ancestor=event.ancestor or first.ancestor,
                        step=event.step,
                    )
                )
    if not ingredients:
        raise InputError(
            f"{storage.ledger}: no scored trial checkpoint of sweep {sweep}; run the sweep to the "
            f"end{_or_take(unfinished)}"
        )
    _tell(unfinished, sweep)
    pool, warnings = _of_one_stem(ingredients, force)
    return Pool(pool, sweep, config, scored=True, warnings=warnings)


def from_storage(
    folder: Path, sweep: str = "", *, include_unfinished: bool = False, force: bool = False
) -> Pool:
    """Gather the trial checkpoints of a sweep in a storage folder; needs no MLflow.

    sweep: the first letters of its id; the newest without. InputError: no such sweep (with those
    there), and as `from_ledger`.
    """
    root = folder.absolute()
    records = _sweeps(root)
    found = [name for name in records if name.startswith(sweep)]
    if not found or (sweep and len(found) > 1):
        those = ", ".join(records) or "none; is it a storage folder, which has ledger/ and sweeps/?"
        raise InputError(
            f"{folder}: {len(found) or 'no'} sweeps begin with {sweep!r}; those there, the newest "
            f"first: {those}"
        )
    record, storage = records[found[0]], Storage(root)
    config = run_of(SweepConfig.model_validate(record["config"] | {"storage": str(root)}))
    trials = list(record.get("trials") or ())
    return from_ledger(
        storage,
        config,
        found[0],
        trials,
        include_unfinished=include_unfinished,
        force=force,
    )


def _sweeps(root: Path) -> dict[str, Any]:
    """Read the sweeps that ran in a storage folder, the newest first, by their ids."""
    # Beside `ID.json` lie others of the sweep, such as `ID-results.json`, which has a config too.
    paths = [path for path in (root / "sweeps").glob("*.json") if "-" not in path.stem]
    newest_first = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)
    read = {path.stem: read_json(path) for path in newest_first}
    return {name: r for name, r in read.items() if isinstance(r, dict) and "config" in r}


def from_experiment(
    reader: MlflowReader,
    name: str,
    *,
    include_soups: bool = False,
    include_unfinished: bool = False,
    where: str = "",
    force: bool = False,
) -> Pool:
    """Gather the trial checkpoints of EXPERIMENT's newest sweep, or of EXPERIMENT@SWEEP.

    where: a filter of runs as MLflow writes it, which theirs must match; force: as `from_ledger`.
    InputError: no such experiment (with those there), no such sweep, no checkpoint in it.
    UsageError: a filter that MLflow cannot read.
    """
    experiment, sweep = reader.resolve(name)
    config = reader.config_of(experiment, sweep)
    roles: Sequence[Role] = ("trial", "soup") if include_soups else ("trial",)
    records = reader.checkpoints(experiment, sweep, roles)
    unfinished = 0
    if not include_unfinished:
        ended = reader.jobs(experiment, "status = 'FINISHED'")
        unfinished = len({record.key for record in records} - ended)
        records = [record for record in records if record.key in ended]
    if where:
        wanted = reader.jobs(experiment, where)
        records = [record for record in records if record.key in wanted]
    ingredients = [
        Ingredient(
            name=f"{record.job} step {record.step}",
            sha256=record.sha256,
            score=record.scores["jf"],
            load=partial(_download, reader, record, Storage(config.storage_root)),
            ancestor=record.ancestor,
            step=record.step,
        )
        for record in records
        if "jf" in record.scores
    ]
    if not ingredients:
        raise InputError(
            f"{reader.store.uri}: no scored trial checkpoint in sweep {sweep} of experiment "
            f"{experiment!r}{f' where {where}' if where else ''}; run the sweep to the end"
            f"{_or_take(unfinished)}"
        )
    _tell(unfinished, sweep)
    pool, warnings = _of_one_stem(ingredients, force)
    return Pool(pool, sweep, config, scored=True, warnings=warnings)


def _or_take(unfinished: int) -> str:
    return f", or take the {unfinished} unfinished ones: --include-unfinished" if unfinished else ""


def _tell(unfinished: int, sweep: str) -> None:
    if unfinished:
        logger.info(
            "sweep %s: %d trials did not run to their end and stay out", sweep[:8], unfinished
        )


def together(pools: Sequence[Pool], names: Sequence[str] = (), *, force: bool = False) -> Pool:
    """Join pools: the soup belongs to the sweep of the first, and is chosen as that one chooses.

    Scores of another protocol, and those of a folder, are not taken: all are then scored anew. Of
    several stems the best checkpoint's is taken, or by `force` all. names: what errors call them;
    their sweeps by default. InputError: another student; a pool that would add nothing, as none of
    its checkpoints is of that stem.
    """
    first = pools[0]
    if len(pools) == 1:
        return first
    configs = [pool.config for pool in pools if pool.config is not None]
    known = {canonical([s.name, s.options]) for pool in pools for s in _students(pool)}
    if len(known) > 1:
        raise InputError(
            f"--runs: checkpoints of {len(known)} students; soups need one: name sweeps of one"
        )
    chosen = {canonical(protocol_key(ScoringProtocol.for_select(c.data))) for c in configs}
    ingredients = {i.sha256: i for pool in pools for i in pool.ingredients}
    taken, warnings = _of_one_stem(list(ingredients.values()), force)
    _check_each_adds(names or [pool.sweep for pool in pools], pools, taken)
    return Pool(
        taken,
        first.sweep,
        first.config or next(iter(configs), None),
        scored=all(pool.scored for pool in pools) and len(chosen) == 1,
        students=first.students,
        warnings=warnings or tuple(text for pool in pools for text in pool.warnings),
    )


def _check_each_adds(
    names: Sequence[str], pools: Sequence[Pool], taken: Sequence[Ingredient]
) -> None:
    """Refuse pools of which nothing was taken, as all of it is of other stems."""
    there = {ingredient.sha256 for ingredient in taken}
    idle = [
        f"{name} ({', '.join(sorted({str(i.ancestor)[:8] for i in pool.ingredients}))})"
        for name, pool in zip(names, pools, strict=True)
        if not any(ingredient.sha256 in there for ingredient in pool.ingredients)
    ]
    if idle:
        raise InputError(
            "--runs: no common stem: the best checkpoint was trained from "
            f"{str(taken[0].ancestor)[:8]}, and none of {' or of '.join(idle)}; weights without a "
            "common ancestor have no useful average: leave out what is of another stem, or --force"
        )


def _students(pool: Pool) -> Sequence[Student]:
    if pool.config is None:
        return pool.students
    student = pool.config.student
    whole = registry.config(student.name, **student.options).model_dump(mode="json")
    return [Student(student.name, whole)]


def from_folder(folder: Path, *, force: bool = False) -> Pool:
    """Gather a folder's checkpoints that were trained from a stem; skip stems and teachers.

    force: every checkpoint, whatever it was trained from.
    InputError: no such folder, no checkpoint in it, none with an ancestor, a corrupt one.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; give one with *.safetensors checkpoints, or "
            f"{EXPERIMENT}EXPERIMENT"
        )
    paths = sorted(path for path in visible(folder) if path.suffix == ".safetensors")
    if not paths:
        raise InputError(f"{folder}: no checkpoints (*.safetensors) in it; nothing to average")
    ingredients, students, files = [], {}, dict[str, Path]()
    for path in paths:
        info = checkpoint.read_info(path)
        if info.ancestor is not None or force:
            sha256 = sha256_of(path)  # a person may have changed its name
            students[sha256] = Student(info.name, info.config)
            files[sha256] = path
            ingredients.append(
                Ingredient(
                    name=f"{path.stem[:8]} step {info.step}",
                    sha256=sha256,
                    score=info.scores.get("jf", 0.0),
                    load=partial(checkpoint.read_tensors, path, sha256),
                    ancestor=info.ancestor,
                    step=info.step,
                )
            )
    if not ingredients:
        raise InputError(
            f"{folder}: none of its {len(paths)} checkpoints says which stem it was trained from; "
            "weights without a common ancestor have no useful average: --force takes them all"
        )
    pool, warnings = _of_one_stem(ingredients, force)
    distinct = {canonical([s.name, s.options]): s for s in (students[i.sha256] for i in pool)}
    if len(distinct) == 1:  # several are refused by name
        _check_layouts([files[ingredient.sha256] for ingredient in pool])
    sweep = digest([ingredient.sha256 for ingredient in pool])
    return Pool(
        pool, sweep, None, scored=False, students=tuple(distinct.values()), warnings=warnings
    )


def _check_layouts(paths: Sequence[Path]) -> None:
    """Raise InputError if the tensors of two checkpoints differ in name, type or shape."""
    first, wanted = paths[0], checkpoint.read_layout(paths[0])
    for path in paths[1:]:
        layout = checkpoint.read_layout(path)
        for name in sorted(wanted.keys() | layout.keys()):
            if layout.get(name) != wanted.get(name):
                has, other = (_layout_text(tensors.get(name)) for tensors in (layout, wanted))
                raise InputError(
                    f"{path}: {name} is {has}, in {first} it is {other}; a soup needs checkpoints "
                    "whose tensors have the same names, types and shapes: take one of them out"
                )


def _layout_text(tensor: tuple[str, tuple[int, ...]] | None) -> str:
    return "not there" if tensor is None else f"{tensor[0]} {list(tensor[1])}"


def config_of_folder(folder: Path, pool: Pool, data: str, split: str | None) -> RunConfig:
    """Describe a run around a folder's checkpoints: their student, the command line's data."""
    if len(pool.students) > 1:
        one, other = ((student.name, student.options) for student in pool.students[:2])
        raise InputError(
            f"{folder}: checkpoints of {len(pool.students)} students; soups need one: "
            f"{first_difference(one, other)}"
        )
    (student,) = pool.students
    name = re.sub(r"[^A-Za-z0-9_-]", "-", folder.absolute().name) or "folder"
    values: dict[str, Any] = {
        "student": {"name": student.name, "options": dict(student.options)},
        "data.root": data,
    }
    if split is not None:
        values["data.select"] = split
    run = RunConfig(name=name)
    if side := registry.entry(student.name).side:  # the default teacher takes other sides
        values |= {"train.crop": run.train.crop + side}
        values |= {"loss.logit": 0.0, "loss.representation": 0.0}
    return changed(run, values, "command line")


def _read(path: Path, sha256: str, fetch: Callable[[str], Path] | None) -> Weights:
    """Read a checkpoint, or the copy that `fetch` gives where its file is gone or corrupt."""
    try:
        return checkpoint.read_tensors(path, sha256)
    except InputError as error:
        if fetch is None:
            raise
        reason = str(error) if path.exists() else f"{path}: gone"
    try:
        tensors = checkpoint.read_tensors(fetch(sha256), sha256)
    except InputError as error:
        raise InputError(f"{reason}; nor can its copy in MLflow be taken: {error}") from error
    logger.warning("%s; its copy in MLflow is taken", reason)
    return tensors


def _download(reader: MlflowReader, record: CheckpointRecord, storage: Storage) -> Weights:
    """Read a checkpoint's copy in MLflow, or where that is of no use the file in storage."""
    path = storage.checkpoint(record.sha256)
    try:
        return checkpoint.read_tensors(reader.download(record), record.sha256)
    except InputError as error:
        if not path.is_file():
            raise
        reason = str(error)
    try:
        tensors = checkpoint.read_tensors(path, record.sha256)
    except InputError as error:
        raise InputError(f"{reason}; nor can the file in storage be taken: {error}") from error
    logger.warning("%s; %s is taken", reason, path)
    return tensors


def _of_one_stem(
    ingredients: Sequence[Ingredient], force: bool
) -> tuple[tuple[Ingredient, ...], tuple[str, ...]]:
    """Keep those of the best one's stem; with `force` all, and a warning where they differ."""
    if not force:
        return _best_ancestor(ingredients), ()
    family, warnings = one_family(ingredients)
    for warning in warnings:
        logger.warning("%s", warning)
    return family, tuple(warnings)


def _best_ancestor(ingredients: Sequence[Ingredient]) -> tuple[Ingredient, ...]:
    """Keep the ingredients that share the best one's ancestor, and log how many do not.

    A sweep with several stems has several pools; an average across them would be worthless.
    """
    best = min(ingredients, key=lambda i: (-i.score, i.sha256))
    pool = tuple(i for i in ingredients if i.ancestor == best.ancestor)
    if len(pool) < len(ingredients):
        others = Counter(str(i.ancestor)[:8] for i in ingredients if i.ancestor != best.ancestor)
        logger.warning(
            "taking %d checkpoints of stem %s; of other stems left out: %s",
            len(pool),
            str(best.ancestor)[:8],
            ", ".join(f"{count} of {ancestor}" for ancestor, count in sorted(others.items())),
        )
    return pool
