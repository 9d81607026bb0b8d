"""Set the BatchNorm statistics of a model from the clips that a job begins with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from orchestrator.planning.datasets import Teach, training_clips
from orchestrator.planning.plan import Job
from vosmodels.calibration import calibrate
from vosmodels.data.clips import batch
from vosmodels.model import VideoModel

BATCHES = 20


def calibrate_for(
    job: Job, model: VideoModel, *, loaded: Sequence[nn.Module], teach: Teach | None = None
) -> None:
    """Set the statistics of a model's new layers from the first BATCHES batches of a job.

    loaded: parts that have statistics, as in `vosmodels.calibration.calibrate`; teach: as in
    `training_clips`. Raises InputError where the clips cannot be read.
    """
    stage = job.stages[0]
    clips = training_clips(stage, job.seed, labels=job.labels, teach=teach)
    size = max(stage.train.batch_size, 2)  # one value per channel has no variance
    calibrate(model, (batch(clips, n, size) for n in range(BATCHES)), loaded=loaded)
