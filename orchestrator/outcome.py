"""Show what a finished sweep found: on the terminal, in the storage folder, in MLflow."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.config import SweepConfig
from orchestrator.config.sections import EXPERIMENT, PORT, STORAGE
from orchestrator.reporting import sweep_page
from orchestrator.reporting.best import best_of
from orchestrator.reporting.results import BASELINE, Results, Row
from orchestrator.reporting.seed_tables import show_sweep
from orchestrator.reporting.sweep_files import write_files
from orchestrator.reporting.sweep_table import SweepTable
from orchestrator.tracking.mlflow_names import sweep_name
from orchestrator.tracking.mlflow_store import Store, locate, waiting_for_mlflow
from orchestrator.tracking.mlflow_writer import SweepPages, Tracker
from orchestrator.tracking.storage import Storage
from vosmodels.data import split_file
from vosmodels.support.atomic_files import write_json
from vosmodels.support.grid import screen


def publish(
    results: Results,
    table: SweepTable,
    config: SweepConfig,
    storage: Storage,
    tracker: Tracker,
    soup_key: str | None,
) -> None:
    """Write results and figures to the storage folder and to the sweep's run in MLflow.

    config: as written; soup_key: of the soup's job, if there is a soup.
    """
    write_json(storage.sweeps / f"{results.sweep}-results.json", results.as_dict())
    files = write_files(table, results.rows, storage.sweeps)
    experiment, sweep = results.name, results.sweep
    with waiting_for_mlflow("the table"):
        tracker.log_results(experiment, sweep, results.as_dict())
        tracker.log_files(experiment, sweep, list(files.values()))
        pages, best = tracker.pages(experiment, sweep), best_of(results.rows)
        if best is not None:
            scores = {str(k): v for k, v in best.row.scores["select"].means.items()}
            tracker.log_best(experiment, sweep, best.name, scores)
        note = sweep_page.describe(
            results,
            figures={name: f"{pages.artifacts}{path.name}" for name, path in files.items()},
            links=_links(table, pages, soup_key),
            reused=[job.name for job in table.reused()],
            following=following(experiment, tracker.store)[1:],
        )
        name = sweep_name(config) + (f", best {best}" if best else "")
        tracker.describe(experiment, sweep, name, note)


def _links(table: SweepTable, pages: SweepPages, soup_key: str | None) -> Mapping[str, str]:
    """Return the addresses of the runs that MLflow has, by row and by job."""
    keys = {job.name: job.key for job in table.plan.jobs}
    keys |= {entry.name: entry.job.key for entry in table.entries()}
    if soup_key is not None:
        keys[table.SOUP] = soup_key
    return {name: pages.jobs[key] for name, key in keys.items() if key in pages.jobs}


def show(results: Results, config: SweepConfig, tracker: Tracker) -> None:
    """Print the table, the best row, what it took, and the commands that go on from here."""
    out = screen(columns=120)
    show_sweep(results)
    if best := best_line(results.rows, config):
        out.print(best)
    out.print(results.cost())
    out.print("next:")
    page = ""
    with waiting_for_mlflow("the address of its page"):
        page = tracker.pages(results.name, results.sweep).runs
    for line in following(config.name, tracker.store, page):
        out.print(f"  {line}")
    out.print(f"store: {tracker.store.uri}")


def best_line(rows: Sequence[Row], config: SweepConfig) -> str:
    """Name the best row; where a stem scores higher, name that and its file too."""
    best = best_of(rows)
    if best is None:
        return ""
    said = f"best on {split_file.label(config.data.select)}: {best}"
    stems = [row for row in rows if row.role == BASELINE and row.sha256 is not None]
    stem = max(stems, key=lambda row: row.scores["select"].jf, default=None)
    if stem is None or stem.scores["select"].jf <= best.row.scores["select"].jf:
        return said
    path = Storage(config.storage_root).checkpoint(str(stem.sha256))
    return f"{said}; {stem.name!r} scores higher: --checkpoint {path}"


def following(experiment: str, store: Store, page: str = "") -> list[str]:
    """List commands that go on from a sweep, as they work from this working directory.

    page: address of the experiment's runs below that of MLflow's server.
    """
    default = store == locate(None, Path(STORAGE))
    at = "" if default else f" --tracking-uri {shlex.quote(store.uri)}"
    pages = f"python -m orchestrator.ui{at}"
    if store.artifacts is None:
        pages = f"{store.uri.rstrip('/')}/{page}"
    elif store.file == Path(STORAGE, "mlflow.db").absolute() and Path("Makefile").is_file():
        pages = f"{'make ui':8} http://127.0.0.1:{PORT}/{page}"
    return [
        pages,
        f"python -m soups.greedy --runs {EXPERIMENT}{experiment}{at}",
        f"python -m orchestrator.segment --checkpoint {EXPERIMENT}{experiment}{at} "
        "--video CLIP.mp4 --mask FIRST.png --out OUT.mp4",
    ]
