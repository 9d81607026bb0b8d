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

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vosmodels.files import write_whole


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


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file at once, as `write_whole` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def read_json(path: Path) -> Any:
    """The value in a JSON file, None where there is no such file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
