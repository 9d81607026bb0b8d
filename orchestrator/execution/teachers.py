"""Load the models that a job starts from or learns from."""

from __future__ import annotations

from pathlib import Path

from orchestrator.planning.plan import Job, Role
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from vosmodels import checkpoint, registry
from vosmodels.errors import InputError
from vosmodels.model import VideoModel
from vosmodels.support.digests import sha256_of


def load_teacher(job: Job, storage: Storage) -> tuple[VideoModel, str]:
    """Load the network of a job's teacher, in eval mode; return it with its file's sha256.

    Raises InputError where the file is missing or corrupt.
    """
    config = job.config.teacher
    sha256, path = teacher_file(job, storage)
    if "teacher" in job.needs:
        model = checkpoint.load_model(path)
    else:
        model = registry.blank(config.name, **config.options)
        checkpoint.load_weights(model, path)
    return model.eval().requires_grad_(False), sha256


def teacher_file(job: Job, storage: Storage) -> tuple[str, Path]:
    """Return sha256 and file of the weights of a job's teacher. Raises as `load_teacher`."""
    if "teacher" in job.needs:
        return last_checkpoint(job, "teacher", storage)
    weights = job.config.teacher.weights_file
    assert weights is not None  # the plan has made a teacher job otherwise
    return sha256_of(weights), weights


def last_checkpoint(job: Job, role: Role, storage: Storage) -> tuple[str, Path]:
    """Return sha256 and file of the last checkpoint of a job that this one needs.

    Raises InputError where there is none, or its file is lost or corrupt.
    """
    key = job.needs[role]
    record = Ledger.of(storage).job(key)
    try:
        record.pull(last=True)
        last = record.last_file()
    except InputError as error:
        raise InputError(f"the {role} of {job.name}: {error}") from error
    if last is None:
        raise InputError(
            f"{storage.root}: job {key}, the {role} of {job.name}, has no checkpoint; run the same "
            "command again"
        )
    return last
