"""Train one job in a process, step by step, alone or in lock-step with others."""

from __future__ import annotations

import logging
import resource
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, cast

from orchestrator.execution import job_log
from orchestrator.execution.code import code_from
from orchestrator.execution.recorder import CheckpointRecorder
from orchestrator.execution.scoring import Scorer, student_of
from orchestrator.execution.teachers import last_checkpoint
from orchestrator.execution.usage import Measured
from orchestrator.planning.calibration import calibrate_for
from orchestrator.planning.datasets import Stage, Teach
from orchestrator.planning.plan import Job
from orchestrator.tracking import events
from orchestrator.tracking.ledger import JobRecord
from orchestrator.tracking.storage import Storage
from orchestrator.training.distill_step import DistillStep, make_trainee
from orchestrator.training.distributed import Workers
from orchestrator.training.lessons import Lesson
from orchestrator.training.loop import Diverged, Student
from orchestrator.training.precision import arrange, half_type
from orchestrator.training.state import TrainingState
from orchestrator.training.throughput import Throughput
from vosmodels import checkpoint, registry
from vosmodels.backbones import load_backbone
from vosmodels.errors import InputError
from vosmodels.model import VideoModel
from vosmodels.support.memory import is_out_of_memory
from vosmodels.support.paths import expanded
from vosmodels.support.seeding import seed_of

logger = logging.getLogger(__name__)


class Member:
    """Train one job of those of a process; most often it is the only one.

    Rank 0 has the record, evaluates and writes checkpoints. An error ends this job alone: its
    ledger gets it, its log the traceback, and `error` holds it.
    """

    def __init__(
        self,
        job: Job,
        storage: Storage,
        workers: Workers,
        record: JobRecord | None,
    ) -> None:
        """Take a job with its claimed record, which is None on ranks above 0."""
        self.job = job
        self.record = record
        self.error: Exception | None = None
        self.ended = False
        self.seconds = 0.0  # of this job's own work
        self.state: TrainingState  # from `prepare` on
        self._ancestor: str | None = None
        self._storage = storage
        self._workers = workers

    @property
    def works(self) -> bool:
        """True until the job is finished or has failed."""
        return self.error is None and not self.ended

    @contextmanager
    def working(self, *, alone: bool) -> Iterator[None]:
        """Do a part of this job's work: count its time, direct its log, end it by an error.

        alone: no other job waits in this process, so memory that runs out is this job's error;
        else it is raised, as fewer jobs may fit. Among several workers an error is raised too, as
        the others would wait for this rank, unless it is one that all of them have.
        """
        start = time.monotonic()
        with job_log.only(self.job.key):
            try:
                yield
            except Exception as error:  # any error ends the job
                if self._workers.world > 1 and not isinstance(error, Diverged):
                    raise
                if is_out_of_memory(error) and not alone:
                    raise
                self.fail(error)
            finally:
                self.seconds += time.monotonic() - start

    def fail(self, error: Exception) -> None:
        """Record the error that ends this job."""
        self.error = error
        if self.record is not None:
            with job_log.only(self.job.key):
                logger.error("%s failed", self.job.name, exc_info=error)
        traceback.clear_frames(error.__traceback__)  # else its tensors stay while others train
        if self.record is None:
            return
        first_line = (str(error).splitlines() or [""])[0]
        known = isinstance(error, InputError)
        message = first_line if known else f"{type(error).__name__}: {first_line}"
        log = str(self._storage.log(self.job.key))
        self.record.write(events.Failed(error=message, log=log))

    def start(self, task: str, students: int) -> None:
        """Record that the job starts; task: of which it is an attempt; students: in lock-step."""
        if self.job.role == "trial":
            self._ancestor = last_checkpoint(self.job, "stem", self._storage)[0]
        if self.record is not None:
            started = events.Started(
                role=self.job.role,
                name=self.job.name,
                sweep=self.job.sweep,
                experiment=self.job.config.name,
                config=self.job.config.model_dump(mode="json"),
                ancestor=self._ancestor,
                task=task,
                students=students,
            )
            self.record.write(started)

    def prepare(
        self, teacher: VideoModel | None, teach: Teach | None, scorer: Scorer | None
    ) -> None:
        """Build the student, or restore it from where an earlier attempt left it."""
        job, first = self.job, self.job.stages[0].train
        model = _starting_model(job, self._storage, teach)
        trainee = make_trainee(job.loss, model, teacher, seed=job.seed)
        self.state = TrainingState(trainee.to(self._workers.device), first)
        resumed = self.state.restore(self._storage.resume(job.key), self._workers)
        if half_type(first, self._workers.device):
            arrange(self.state.trainee, self.state.optimizer)
        self.recorder = CheckpointRecorder(job, self._storage, self._ancestor, self.record, scorer)
        self._module = self._workers.wrap(self.state.trainee, job.loss.terms())
        if self.record is not None:
            self.record.write(code_from(self.state.done))
            at = f"{job.stages[self.state.stage].name} stage, step {self.state.step}"
            if resumed:
                logger.info(
                    "%s: continuing from step %d of %d", job.name, self.state.done, job.steps
                )
            else:
                logger.info("%s starts at %s of %d in all", job.name, at, job.steps)
        if not resumed and (job.role == "stem" or job.steps == 0):
            self.recorder.checkpoint(model, 0)  # the untrained student: a baseline row

    def enter(self, index: int, distill: DistillStep, clock: Throughput) -> None:
        """Begin a stage, or go on in it. clock: that of its lessons."""
        train = self.job.stages[index].train
        if index > self.state.stage:
            self.state.next_stage(train)
        self.student = Student(
            self.state,
            distill,
            train,
            clock=clock,
            workers=self._workers,
            module=self._module,
            ignored=self.job.taught,
        )

    def learn(
        self, lesson: Lesson, place: int, stage: Stage, used: Measured | None = None
    ) -> float | None:
        """Make a step, and write and score what is due after it. used: what is due of the node.

        Returns the J&F of a trial that was scored and can be resumed from here, else None.
        Teacher and stem are scored once a stage, at its end.
        """
        progress = self.student.learn(lesson, place)
        if self.record is None:
            return None
        job, recorder = self.job, self.recorder
        step, model = self.state.done, cast(VideoModel, self.state.model)
        watched = job.role == "trial" or progress.step == stage.train.steps
        if progress.losses is not None:
            self.record.write(events.Losses(step=step, values=dict(progress.losses)))
        if progress.speed is not None:
            self.record.write(events.Speed(step=step, values=dict(progress.speed)))
        if used is not None:
            self.record.write(used.event(step))
        if progress.gradients is not None:
            of = stage.train.steps
            recorder.measured(progress.gradients, step, before=self.state.before, of=of)
        jf = None
        if progress.checkpoint:
            if watched:
                jf = recorder.checkpoint(model, step)
            self._save(self.record)
        elif progress.evaluate and watched:
            jf = recorder.evaluate(model, step)
            self._save(self.record)
        return jf if job.role == "trial" else None

    def _save(self, record: JobRecord) -> None:
        self.state.save(self._storage.resume(self.job.key))
        record.push_state(self.state.done)

    def finish(self, shared_s: float, used: Measured | None) -> None:
        """Draw the attentions and record the end.

        shared_s: this job's part of shared seconds; used: of the node, up to the last
        step, where there is something to tell.
        """
        start = time.monotonic()
        self.recorder.attention(cast(VideoModel, self.state.model), self.state.done)
        if self.record is not None:
            if used is not None:
                self.record.write(used.event(self.state.done))
            peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            seconds = self.seconds + shared_s + time.monotonic() - start
            self.record.write(events.Done(seconds=seconds, peak_mib=peak_mib))
        self.ended = True


def _starting_model(job: Job, storage: Storage, teach: Teach | None) -> VideoModel:
    """Build the model a job starts from."""
    if job.role == "trial":
        _, path = last_checkpoint(job, "stem", storage)
        return student_of(job.config.student, checkpoint.read_tensors(path))
    config = job.model
    model = registry.build(config.name, seed=seed_of(job.seed, job.role), **config.options)
    if config.weights_file is not None:
        checkpoint.load_weights(model, config.weights_file)
        return model.eval()
    loaded = load_backbone(model, _source(config.backbone)) if config.backbone else ()
    calibrate_for(job, model, loaded=loaded, teach=teach)
    return model.eval()


def _source(backbone: str) -> Path | Literal["imagenet"]:
    return "imagenet" if backbone == "imagenet" else expanded(backbone)
