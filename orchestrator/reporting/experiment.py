"""Find the results of a sweep in MLflow."""

from __future__ import annotations

from pathlib import Path

from orchestrator.reporting.results import Results
from orchestrator.tracking.mlflow_reader import MlflowReader
from vosmodels.support.atomic_files import write_json


def results_in(reader: MlflowReader, experiment: str, sweep: str, out: Path | None) -> Results:
    """Return the results of a sweep; write them to `out`.

    Raises InputError where the store has no results of it.
    """
    results = Results.from_dict(reader.results_of(experiment, sweep))
    if out:
        write_json(out, results.as_dict())
    return results
