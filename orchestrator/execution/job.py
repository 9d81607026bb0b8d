"""Run one job from its plan to its last line in the ledger, without Ray."""

from __future__ import annotations

import logging
import resource
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, cast

import torch
from torch import nn

from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution.labelling import labels_of
from orchestrator.execution.scoring import Scorer, per_sequence, student_of, summary
from orchestrator.execution.teachers import last_checkpoint, load_teacher
from orchestrator.planning.datasets import Teach, training_clips
from orchestrator.planning.plan import Job
from orchestrator.tracking import events
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.storage import Storage
from orchestrator.training.distill_step import DistillStep, make_trainee
from orchestrator.training.distributed import Workers
from orchestrator.training.gradient_norms import judged_at, warnings_of
from orchestrator.training.loader import automatic
from orchestrator.training.loop import fit
from orchestrator.training.precision import arrange, half_type
from orchestrator.training.state import TrainingState
from vosmodels import checkpoint, registry
from vosmodels.backbones import load_backbone
from vosmodels.calibration import calibrate
from vosmodels.data.clips import batch
from vosmodels.errors import InputError
from vosmodels.evaluation import strata
from vosmodels.inference.fold import for_inference
from vosmodels.model import VideoModel
from vosmodels.support.memory import keep_freed_memory
from vosmodels.support.paths import expanded
from vosmodels.support.seeding import seed_of

logger = logging.getLogger(__name__)

CALIBRATION_BATCHES = 20


OnScore = Callable[[int, float], None]


def run(
    job: Job,
    storage: Storage,
    workers: Workers | None = None,
    on_score: OnScore = lambda step, jf: None,
) -> None:
    """Train the job to its end, from wherever an earlier attempt left it.

    on_score: called on rank 0 with step and select J&F when a trial has been scored and can be
    resumed from there; what it raises ends the job, and an exit leaves it as if it were killed.
    Rank 0 evaluates and writes checkpoints and ledger. On an exception the ledger gets the error,
    the log gets the traceback, and the exception is raised again.
    """
    workers = workers or Workers()
    _reset_torch_globals(job.threads)
    record = Ledger(storage.root).job(job.key)
    if workers.rank > 0:
        if record.state != "done":
            _train(job, storage, workers, None, on_score)
        return
    with record.claim():
        try:
            if record.state != "done":  # else an earlier attempt was killed after its last line
                _train(job, storage, workers, record, on_score)
        except Exception as error:  # any error ends the job: the ledger and the caller get it
            logger.exception("%s failed", job.name)
            first_line = (str(error).splitlines() or [""])[0]
            message = (
                first_line
                if isinstance(error, InputError)
                else (f"{type(error).__name__}: {first_line}")
            )
            record.write(events.Failed(error=message, log=str(storage.log(job.key))))
            raise
    shutil.rmtree(storage.resume(job.key), ignore_errors=True)


def _reset_torch_globals(threads: int) -> None:
    """Reset process-wide settings of torch that change results, and keep freed memory.

    A reused worker may have run any other job before.
    """
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    torch.set_float32_matmul_precision("highest")
    torch.backends.mkldnn.set_flags(True)
    for device in ("cpu", "cuda"):
        torch.set_autocast_enabled(device, False)


def _train(
    job: Job,
    storage: Storage,
    workers: Workers,
    record: JobRecord | None,
    on_score: OnScore,
) -> None:
    started = time.monotonic()
    select = ScoringProtocol.for_select(job.config.data)
    scorer = Scorer(storage, select) if record else None
    ancestor = last_checkpoint(job, "stem", storage)[0] if job.role == "trial" else None
    if record is not None:
        record.write(
            events.Started(
                role=job.role,
                name=job.name,
                sweep=job.sweep,
                experiment=job.config.name,
                config=job.config.model_dump(mode="json"),
                ancestor=ancestor,
            )
        )
    teach = labels_of(job, storage, workers, record)
    model = _starting_model(job, storage, teach)
    teacher = load_teacher(job, storage)[0] if job.teaches else None
    trainee = make_trainee(job.loss, model, teacher, seed=job.seed)
    state = TrainingState(trainee.to(workers.device), job.stages[0].train)
    if teacher is not None:
        teacher.to(workers.device)
    resumed = state.restore(storage.resume(job.key), workers)
    if half_type(job.stages[0].train, workers.device):
        arrange(state.trainee, state.optimizer)
        teacher = teacher and for_inference(teacher)  # rounds in another order, as the type does
    recorder = CheckpointRecorder(job, storage, ancestor, record, scorer)
    if record is not None:
        at = f"{job.stages[state.stage].name} stage, step {state.step}"
        if resumed:
            logger.info("%s: continuing from step %d of %d", job.name, state.done, job.steps)
        else:
            logger.info("%s starts at %s of %d in all", job.name, at, job.steps)
    if not resumed and (job.role == "stem" or job.steps == 0):
        recorder.checkpoint(model, 0)  # the untrained student: a baseline row of the table
    _go_through_stages(job, state, workers, teacher, teach, recorder, on_score)
    recorder.attention(cast(VideoModel, state.model), state.done)
    if record is not None:
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        record.write(events.Done(seconds=time.monotonic() - started, peak_mib=peak_mib))


def _go_through_stages(
    job: Job,
    state: TrainingState,
    workers: Workers,
    teacher: nn.Module | None,
    teach: Teach | None,
    recorder: CheckpointRecorder,
    on_score: OnScore,
) -> None:
    """Train from the state's stage and step to the end of the last stage.

    Teacher and stem are evaluated once a stage, at its end. Their resume states are written as
    often as a trial's.
    """
    soft = job.config.teacher.targets == "soft"
    label_above = job.config.teacher.threshold if job.labels_clips else None
    module, loaders = workers.wrap(state.trainee, job.loss.terms()), job.config.cluster.loaders
    if loaders is None:
        loaders = automatic(workers.device, job.threads)
    for index, stage in enumerate(job.stages):
        if index < state.stage:
            continue
        if index > state.stage:
            state.next_stage(stage.train)
        seed = seed_of(job.seed, "stage", index) if index else job.seed
        for progress in fit(
            state,
            training_clips(stage, seed, labels=job.labels, teach=teach),
            DistillStep(job.loss, seed=seed, label_above=label_above, soft=soft),
            stage.train,
            teacher=teacher,
            module=module,
            workers=workers,
            loaders=loaders,
            ignored=job.taught,
        ):
            workers.alive()
            if recorder.record is None:
                continue
            step, model = state.done, cast(VideoModel, state.model)
            watched = job.role == "trial" or progress.step == stage.train.steps
            if progress.losses is not None:
                recorder.record.write(events.Losses(step=step, values=dict(progress.losses)))
            if progress.speed is not None:
                recorder.record.write(events.Speed(step=step, values=dict(progress.speed)))
            if progress.gradients is not None:
                of = stage.train.steps
                recorder.measured(progress.gradients, step, before=state.before, of=of)
            jf = None
            if progress.checkpoint:
                if watched:
                    jf = recorder.checkpoint(model, step)
                state.save(recorder.storage.resume(job.key))
            elif progress.evaluate and watched:
                jf = recorder.evaluate(model, step)
                state.save(recorder.storage.resume(job.key))
            if jf is not None and job.role == "trial":
                on_score(step, jf)


class CheckpointRecorder:
    """Score and write checkpoints, and record them in the ledger.

    Does nothing on ranks above 0, which have no record and no scorer.
    """

    def __init__(
        self,
        job: Job,
        storage: Storage,
        ancestor: str | None,
        record: JobRecord | None,
        scorer: Scorer | None,
    ) -> None:
        self.job = job
        self.storage = storage
        self.ancestor = ancestor
        self.record = record
        self.scorer = scorer

    def measured(self, norms: Mapping[str, float], step: int, *, before: int, of: int) -> None:
        """Record gradient norms; after the last measurement of a stage warn of odd terms.

        before: steps of the stages before this one; of: steps of this stage.
        """
        if not self.record:
            return
        self.record.write(events.Gradients(step=step, norms=dict(norms)))
        if step - before == judged_at(of):
            measurements = self.record.of(events.Gradients)
            by_step = {e.step - before: e.norms for e in measurements if e.step > before}
            if text := "; ".join(warnings_of(by_step, self.job.loss.terms())):
                logger.warning("%s step %d: %s", self.job.name, step, text)
                self.record.write(events.Warned(step=step, text=text))

    def evaluate(self, model: VideoModel, step: int) -> float | None:
        """Record scores without writing a checkpoint; return J&F."""
        if not (self.record and self.scorer):
            return None
        scores = self.scorer.score(model)
        values = summary(scores) | strata.metrics(scores)
        self.record.write(events.Evaluated(step=step, scores=values))
        return scores.jf

    def attention(self, model: VideoModel, step: int) -> None:
        """Draw and record where the attentions of a trained model look, if it has any."""
        if self.record and self.scorer:
            drawn = self.scorer.attention(model, self.job.key, step)
            if drawn is not None:
                self.record.write(drawn)

    def checkpoint(self, model: VideoModel, step: int) -> float | None:
        """Score the model, write its checkpoint and picture, and record both; return J&F.

        Files are written before the line of the ledger that names them.
        """
        if not (self.record and self.scorer):
            return None
        strip = self.scorer.strip()
        scores = self.scorer.score(model, on_mask=strip.add)
        info = checkpoint.CheckpointInfo.of(
            model, ancestor=self.ancestor, step=step, scores=summary(scores)
        )
        path, sha256 = checkpoint.write(self.storage.checkpoints, model.state_dict(), info)
        self.scorer.save(sha256, scores)
        self.record.write(
            events.Checkpoint(
                step=step,
                sha256=sha256,
                path=path.relative_to(self.storage.root).as_posix(),
                scores=summary(scores),
                sequences=per_sequence(scores),
                ancestor=self.ancestor,
            )
        )
        if scores.fps is not None:
            measured = {"fps": scores.fps} | strata.metrics(scores)
            self.record.write(events.Evaluated(step=step, scores=measured))
        picture = self.storage.pictures(self.job.key) / f"{step:07d}.png"
        strip.save(picture)
        self.record.write(
            events.Picture(step=step, path=picture.relative_to(self.storage.root).as_posix())
        )
        logger.info("%s step %d: J %.3f F %.3f", self.job.name, step, scores.j, scores.f)
        return scores.jf


def _starting_model(job: Job, storage: Storage, teach: Teach | None) -> VideoModel:
    """Build the model a job starts from."""
    if job.role == "trial":
        _, path = last_checkpoint(job, "stem", storage)
        return student_of(job.config.student, checkpoint.read_tensors(path))
    config = job.model
    model = registry.build(config.name, seed=seed_of(job.seed, job.role), **config.options)
    if config.weights is not None:
        checkpoint.load_weights(model, expanded(config.weights))
        return model.eval()
    loaded = load_backbone(model, _source(config.backbone)) if config.backbone else ()
    clips = training_clips(job.stages[0], job.seed, labels=job.labels, teach=teach)
    size = max(job.stages[0].train.batch_size, 2)  # one value per channel has no variance
    calibrate(model, (batch(clips, n, size) for n in range(CALIBRATION_BATCHES)), loaded=loaded)
    return model.eval()


def _source(backbone: str) -> Path | Literal["imagenet"]:
    return "imagenet" if backbone == "imagenet" else expanded(backbone)
