"""Where a storage folder keeps what; every path in one place.

ledger/KEY.jsonl      what happened in each job: the truth
checkpoints/SHA256.safetensors
scores/DIGEST.json    a checkpoint's scores on a split, computed once
resume/KEY/STEP.*     states to continue from, gone when the job is done
logs/KEY.log          what a job said, with tracebacks
pictures/KEY/         predicted masks as PNG
sweeps/ID.json        a sweep as it was resolved, with its thread count
tune/, train/         what Ray writes of its trials and its groups of workers: never read
mlflow.db, artifacts/ the default MLflow store: a projection of the ledger
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Storage:
    """A storage folder, absolute; on a cluster one that every node sees at the same path."""

    root: Path

    @property
    def ledger(self) -> Path:
        return self.root / "ledger"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def scores(self) -> Path:
        return self.root / "scores"

    @property
    def sweeps(self) -> Path:
        return self.root / "sweeps"

    @property
    def tune(self) -> Path:
        return self.root / "tune"

    @property
    def train(self) -> Path:
        return self.root / "train"

    def resume(self, key: str) -> Path:
        return self.root / "resume" / key

    def log(self, key: str) -> Path:
        return self.root / "logs" / f"{key}.log"

    def pictures(self, key: str) -> Path:
        return self.root / "pictures" / key

    def checkpoint(self, sha256: str) -> Path:
        return self.checkpoints / f"{sha256}.safetensors"
