"""Score and write the checkpoints of one job, and record them in its ledger."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from orchestrator.execution.scoring import Scorer, per_sequence, summary
from orchestrator.planning.plan import Job
from orchestrator.tracking import events
from orchestrator.tracking.ledger import JobRecord
from orchestrator.tracking.storage import Storage
from orchestrator.training.gradient_norms import judged_at, warnings_of
from vosmodels import checkpoint
from vosmodels.evaluation import strata
from vosmodels.model import VideoModel
from vosmodels.support.atomic_files import write_whole

logger = logging.getLogger(__name__)


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

        Files are written before the line of the ledger that names them. Where a checkpoint of the
        same content has been scored, its scores and its picture are taken.
        """
        if not (self.record and self.scorer):
            return None
        content, strip = self.scorer.content(model), self.scorer.strip()
        twin = self.scorer.twin(content)
        twin = twin if twin and twin.picture else None
        scores = twin.scores if twin else self.scorer.score(model, on_mask=strip.add)
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
        if twin is None:
            strip.save(picture)
            self.scorer.save_twin(content, sha256, picture)
        elif twin.picture and twin.picture != picture:
            picture.parent.mkdir(parents=True, exist_ok=True)
            write_whole(picture, twin.picture.read_bytes())
        self.record.write(
            events.Picture(step=step, path=picture.relative_to(self.storage.root).as_posix())
        )
        logger.info("%s step %d: J %.3f F %.3f", self.job.name, step, scores.j, scores.f)
        return scores.jf
