"""Plan the jobs of a sweep: teacher, stems and trials, keyed by everything that shapes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from orchestrator.config import RunConfig, SweepConfig
from orchestrator.config.content_key import content, digest
from orchestrator.config.loss import LossConfig
from orchestrator.config.models import ModelConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.config.train import Precision, TrainConfig
from orchestrator.planning.datasets import Stage, Unlabelled, clips_fingerprint, staged, unlabelled
from orchestrator.planning.paths import located
from orchestrator.planning.protocol import protocol_key
from orchestrator.planning.trials import Trial, trials
from vosmodels.data.mask_folder import MaskFolder
from vosmodels.errors import InputError
from vosmodels.support.digests import check_file, sha256_of
from vosmodels.support.paths import expanded
from vosmodels.support.seeding import seed_of

Role = Literal["teacher", "stem", "trial"]

# Raise this when the same configuration would train to other weights than before: results of an
# older version are then not taken for results of this one.
RECIPE = 3


@dataclass(frozen=True)
class Job:
    """Name one model to train, once.

    config: the run with the trial's values set; stages (at least one) and loss: of this role;
    needs: keys of the jobs whose last checkpoint this job starts from ("stem") or learns from
    ("teacher").
    """

    role: Role
    key: str
    name: str
    config: RunConfig
    stages: tuple[Stage, ...]
    loss: LossConfig
    threads: int
    sweep: str
    needs: Mapping[Role, str] = field(default_factory=dict)
    seed: int = 0

    @property
    def model(self) -> ModelConfig:
        """The section of the model that is trained."""
        return self.config.teacher if self.role == "teacher" else self.config.student

    @property
    def labels(self) -> bool:
        """True where labels after the first frame of a clip are read."""
        return self.loss.needs_labels and self.steps > 0

    @property
    def taught(self) -> bool:
        """True where a teacher makes labels that are read."""
        return self.labels and any("teacher" in stage.labels for stage in self.stages)

    @property
    def labels_clips(self) -> bool:
        """True where the teacher labels each clip in its step."""
        teacher = self.config.teacher
        return self.taught and teacher.masks is None and teacher.segments == "clip"

    @property
    def teaches(self) -> bool:
        """True where the teacher's network runs in every step, for a term or for labels."""
        return self.loss.needs_teacher or self.labels_clips

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.train.steps for stage in self.stages)


def videos_taught(job: Job) -> list[Unlabelled]:
    """Open the videos of a job whose labels are the teacher's, each once; none where it reads none.

    Raises InputError where one cannot be used.
    """
    if not job.taught:
        return []
    found = {each.key: each for stage in job.stages for each in unlabelled(stage, "teacher")}
    return list(found.values())


def videos_segmented(job: Job) -> list[Unlabelled]:
    """Open the videos that a job's teacher segments before it trains, as `videos_taught` does."""
    by_network = job.config.teacher.masks is None and not job.labels_clips
    return videos_taught(job) if by_network else []


@dataclass(frozen=True)
class Plan:
    """The jobs of a sweep. Each starts when those it needs are done (`rounds`).

    points: what each trial was made of, in the same order.
    """

    sweep: str
    teacher: Job | None
    stems: tuple[Job, ...]
    trials: tuple[Job, ...]
    points: tuple[Trial, ...] = ()

    @property
    def rounds(self) -> tuple[tuple[Job, ...], ...]:
        """Group the jobs that can run side by side; a job's round follows those it needs."""
        return rounds_of(self.jobs)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs: teacher, stems, trials."""
        teacher = (self.teacher,) if self.teacher else ()
        return (*teacher, *self.stems, *self.trials)


def rounds_of(jobs: Sequence[Job]) -> tuple[tuple[Job, ...], ...]:
    """Group jobs that can run side by side; a job's round follows those of `jobs` that it needs.

    jobs: each after those that it needs; others are taken for done.
    """
    rounds: list[list[Job]] = []
    place: dict[str, int] = {}
    for job in jobs:
        place[job.key] = max((place.get(key, -1) + 1 for key in job.needs.values()), default=0)
        if place[job.key] == len(rounds):
            rounds.append([])
        rounds[place[job.key]].append(job)
    return tuple(tuple(round_) for round_ in rounds)


def job_alone(plan: Plan, name: str) -> Plan:
    """Return the part of a plan that one job needs, itself included.

    name: that of the job, or its key. Raises InputError with the names where it is no job's, or
    that of several.
    """
    found = [job for job in plan.jobs if name in (job.name, job.key)]
    if len(found) != 1:
        names = ", ".join(f"{job.name} ({job.key})" for job in plan.jobs)
        raise InputError(f"{len(found) or 'no'} jobs are named {name!r}; the jobs are: {names}")
    keys = {found[0].key}
    for job in reversed(plan.jobs):  # those that a job needs stand before it
        if job.key in keys:
            keys |= set(job.needs.values())
    points = zip(plan.trials, plan.points, strict=False)  # a search has no points
    return Plan(
        plan.sweep,
        plan.teacher if plan.teacher and plan.teacher.key in keys else None,
        tuple(stem for stem in plan.stems if stem.key in keys),
        tuple(trial for trial in plan.trials if trial.key in keys),
        tuple(point for trial, point in points if trial.key in keys),
    )


def plan_sweep(
    config: SweepConfig, sweep: str, threads: int, precision: Precision = "auto"
) -> Plan:
    """Plan the jobs of a `located` sweep whose id is `sweep`.

    precision: in place of `train.amp: auto`.

    Reads data folders and weights files, because keys hold what they contain. Raises InputError
    where one is missing.
    """
    return Planner(config, sweep, threads, precision).plan(trials(config))


def stem_of(config: RunConfig) -> Job:
    """Plan the stem of a run alone, as `plan_sweep` does, on one thread.

    A teacher of the run is not planned. Raises InputError as `plan_sweep`.
    """
    return Planner(config, "", threads=1).stem(located(config), None)


@dataclass(frozen=True)
class Planner:
    """Builder of plans.

    written: the configuration without any swept value; precision: in place of `train.amp: auto`.
    """

    written: RunConfig
    sweep: str
    threads: int
    precision: Precision = "auto"

    def plan(self, points: Sequence[Trial]) -> Plan:
        """Plan the jobs of trials, as `plan_sweep` does."""
        points = [replace(point, config=self._decided(located(point.config))) for point in points]
        without = [point.config for point in points if point.config.teacher.weights is None]
        trained = self._teacher() if any(map(self._needs_teacher, without)) else None
        stems: dict[str, Job] = {}
        members = []
        for point in points:
            teacher = trained if point.config.teacher.weights is None else None
            stem = self.stem(point.config, teacher)
            stems.setdefault(stem.key, stem)
            members.append(self._trial(point, stem, teacher))
        return Plan(self.sweep, trained, tuple(stems.values()), tuple(members), tuple(points))

    def _needs_teacher(self, point: RunConfig) -> bool:
        """True where a trial or its stem has a term or a label of the teacher's network."""
        if point.loss.needs_teacher or self._stem_loss(point).needs_teacher:
            return True
        labels = point.loss.needs_labels or self._stem_loss(point).needs_labels
        by_network = labels and point.teacher.masks is None
        return by_network and any("teacher" in stage.labels for stage in staged(point))

    def _teacher(self) -> Job:
        """Plan the teacher: the stem's stages and, where stages are listed, the last one's data.

        It learns from true labels alone.
        """
        config, steps = self._decided(self.written), self.written.teacher.steps
        if config.stages is None:
            stages = [self._started_with(config, steps)]
        else:
            *first, last = staged(config)
            last = replace(last, train=last.train.model_copy(update={"steps": steps}))
            stages = [*first, last]
        stages = [stage.labelled(config.teacher.labelled) for stage in stages]
        return self._start("teacher", config, stages, self._supervised(config), None)

    def stem(self, point: RunConfig, teacher: Job | None) -> Job:
        """Plan a stem from the point's student, data and stem; train and loss are as written.

        Of generated clips it sees those with labels alone, unless it learns from the teacher.
        """
        if point.stages is None:
            stages: Sequence[Stage] = [self._started_with(point, point.stem.steps)]
        else:
            train = self._decided(self.written).train
            stages = staged(point.model_copy(update={"train": train}))[:-1]
        if point.data.drawn and point.stem.loss != "distill":
            stages = [stage.labelled() for stage in stages]
        return self._start("stem", point, stages, self._stem_loss(point), teacher)

    def _decided(self, run: RunConfig) -> RunConfig:
        """Return a run whose `train.amp` is no more `auto`."""
        if run.train.amp != "auto":
            return run
        train = run.train.model_copy(update={"amp": self.precision})
        return run.model_copy(update={"train": train})

    def _supervised(self, config: RunConfig) -> LossConfig:
        """Return the loss of labels alone: the terms as written, cross-entropy as stem.loss says.

        A trial may leave the cross-entropy out; its stem does so with `supervised` alone.
        """
        keys = {"dice", "jaccard", "poly", "reference", "reference_until"}
        keys |= {"ce"} if config.stem.loss == "supervised" else set()
        loss = self.written.loss
        return LossConfig(logit=0.0, representation=0.0, **{k: getattr(loss, k) for k in keys})

    def _stem_loss(self, point: RunConfig) -> LossConfig:
        return self.written.loss if point.stem.loss == "distill" else self._supervised(point)

    def _started_with(self, config: RunConfig, steps: int) -> Stage:
        """Return the only stage of a teacher or stem where no stages are listed.

        Its data are the trials', its batch, crop and rate the stem's.
        """
        stem = config.stem
        said = {"batch_size": stem.batch_size, "crop": stem.crop, "lr": stem.lr}
        train = self._decided(self.written).train.model_copy(update={**said, "steps": steps})
        return Stage("video", train, config.data)

    def _start(
        self,
        role: Literal["teacher", "stem"],
        config: RunConfig,
        stages: Sequence[Stage],
        loss: LossConfig,
        teacher: Job | None,
    ) -> Job:
        """Plan a job that starts from random or given weights, not from this sweep's."""
        if not stages:  # the only stage is the trials': the stem is the student as it starts
            last = staged(config)[-1]
            stages = [replace(last, train=last.train.model_copy(update={"steps": 0}))]
        model = config.teacher if role == "teacher" else config.student
        needs: dict[Role, str] = {}
        shaped_by = {
            "role": role,
            "model": _model(model),
            "dice": loss.dice,
            "seed": config.seed,
            **self._common(config, stages),
        }
        if loss != LossConfig(logit=0.0, representation=0.0, dice=loss.dice):
            shaped_by["loss"] = loss
            if loss.needs_teacher and teacher:
                needs["teacher"] = teacher.key
            shaped_by["teacher"] = needs or (_model(config.teacher) if loss.needs_teacher else None)
        if role == "stem" and (labels := self._labels(config, stages, loss, teacher)):
            shaped_by["labels"] = labels
            if teacher and config.teacher.masks is None:
                needs["teacher"] = teacher.key
        return Job(
            role=role,
            key=digest(shaped_by),
            name=f"{role} {model.name}",
            sweep=self.sweep,
            config=config,
            stages=tuple(stages),
            loss=loss,
            threads=self.threads,
            needs=needs,
            seed=config.seed,
        )

    def _trial(self, point: Trial, stem: Job, teacher: Job | None) -> Job:
        config = point.config
        taught = config.loss.needs_teacher
        labels = self._labels(config, staged(config)[-1:], config.loss, teacher)
        needs: dict[Role, str] = {"stem": stem.key}
        if teacher and (taught or (labels and config.teacher.masks is None)):
            needs["teacher"] = teacher.key
        shaped_by = {
            "role": "trial",
            "name": config.name,
            "needs": needs,
            "teacher": _model(config.teacher) if taught and not teacher else None,
            "select": protocol_key(ScoringProtocol.for_select(config.data)),
            "loss": config.loss,
            "checkpoint_every": config.train.checkpoint_every,
            "seed": config.seed,
            "repeat": point.seed_index,
            **self._common(config, staged(config)[-1:]),
            **({"labels": labels} if labels else {}),
        }
        return Job(
            role="trial",
            key=digest(shaped_by),
            name=point.name,
            sweep=self.sweep,
            config=config,
            stages=staged(config)[-1:],
            loss=config.loss,
            threads=self.threads,
            needs=needs,
            # a repeat draws other clips, pixels and embedding from the same stem
            seed=seed_of(config.seed, "repeat", point.seed_index)
            if point.seed_index
            else config.seed,
        )

    def _labels(
        self, config: RunConfig, stages: Sequence[Stage], loss: LossConfig, teacher: Job | None
    ) -> dict[str, Any] | None:
        """Return what shapes the labels that a teacher makes; None where none are read."""
        steps = sum(stage.train.steps for stage in stages)
        videos = {
            video.key: video.video
            for stage in stages
            if loss.needs_labels and steps
            for video in unlabelled(stage, "teacher")
        }
        clips = any(stage.data.drawn and "teacher" in stage.labels for stage in stages)
        if not videos and not (clips and loss.needs_labels and steps):
            return None
        source = config.teacher
        if source.masks is not None:
            return {"masks": MaskFolder(expanded(source.masks)).fingerprint(videos.values())}
        return {
            "teacher": teacher.key if teacher else _model(source),
            "threshold": source.threshold,
            "targets": source.targets,
            "segments": source.segments,
            **({} if source.segments == "clip" else {"rows": source.rows}),
        }

    def _common(self, config: RunConfig, stages: Sequence[Stage]) -> dict[str, Any]:
        return {
            "recipe": RECIPE,
            "stages": [[s.name, _shape(s.train), clips_fingerprint(s)] for s in stages],
            "max_objects": config.data.max_objects,
            "threads": self.threads,
            "workers": config.cluster.workers,
        }


def _model(model: ModelConfig) -> dict[str, Any]:
    given = {"weights": model.weights_file, "backbone": _source(model.backbone)}
    files = {key: _content(source) for key, source in given.items()}
    return {"name": model.name, "options": model.options, **files}


def _shape(train: TrainConfig) -> dict[str, Any]:
    """Return the settings that change the trained weights; how often they are saved does not."""
    return content(train, {"eval_every", "checkpoint_every", "keep"})


def _source(backbone: str | None) -> Path | str | None:
    """Return a backbone's file; `imagenet` and null stand for themselves."""
    return backbone if backbone is None or backbone == "imagenet" else expanded(backbone)


def _content(source: Path | str | None) -> str | None:
    """Return a file's sha256; a word and null stand for themselves."""
    if not isinstance(source, Path):
        return source
    check_file(source, "give the path of a weights file that exists")
    return sha256_of(source)
