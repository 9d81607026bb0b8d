"""A checkpoint by the name a person gives it: a file, models:/ID, or mlflow:EXPERIMENT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.config.sections import MODEL, STORAGE
from orchestrator.tracking.mlflow_reader import Catalogue
from orchestrator.tracking.mlflow_store import Connection, locate
from vosmodels.errors import InputError

EXPERIMENT = "mlflow:"


@dataclass(frozen=True)
class Found:
    """A checkpoint file and what to tell of where it came from."""

    path: Path
    told: str


def find(reference: str, tracking_uri: str | None, storage: Path = Path(STORAGE)) -> Found:
    """The file behind a reference; `mlflow:X` is X's best by select J&F among trials and soups.

    storage: the folder with the store that is meant where none is named.
    Raises InputError where there is none, naming the store and what it holds.
    """
    if reference.startswith(EXPERIMENT):
        catalogue = reader(tracking_uri, storage)
        name = catalogue.find_experiment(reference.removeprefix(EXPERIMENT))
        best = catalogue.best_checkpoint(name)
        told = f"{reference} is {best.name} (models:/{best.model_id}), select J&F "
        return Found(catalogue.download(best), told + f"{best.scores['jf']:.3f}")
    if reference.startswith(MODEL):
        catalogue = reader(tracking_uri, storage)
        record = catalogue.model(reference.removeprefix(MODEL).rstrip("/"))
        return Found(catalogue.download(record), f"{reference} is {record.name}")
    path = Path(reference).expanduser()
    if not path.is_file():
        raise InputError(
            f"{path}: no such checkpoint; give a .safetensors file, models:/ID or mlflow:EXPERIMENT"
        )
    return Found(path, str(path))


def reader(tracking_uri: str | None, storage: Path = Path(STORAGE)) -> Catalogue:
    """The store to read from; it is not made where there is none."""
    return Catalogue(Connection(locate(tracking_uri, storage), create=False))
