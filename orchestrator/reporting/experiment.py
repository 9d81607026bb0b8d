"""Find the results of a sweep in MLflow."""

from __future__ import annotations

from pathlib import Path

from orchestrator.reporting.results import Results
from orchestrator.tracking.checkpoint_refs import open_reader
from vosmodels.support.atomic_files import write_json


def results_in(
    experiment: str, tracking_uri: str | None, *, sweep: str | None = None, out: Path | None = None
) -> Results:
    """Return the results of an experiment's newest sweep, or of `sweep`; write them to `out`.

    Raises InputError where the store has no such experiment, sweep or results.
    """
    reader = open_reader(tracking_uri)
    name = reader.find_experiment(experiment)
    results = Results.from_dict(reader.results_of(name, sweep or reader.newest_sweep(name)))
    if out:
        write_json(out, results.as_dict())
    return results
