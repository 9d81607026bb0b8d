"""Find the results of a sweep in MLflow."""

from __future__ import annotations

from pathlib import Path

from orchestrator.reporting.results import Results
from orchestrator.tracking.checkpoint_refs import open_reader
from vosmodels.support.atomic_files import write_json


def results_in(experiment: str, tracking_uri: str | None, *, out: Path | None = None) -> Results:
    """Return the results of EXPERIMENT's newest sweep, or EXPERIMENT@SWEEP's; write them to `out`.

    Raises InputError where the store has no such experiment, sweep or results.
    """
    reader = open_reader(tracking_uri)
    results = Results.from_dict(reader.results_of(*reader.resolve(experiment)))
    if out:
        write_json(out, results.as_dict())
    return results
