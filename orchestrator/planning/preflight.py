"""Check that the data and weights of a configuration exist, before any job starts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from orchestrator.config import RunConfig, SweepConfig
from orchestrator.config.content_key import canonical
from orchestrator.config.models import ModelConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.planning.datasets import (
    Stage,
    check_left_out,
    check_masks,
    staged,
    training_clips,
)
from orchestrator.planning.protocol import check_scored_videos
from orchestrator.planning.trials import trials
from vosmodels import registry
from vosmodels.backbones import check_imagenet, load_backbone
from vosmodels.checkpoint import OtherModel, load_weights, trained_options
from vosmodels.errors import Absent, InputError
from vosmodels.support.paths import expanded


class Missing(InputError):
    """Data or weights that this machine lacks or cannot use; each problem starts with its key.

    unusable: those of the problems that are there and cannot be used; the others are absent.
    """

    def __init__(self, problems: Sequence[str], unusable: Collection[str] = ()) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
        self.unusable = frozenset(unusable)


def check(config: RunConfig) -> None:
    """Open every split and load every weights file. Raises Missing with all problems."""
    problems, unusable = list[str](), list[str]()
    for key, attempt in _attempts(config):
        try:
            attempt()
        except InputError as error:
            problems.append(f"{key}: {error}")
            if not isinstance(error, Absent):
                unusable.append(problems[-1])
        except OSError as error:  # a name that is too long, a folder that may not be read
            problems.append(f"{key}: {error.filename}: {error.strerror}")
            unusable.append(problems[-1])
    if problems:
        raise Missing(problems, unusable)


def _attempts(config: RunConfig) -> Iterator[tuple[str, Callable[[], object]]]:
    data = config.data
    stages = staged(config)
    runs = (
        [trial.config for trial in trials(config)] if isinstance(config, SweepConfig) else [config]
    )
    for place, stage, of in _stages(config, runs):
        labels = any(_reads_labels(config, run, last=place == len(stages) - 1) for run in of)
        name, train = f"stages.{place} ({stage.name})", stage.data.train
        if config.stages is None:
            name = f"data.train {train!r}" if isinstance(train, str) else "data.train"
        for part in stage.per_folder():
            yield name, partial(training_clips, part, config.seed, labels=labels)
        for masks in sorted({run.teacher.masks for run in of if run.teacher.masks}):
            yield "teacher.masks", partial(check_masks, stage, masks)
    if data.leave_out:
        yield "data.leave_out", partial(check_left_out, config)
    select, report = ScoringProtocol.for_select(data), ScoringProtocol.for_report(data)
    for key, protocol in (("select", select), ("report", report)):
        if protocol is not None:
            yield f"data.{key} {protocol.split!r}", partial(check_scored_videos, protocol)
    for section in ("student", "teacher"):
        for key in ("weights", "backbone"):
            for model in _models([config, *runs], section, key):
                yield f"{section}.{key}", partial(_load, section, model, key)


def _models(runs: Sequence[RunConfig], section: str, key: str) -> list[ModelConfig]:
    """List a section's models that start from a file, each file and network once."""
    models: dict[str, ModelConfig] = {}
    for model in (getattr(run, section) for run in runs):
        if getattr(model, key) is not None:
            models.setdefault(canonical([model.name, model.options, getattr(model, key)]), model)
    return list(models.values())


def _stages(
    config: RunConfig, runs: Sequence[RunConfig]
) -> Iterator[tuple[int, Stage, Sequence[RunConfig]]]:
    """Yield the stages that runs go through, each place and data once, with those runs.

    What a sweep of data.train replaces is a teacher's data still, where that is trained.
    """
    found: dict[str, tuple[int, Stage, list[RunConfig]]] = {}
    trained = config.teacher.trained
    for run in (*((config,) if trained or not runs else ()), *runs):
        for place, stage in enumerate(staged(run)):
            key = canonical([place, stage.data, stage.train.clip_length])
            found.setdefault(key, (place, stage, []))[2].append(run)
    yield from found.values()


def _reads_labels(written: RunConfig, run: RunConfig, *, last: bool) -> bool:
    """True where a job that goes through a stage reads masks after a clip's first frame.

    written: without swept values, whose loss a distilled stem has; run: the trial's.
    last: the stage is the trials'; a teacher that is trained here goes through all of them, the
    stem through all but the last, or through the only one where the file lists none.
    """
    distilled = run.stem.loss == "distill"
    taught = run.loss.needs_teacher or (distilled and written.loss.needs_teacher)
    taught = taught or any("teacher" in stage.labels for stage in staged(run))
    trains_teacher = taught and written.teacher.trained
    alone = run.stages is None
    stem_trains = run.stem.steps > 0 if alone else True
    supervised = not distilled or written.loss.needs_labels
    stem = (alone or not last) and stem_trains and supervised
    trial = last and run.loss.needs_labels and staged(run)[-1].train.steps > 0
    return trains_teacher or stem or trial


def _load(section: str, model: ModelConfig, key: str) -> None:
    """Load a file of a section into its model. Raises InputError that says what to set instead."""
    network = registry.blank(model.name, **model.options)
    if key == "weights":
        assert model.weights_file is not None  # `_models` lists those with a file
        try:
            load_weights(network, model.weights_file)
        except OtherModel as error:
            if error.name is None or error.name not in registry.REGISTRY:
                raise
            overrides = " ".join(_overrides(section, model, error.name, error.config))
            raise InputError(f"{error.problem}; to use them set {overrides}") from error
    elif model.backbone == "imagenet":
        check_imagenet(network)
    else:
        assert model.backbone is not None
        load_backbone(network, expanded(model.backbone))


def _overrides(
    section: str, model: ModelConfig, name: str, config: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the overrides that make a section fit weights of model `name`, as shell words."""
    wanted = trained_options(name, config, model.options)
    known = registry.entry(name).config.model_fields
    if name != model.name:
        yield f"{section}.name={name}"
    if model.options.keys() <= known.keys():
        changes = {f".{option}": value for option, value in wanted.items()}
    else:  # an option that the other model does not have can only go with all the others
        kept = {option: value for option, value in model.options.items() if option in known}
        changes = {"": {**kept, **wanted}}
    for option, value in changes.items():
        text = json.dumps(value, separators=(",", ": "))
        yield shlex.quote(f"{section}.options{option}={text}")
