"""Find the checkpoint file behind a path, models:/ID or mlflow:EXPERIMENT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.config.sections import EXPERIMENT, MODEL, STORAGE
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_store import Connection, locate
from vosmodels.support.digests import check_file
from vosmodels.support.paths import expanded


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint file and a line that says which checkpoint it is."""

    path: Path
    origin: str


def find(reference: str, tracking_uri: str | None, storage: Path = Path(STORAGE)) -> CheckpointFile:
    """Find the checkpoint file behind a reference.

    `mlflow:X` means the best checkpoint of experiment X by select J&F, among trials and soups.
    storage: folder of the default store, for a reference into MLflow without a tracking URI.
    Raises InputError where the file or model is missing, naming the store and its contents.
    """
    if reference.startswith(EXPERIMENT):
        reader = open_reader(tracking_uri, storage)
        name = reader.find_experiment(reference.removeprefix(EXPERIMENT))
        best = reader.best_checkpoint(name)
        model = f"{best.name} (models:/{best.model_id})"
        origin = f"{reference} is {model}, select J&F {best.scores['jf']:.3f}"
        return CheckpointFile(reader.download(best), origin)
    if reference.startswith(MODEL):
        reader = open_reader(tracking_uri, storage)
        record = reader.model(reference.removeprefix(MODEL).rstrip("/"))
        return CheckpointFile(reader.download(record), f"{reference} is {record.name}")
    path = expanded(reference)
    check_file(path, f"give a .safetensors file, {MODEL}ID or {EXPERIMENT}EXPERIMENT")
    return CheckpointFile(path, str(path))


def open_reader(tracking_uri: str | None, storage: Path = Path(STORAGE)) -> MlflowReader:
    """Open an MLflow store for reading. Raises InputError where it does not exist."""
    return MlflowReader(Connection(locate(tracking_uri, storage), create=False))
