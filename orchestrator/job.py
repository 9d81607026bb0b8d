"""One job, from its plan to its last line in the ledger; no Ray in here."""

from __future__ import annotations

import logging
import resource
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from orchestrator import ledger as ledgers
from orchestrator.data import training_clips
from orchestrator.distill import DistillStep, Trainee, make_embedding
from orchestrator.evaluation import Scorer, per_sequence, student_of, summary
from orchestrator.gradients import complaints, judged_at
from orchestrator.ledger import Ledger
from orchestrator.loop import Share, TrainingState, fit
from orchestrator.plan import Job, Role
from orchestrator.storage import Storage
from vosmodels import checkpoint, registry
from vosmodels.backbones import load_backbone
from vosmodels.calibration import calibrate
from vosmodels.data.clips import batch
from vosmodels.seeding import seed_of
from vosmodels.spacetime import SpaceTimeNetwork
from vosmodels.types import ClipSource, InputError

logger = logging.getLogger(__name__)

CALIBRATION_BATCHES = 20


@dataclass(frozen=True)
class Group:
    """The processes that train one job together: this one's share, how DDP wraps the trainee."""

    share: Share = field(default_factory=Share)
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    alive: Callable[[], None] = lambda: None  # called at every step: the job has not stalled


def run(job: Job, storage: Storage, group: Group | None = None) -> None:
    """Train the job to its end, from wherever an earlier attempt left it.

    Rank 0 evaluates, writes checkpoints and the ledger. On an exception the ledger gets the
    error, the log its traceback, and the exception goes on.
    """
    group = group or Group()
    torch.set_num_threads(job.threads)
    if group.share.rank > 0:
        _train(job, storage, group, None)
        return
    record = Ledger(storage.root).job(job.key)
    with record.claim():
        try:
            _train(job, storage, group, record)
        except Exception as error:
            logger.exception("%s failed", job.name)
            first_line = (str(error).splitlines() or [""])[0]
            message = (
                first_line
                if isinstance(error, InputError)
                else (f"{type(error).__name__}: {first_line}")
            )
            record.write(ledgers.Failed(error=message, log=str(storage.log(job.key))))
            raise
    shutil.rmtree(storage.resume(job.key), ignore_errors=True)


def _train(job: Job, storage: Storage, group: Group, record: ledgers.Job | None) -> None:
    started = time.monotonic()
    clips = training_clips(job.config.data, job.train, job.seed)
    scorer = Scorer.choosing(storage, job.config.data) if record else None
    model, ancestor = _starting_model(job, storage, clips)
    teacher = _teacher(job, storage)
    state = TrainingState(_trainee(job, model, teacher).to(group.device), job.train)
    if teacher is not None:
        teacher.to(group.device)
    resumed = state.restore(storage.resume(job.key))
    keeper = Keeper(job, storage, model, ancestor, record, scorer)
    if record is not None:
        record.write(
            ledgers.Started(
                role=job.role,
                name=job.name,
                sweep=job.sweep,
                experiment=job.config.name,
                config=job.config.model_dump(mode="json"),
                ancestor=ancestor,
            )
        )
        logger.info("%s starts at step %d of %d", job.name, state.step, job.train.steps)
    if not resumed and (job.role == "stem" or job.train.steps == 0):
        keeper.checkpoint(0)  # the untrained student: an anchor of the table
    step = DistillStep(job.loss, seed=job.seed)
    module = group.wrap(state.trainee)
    for progress in fit(
        state,
        clips,
        step,
        job.train,
        teacher=teacher,
        module=module,
        share=group.share,
        device=group.device,
    ):
        group.alive()
        if record is None:
            continue
        if progress.losses is not None:
            record.write(ledgers.Losses(step=progress.step, values=dict(progress.losses)))
        if progress.gradients is not None:
            keeper.measured(progress.gradients, progress.step, of=job.train.steps)
        if progress.checkpoint:
            keeper.checkpoint(progress.step)
            state.save(storage.resume(job.key))
        elif progress.evaluate:
            keeper.evaluate(progress.step)
    if record is not None:
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        record.write(ledgers.Done(seconds=time.monotonic() - started, peak_mib=peak_mib))


class Keeper:
    """Evaluates, writes and records what a training yields."""

    def __init__(
        self,
        job: Job,
        storage: Storage,
        model: SpaceTimeNetwork,
        ancestor: str | None,
        record: ledgers.Job | None,
        scorer: Scorer | None,
    ) -> None:
        self.job = job
        self.storage = storage
        self.model = model
        self.ancestor = ancestor
        self.record = record
        self.scorer = scorer

    def measured(self, norms: Mapping[str, float], step: int, *, of: int) -> None:
        """Gradients of a training of `of` steps; at the last of them a warning of loss terms that
        do nothing or everything."""
        if not self.record:
            return
        self.record.write(ledgers.Gradients(step=step, norms=dict(norms)))
        if step == judged_at(of):
            known = {event.step: event.norms for event in self.record.of(ledgers.Gradients)}
            if text := "; ".join(complaints(known)):
                logger.warning("%s step %d: %s", self.job.name, step, text)
                self.record.write(ledgers.Warned(step=step, text=text))

    def evaluate(self, step: int) -> None:
        """Scores without a checkpoint."""
        if self.record and self.scorer:
            scores = self.scorer.score(self.model)
            self.record.write(ledgers.Evaluated(step=step, scores=summary(scores)))

    def checkpoint(self, step: int) -> None:
        """Score, write, record, picture: in that order, so that a record is never of less."""
        if not (self.record and self.scorer):
            return
        scores = self.scorer.score(self.model)
        info = checkpoint.CheckpointInfo.of(
            self.model, ancestor=self.ancestor, step=step, scores=summary(scores)
        )
        path, sha256 = checkpoint.write(self.storage.checkpoints, self.model.state_dict(), info)
        self.scorer.remember(sha256, scores)
        self.record.write(
            ledgers.Checkpoint(
                step=step,
                sha256=sha256,
                path=path.relative_to(self.storage.root).as_posix(),
                scores=summary(scores),
                sequences=per_sequence(scores),
                ancestor=self.ancestor,
            )
        )
        if scores.fps is not None:
            self.record.write(ledgers.Evaluated(step=step, scores={"fps": scores.fps}))
        picture = self.storage.pictures(self.job.key) / f"{step:07d}.png"
        self.scorer.picture(self.model, picture)
        self.record.write(
            ledgers.Picture(step=step, path=picture.relative_to(self.storage.root).as_posix())
        )
        logger.info("%s step %d: J %.3f F %.3f", self.job.name, step, scores.j, scores.f)


def _starting_model(
    job: Job, storage: Storage, clips: ClipSource
) -> tuple[SpaceTimeNetwork, str | None]:
    """The model a job starts from, and the sha256 of the checkpoint that is its ancestor."""
    if job.role == "trial":
        sha256, path = _last_checkpoint(job, "stem", storage)
        tensors, _ = checkpoint.read(path)
        return student_of(job.config.student, tensors), sha256
    config = job.model
    model = registry.build(config.name, seed=seed_of(job.seed, job.role), **config.options)
    if config.weights is not None:
        checkpoint.load_weights(model, Path(config.weights).expanduser())
        return model.eval(), None
    loaded = load_backbone(model, _source(config.backbone)) if config.backbone else ()
    size = max(job.train.batch_size, 2)  # one value per channel has no variance
    calibrate(model, (batch(clips, n, size) for n in range(CALIBRATION_BATCHES)), loaded=loaded)
    return model.eval(), None


def _teacher(job: Job, storage: Storage) -> SpaceTimeNetwork | None:
    if not DistillStep(job.loss, seed=0).needs_teacher:
        return None
    config = job.config.teacher
    if "teacher" in job.needs:
        _, path = _last_checkpoint(job, "teacher", storage)
        model, _ = checkpoint.load_model(path)
    else:
        assert config.weights is not None  # the plan has made a teacher job otherwise
        model = registry.build(config.name, seed=0, **config.options)
        checkpoint.load_weights(model, Path(config.weights).expanduser())
    return model.eval().requires_grad_(False)


def _trainee(job: Job, model: SpaceTimeNetwork, teacher: SpaceTimeNetwork | None) -> Trainee:
    if teacher is None or job.loss.representation == 0:
        return Trainee(model)
    return Trainee(model, make_embedding(model.z_channels, teacher.z_channels, seed=job.seed))


def _last_checkpoint(job: Job, role: Role, storage: Storage) -> tuple[str, Path]:
    key = job.needs[role]
    made = Ledger(storage.root).job(key).checkpoints()
    if not made:
        raise InputError(f"{storage.root}: job {key}, the {role} of {job.name} has no checkpoint")
    return made[-1].sha256, storage.root / made[-1].path


def _source(backbone: str) -> Path | Literal["imagenet"]:
    return "imagenet" if backbone == "imagenet" else Path(backbone).expanduser()
