"""Define all paths below a storage folder.

ledger/KEY.jsonl      the events of each job: the truth
checkpoints/SHA256.safetensors
masks/DIGEST.npz      a teacher's masks of a training video, made once; DIGEST.json: their sha256
statistics/SHA256.safetensors  BatchNorm statistics of a soup, where they were recalibrated
scores/DIGEST.json    a checkpoint's scores on a split, computed once; those of a mean, by video
resume/KEY/STEP.*     states to continue from, deleted when the job is done
logs/KEY.log          the log of a job, with tracebacks
pictures/KEY/         predicted masks and attention as PNG
sweeps/ID.json        the resolved configuration of a sweep, with its thread count and trials; ID-*:
                      its results and figures
NAME.YYYYMMDDTHHMMSS  of any of these: as it was before its job was trained again
tune/, train/         files of Ray about its trials and workers, never read
mlflow.db, artifacts/ the default MLflow store: a copy of the ledger
remote.json           of which store the folder is a working copy (cluster.storage); there too, by
                      the same names: all but tune/, train/ and MLflow's; leases/, who writes what
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from orchestrator.tracking.mirror import Mirror
from vosmodels.support.paths import check_folder

FOLDERS = (
    *("ledger", "checkpoints", "masks", "statistics", "scores", "resume", "logs", "pictures"),
    *("sweeps", "tune", "train"),
)


@dataclass(frozen=True)
class Storage:
    """A storage folder. root: absolute, the same path on every node of a cluster.

    remote: the store of which the folder is this node's working copy; None where all nodes share
    the folder itself.
    """

    root: Path
    remote: str | None = None

    @cached_property
    def mirror(self) -> Mirror:
        """The store that has the folder's files too; without one nothing is done there."""
        return Mirror(self.root, self.remote)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process open the store anew."""
        return (Storage, (self.root, self.remote))

    def check(self) -> None:
        """Check that a sweep can write here; create nothing. Raises InputError otherwise."""
        check_folder(self.root)
        if self.root.is_dir():
            for name in FOLDERS:
                check_folder(self.root / name)

    @property
    def ledger(self) -> Path:
        """Folder of the ledger."""
        return self.root / "ledger"

    @property
    def checkpoints(self) -> Path:
        """Folder of the weights checkpoints."""
        return self.root / "checkpoints"

    @property
    def masks(self) -> Path:
        """Folder of the masks that teachers made of training videos."""
        return self.root / "masks"

    @property
    def scores(self) -> Path:
        """Folder of the scores on disk."""
        return self.root / "scores"

    @property
    def sweeps(self) -> Path:
        """Folder of resolved sweeps and their results."""
        return self.root / "sweeps"

    @property
    def leases(self) -> Path:
        """Folder of leases, which only a store has."""
        return self.root / "leases"

    @property
    def tune(self) -> Path:
        """Folder of Ray Tune."""
        return self.root / "tune"

    @property
    def train(self) -> Path:
        """Folder of Ray Train."""
        return self.root / "train"

    def resume(self, key: str) -> Path:
        """Return the folder of a job's resume states."""
        return self.root / "resume" / key

    def log(self, key: str) -> Path:
        """Return the path of a job's log."""
        return self.root / "logs" / f"{key}.log"

    def pictures(self, key: str) -> Path:
        """Return the folder of a job's pictures."""
        return self.root / "pictures" / key

    def checkpoint(self, sha256: str) -> Path:
        """Return the path of a checkpoint by the sha256 of its file."""
        return self.checkpoints / f"{sha256}.safetensors"

    def statistics(self, sha256: str) -> Path:
        """Return the path of a soup's BatchNorm statistics by the sha256 of their file."""
        return self.root / "statistics" / f"{sha256}.safetensors"
