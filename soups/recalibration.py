"""Give the mean of several checkpoints BatchNorm statistics of its own, from training clips.

Where ingredients differ in their statistics, the mean of these is that of no network's features.
"""

from __future__ import annotations

from dataclasses import dataclass

import safetensors.torch
from torch import Tensor

from orchestrator.config import RunConfig
from orchestrator.execution.scoring import student_of
from orchestrator.planning.calibration import calibrate_for
from orchestrator.planning.datasets import training_clips
from orchestrator.planning.plan import Job, stem_of, videos_taught
from orchestrator.tracking.storage import Storage
from soups.scoring import Weights
from vosmodels.backbones import settled_parts
from vosmodels.errors import InputError
from vosmodels.support.atomic_files import write_whole
from vosmodels.support.digests import check_file, sha256_of
from vosmodels.support.tensors import read_weights_file

STATISTICS = ("running_mean", "running_var")  # of BatchNorm, which every model here keeps frozen
ELSE = "average the statistics: --bn average"


@dataclass(frozen=True)
class Recalibration:
    """Rule that takes a network's statistics anew from the clips that a stem is calibrated with.

    stem: the job that the run's stem is, of the run's own seed. The layers are those of
    `vosmodels.calibration`: not those that a backbone's weights bring statistics for.
    """

    stem: Job

    @classmethod
    def of(cls, config: RunConfig) -> Recalibration:
        """Take the training clips of a run.

        Raises InputError where there are none that a stem's statistics are of: no such videos,
        labels of a teacher, or a student that starts from whole weights.
        """
        student = config.student
        if student.weights is not None:
            raise InputError(
                f"--bn recalibrate: student.weights {student.weights}: the statistics are those of "
                f"these weights, not of training clips; {ELSE}"
            )
        try:
            stem = stem_of(config)
            taught = videos_taught(stem)
            training_clips(stem.stages[0], stem.seed, labels=stem.labels)
        except InputError as error:
            raise InputError(
                f"--bn recalibrate takes the statistics from the run's training clips: {error}; "
                f"put them there, give --runs of a sweep whose clips are here, or {ELSE}"
            ) from error
        if taught:
            raise InputError(
                f"--bn recalibrate: a teacher labels {len(taught)} training videos, as "
                f"{taught[0].video.name}, and its masks are not at hand here; {ELSE}"
            )
        return cls(stem)

    @property
    def key(self) -> str:
        """Name the rule, with all that shapes what it gives to weights."""
        return f"recalibrate {self.stem.key}"

    def __call__(self, weights: Weights) -> dict[str, Tensor]:
        """Return weights with the statistics that their network has on the clips."""
        model = student_of(self.stem.model, weights)
        loaded = settled_parts(model) if self.stem.model.backbone else ()
        calibrate_for(self.stem, model, loaded=loaded)
        return {**weights, **statistics_of(model.state_dict())}


def statistics_of(weights: Weights) -> dict[str, Tensor]:
    """Return the BatchNorm statistics among weights."""
    return {key: value for key, value in weights.items() if key.endswith(STATISTICS)}


def keep(storage: Storage, weights: Weights) -> str:
    """Keep the statistics among weights in a file of the storage; return its sha256.

    They depend on threads and data, so that a soup is made again from the file. Raises InputError
    where it cannot be written.
    """
    found = {key: value.contiguous() for key, value in statistics_of(weights).items()}
    data = safetensors.torch.save(found)
    sha256 = sha256_of(data)
    path = storage.statistics(sha256)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); free space or choose another storage"
        ) from error
    storage.mirror.push([path])
    return sha256


def kept(storage: Storage, sha256: str) -> dict[str, Tensor]:
    """Read the statistics that `keep` kept.

    Raises InputError where the file is gone, or is not the one that was kept.
    """
    path = storage.statistics(sha256)
    storage.mirror.fetch(path)
    check_file(
        path,
        "it holds the BatchNorm statistics that the soup took from training clips, which its "
        "ingredients do not tell: put a copy there, or search anew with --bn recalibrate --again",
    )
    return read_weights_file(path)
