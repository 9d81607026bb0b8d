"""Show what a finished sweep found: on the terminal, in the storage folder, in MLflow."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.config import SweepConfig
from orchestrator.config.sections import EXPERIMENT, PORT, STORAGE
from orchestrator.reporting import sweep_page
from orchestrator.reporting.best import best_of, best_stem, comparison
from orchestrator.reporting.results import Results, Row
from orchestrator.reporting.seed_tables import show_sweep
from orchestrator.reporting.sweep_files import write_files
from orchestrator.reporting.sweep_table import SweepTable
from orchestrator.tracking.delivery import Delivery, copy_jobs, forget, patiently, waiting_in
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_names import sweep_name
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_store import Store, locate, waiting_for_mlflow
from orchestrator.tracking.mlflow_writer import Tracker
from orchestrator.tracking.storage import Storage
from vosmodels.data import split_file
from vosmodels.errors import InputError
from vosmodels.support.atomic_files import read_json, write_json
from vosmodels.support.grid import screen

logger = logging.getLogger(__name__)


def publish(
    results: Results,
    table: SweepTable,
    config: SweepConfig,
    storage: Storage,
    tracker: Tracker,
    *,
    jobs: Sequence[str],
    soup_key: str | None,
    status: str,
) -> list[str]:
    """Write results and figures to the storage folder, and show in MLflow what is there.

    config: as written; jobs: keys of all jobs that MLflow shows; soup_key: of the soup's, if there
    is a soup; status: how the sweep ended. Returns a line for each thing that MLflow lacks.
    """
    write_json(_results_file(storage, results.sweep), results.as_dict())
    files = write_files(table, results.rows, storage.sweeps)
    storage.mirror.push([_results_file(storage, results.sweep), *files.values()])
    best = best_of(results.rows)
    delivery = Delivery(
        experiment=results.name,
        sweep=results.sweep,
        store=tracker.store.uri,
        status=status,
        jobs=list(dict.fromkeys([*jobs, *([soup_key] if soup_key else [])])),
        varied=sorted(tracker.varied),
        title=sweep_name(config) + (f", best {best}" if best else ""),
        files={name: path.name for name, path in files.items()},
        links=_links(table, soup_key),
        reused=[job.name for job in table.reused()],
    )
    delivery.save(storage)  # before the attempt, so that a kill leaves it too
    try:
        return patiently(lambda: deliver(delivery, storage, tracker), tracker.store)
    except InputError as error:
        return [undelivered(error, delivery, storage, tracker)]


def deliver(delivery: Delivery, storage: Storage, tracker: Tracker) -> list[str]:
    """Copy to MLflow what of a sweep waits in its storage folder.

    Returns what is wrong with files of ours, without which the rest is copied.
    """
    experiment, sweep = delivery.experiment, delivery.sweep
    problems = copy_jobs(delivery, storage, tracker)
    results = Results.from_dict(_results(storage, sweep))
    files = {name: storage.sweeps / file for name, file in delivery.files.items()}
    tracker.log_results(experiment, sweep, results.as_dict())
    tracker.log_files(experiment, sweep, list(files.values()))
    pages, best = tracker.pages(experiment, sweep), best_of(results.rows)
    if best is not None:
        scores = {str(k): v for k, v in best.row.scores["select"].means.items()}
        tracker.log_best(experiment, sweep, best.name, scores)
    note = sweep_page.describe(
        results,
        figures={name: f"{pages.artifacts}{path.name}" for name, path in files.items()},
        links={n: pages.jobs[key] for n, key in delivery.links.items() if key in pages.jobs},
        reused=delivery.reused,
        following=following(experiment, tracker.store)[1:],
    )
    tracker.describe(experiment, sweep, delivery.title, note)
    tracker.kill_orphans(Ledger.of(storage), experiment)
    tracker.close_sweep(experiment, sweep, status=delivery.status)
    if not problems and tracker.store.uri == delivery.store:
        forget(storage, sweep)
    return problems


def deliver_waiting(reader: MlflowReader, experiment: str, sweep: str) -> None:
    """Copy to MLflow what of a sweep waits, if its storage folder on this machine says so.

    Raises InputError with what MLflow lacks.
    """
    storage, delivery = waiting_in(reader, experiment, sweep)
    if delivery is None:
        return
    logger.warning("%s: some of sweep %s waits in %s; copying it", experiment, sweep, storage.root)
    tracker = Tracker(reader.connection)
    try:
        problems = patiently(lambda: deliver(delivery, storage, tracker), tracker.store)
    except InputError as error:
        raise InputError(undelivered(error, delivery, storage, tracker)) from None
    if problems:
        raise InputError("; ".join(problems))


def undelivered(error: InputError, delivery: Delivery, storage: Storage, tracker: Tracker) -> str:
    """Say on one line what MLflow lacks of a sweep, where that waits, and what delivers it."""
    left, jobs = len(delivery.left(storage, tracker)), len(delivery.jobs)
    what = f"what {left} of {jobs} jobs recorded, the table" if left else "the table"
    report = report_command(delivery.experiment, tracker.store)
    return (
        f"{error}; {what} and how the sweep ended wait in {storage.root}: when it answers, run the "
        f"same command again, or {report}"
    )


def report_command(experiment: str, store: Store) -> str:
    """Return the command that delivers what waits, and prints the table."""
    return f"python -m orchestrator.report {EXPERIMENT}{experiment}{_at(store)}"


def _results_file(storage: Storage, sweep: str) -> Path:
    return storage.sweeps / f"{sweep}-results.json"


def _results(storage: Storage, sweep: str) -> Mapping[str, Any]:
    file = _results_file(storage, sweep)
    values = read_json(file)
    if not isinstance(values, dict):
        raise InputError(f"{file}: no results in it; run the same sweep again to write it")
    return values


def _links(table: SweepTable, soup_key: str | None) -> Mapping[str, str]:
    """Return the keys of jobs, by row and by job."""
    keys = {job.name: job.key for job in table.plan.jobs}
    keys |= {entry.name: entry.job.key for entry in table.entries()}
    if soup_key is not None:
        keys[table.SOUP] = soup_key
    return keys


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
    """Name the best row and what it is better than; a stem that no trial beat by its file too."""
    best, stem = best_of(rows), best_stem(rows)
    if best is None:
        return ""
    than = comparison(rows)
    said = f"best on {split_file.label(config.data.select)}: {best}" + (f"; {than}" if than else "")
    if stem is None or stem.scores["select"].jf <= best.row.scores["select"].jf:
        return said
    return f"{said}: --checkpoint {Storage(config.storage_root).checkpoint(str(stem.sha256))}"


def following(experiment: str, store: Store, page: str = "") -> list[str]:
    """List commands that go on from a sweep, as they work from this working directory.

    page: address of the experiment's runs below that of MLflow's server.
    """
    at = _at(store)
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


def _at(store: Store) -> str:
    """Return the option that names a store, empty where commands here find it without."""
    default = store == locate(None, Path(STORAGE))
    return "" if default else f" --tracking-uri {shlex.quote(store.uri)}"
