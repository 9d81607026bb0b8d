"""A checkpoint by the name a person gives it: a file, models:/ID, or mlflow:EXPERIMENT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.catalogue import Catalogue
from orchestrator.connection import Connection, locate
from vosmodels.types import InputError

DEFAULT_STORAGE = Path("results")


@dataclass(frozen=True)
class Found:
    """A checkpoint file and what to tell of where it came from."""

    path: Path
    told: str


def find(reference: str, tracking_uri: str | None) -> Found:
    """The file behind a reference; `mlflow:X` is X's best by select J&F among trials and soups.

    Raises InputError where there is none, naming the store and what it holds.
    """
    if reference.startswith("mlflow:"):
        catalogue = reader(tracking_uri)
        name = catalogue.find_experiment(reference.removeprefix("mlflow:"))
        best = catalogue.best_checkpoint(name)
        told = f"{reference} is {best.name} (models:/{best.model_id}), select J&F "
        return Found(catalogue.download(best), told + f"{best.scores['jf']:.3f}")
    if reference.startswith("models:/"):
        catalogue = reader(tracking_uri)
        record = catalogue.model(reference.removeprefix("models:/").rstrip("/"))
        return Found(catalogue.download(record), f"{reference} is {record.name}")
    path = Path(reference).expanduser()
    if not path.is_file():
        raise InputError(
            f"{path}: no such checkpoint; give a .safetensors file, models:/ID or mlflow:EXPERIMENT"
        )
    return Found(path, str(path))


def reader(tracking_uri: str | None) -> Catalogue:
    """The store to read from; it is not made where there is none."""
    return Catalogue(Connection(locate(tracking_uri, DEFAULT_STORAGE), create=False))
