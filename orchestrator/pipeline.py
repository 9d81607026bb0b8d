"""Run a whole sweep, from one seed or several: jobs, scores, soup, table."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from orchestrator import outcome
from orchestrator.config import RunConfig, SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.config.loading import run_of
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution import driver, last_run
from orchestrator.execution.failures import reports
from orchestrator.execution.last_run import new_trials
from orchestrator.execution.older_code import keep_dated, older_code, set_aside
from orchestrator.execution.progress import ProgressWatcher
from orchestrator.execution.trial_source import ASHA, HOURS
from orchestrator.execution.worker_pool import worker_pool
from orchestrator.planning.paths import located
from orchestrator.planning.plan import Plan
from orchestrator.prepared import plan_of, ready, search_of, store_of, take_up
from orchestrator.reporting.figures import draw
from orchestrator.reporting.results import Results, Row
from orchestrator.reporting.seeds import SeedTable
from orchestrator.reporting.sweep_table import SweepTable
from orchestrator.tracking.delivery import forget
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_store import Connection, waiting_for_mlflow
from orchestrator.tracking.mlflow_writer import Tracker
from orchestrator.tracking.storage import Storage
from soups.recipe import soup_of_sweep
from vosmodels.errors import InputError
from vosmodels.support import cli
from vosmodels.support.atomic_files import write_json
from vosmodels.support.memory import keep_freed_memory

logger = logging.getLogger(__name__)


def run(
    config: SweepConfig,
    *,
    text: str,
    command: str,
    tracking_uri: str | None,
    quiet: bool,
    rerun_changed: bool = False,
    alone: Sequence[str] | None = None,
    keep: Callable[[Results], None] = lambda results: None,
) -> Mapping[str, Any]:
    """Run a whole sweep: jobs, scores, soup, table.

    text: the YAML file, logged in MLflow; command: the command line, for the results; quiet: print
    nothing; rerun_changed: train again what other code trained, and keep what there was under a
    dated name; alone: words by which `orchestrator.train` runs one of the jobs, None where the same
    command does; keep: called with the results so far after every finished job.
    Raises CommandFailed with the results where a trial failed or MLflow lacks something, Missing
    where data or weights are absent.
    """
    started = time.monotonic()
    storage = Storage(config.storage_root, config.remote)
    ledger = Ledger.of(storage)
    sweep, written = sweep_id(config), config
    named = located(config)
    config = ready(named, tracking_uri)
    take_up(storage)
    plan = plan_of(config, storage, sweep)
    threads = plan.jobs[0].threads
    asked = search_of(config, storage, sweep, threads, begin=False)
    known = asked.plan(plan) if asked else plan
    ledger.pull([job.key for job in known.jobs], anew=True)
    older = older_code(known, storage)
    again = older.again if rerun_changed else ()
    driver.memory_of(plan, config, storage, driver.nodes_of(config, storage), again).check()
    for line in filter(None, [new_trials(plan, config, storage), *older.lines(rerun_changed)]):
        print(line, file=sys.stderr)
    with driver.sweep_lock(storage, sweep) as held:
        set_aside(again, sweep, storage)
        last_run.save(config, storage, sweep, threads, plan.trials)
        tracker = Tracker(Connection(store_of(config, tracking_uri)))
        tracker.open_sweep(named, sweep, text)  # without the paths of downloaded files
        forget(storage, sweep)  # this run delivers what an earlier one could not
        tracker.kill_orphans(ledger, config.name)  # of a run that was killed
        # Same thread count as the jobs, so that scores computed here and there are equal.
        keep_freed_memory()
        torch.set_num_threads(threads)
        ended = False
        search = search_of(config, storage, sweep, threads)
        table = SweepTable(search.plan(plan) if search else plan, config, storage)

        def results_of(rows: Sequence[Row], peak_mib: float | None, placement: str) -> Results:
            return Results(
                name=config.name,
                sweep=sweep,
                rows=rows,
                command=command,
                config=written.model_dump(mode="json", exclude={"storage", "tracking"}),
                protocol=_protocol(written),
                seconds=time.monotonic() - started,
                peak_mib=peak_mib,
                placement=placement,
            )

        watch = ProgressWatcher(
            table.plan.jobs,
            ledger,
            lambda record: tracker.project(record, sweep),
            on_done=lambda: keep(results_of(table.so_far(), None, "not at its end yet")),
            trials=[job.steps for job in plan.trials],
        )
        try:
            with watch:
                ran = driver.execute(table.plan, config, storage, search, watch.follow, held)
                if search:
                    table = SweepTable(search.plan(plan), config, storage)
                failed = reports(ran.failures, table.plan, command, alone)
                rows, soup_key = table.rows(watch.count("rows", "frames")), None
                ended = any(ledger.job(job.key).state == "done" for job in table.plan.trials)
                if config.soup.after_sweep and ended:
                    try:
                        soup, soup_key = _soup(run_of(named), storage, tracker, table, watch)
                        rows.append(soup)
                    except InputError as error:  # the trials' table is worth keeping without it
                        failed.append(f"failed: greedy soup: {error}")
            held()
            results = results_of(rows, watch.peak_mib, ran.placement)
            lacking = outcome.publish(
                results,
                table,
                written,
                storage,
                tracker,
                jobs=watch.keys,
                soup_key=soup_key,
                status="FAILED" if failed else "FINISHED",
            )
            failed += [f"failed: {line}" for line in lacking]
            ended = True
        finally:
            if not ended:
                with waiting_for_mlflow("how the sweep ended"):
                    tracker.kill_orphans(ledger, config.name)
                    tracker.close_sweep(config.name, sweep, status="KILLED")
    if not quiet:
        outcome.show(results, config, tracker)
        for line in left_over(config, table.plan, storage):
            print(line, file=sys.stderr)
    if failed:
        for line in failed:
            print(line, file=sys.stderr)
        raise cli.CommandFailed(results.as_dict())
    return results.as_dict()


def left_over(config: SweepConfig, plan: Plan, storage: Storage) -> list[str]:
    """Say how many trials the sweep did not bring to their end, and how they would go on."""
    ledger = Ledger.of(storage)
    records = [ledger.job(job.key) for job in plan.trials]
    stops = [stopped.why for record in records if (stopped := record.stopped())]
    lines = []
    if count := stops.count(ASHA):
        lines.append(f"{count} of {len(records)} trials were stopped by asha, as others were ahead")
    new = sum(record.state == "new" for record in records)
    late = stops.count(HOURS)
    if config.sweep.max_hours is not None and late + new:
        lines.append(
            f"{late} trials were stopped and {new} not started at the end of sweep.max_hours; "
            "run the same command again to continue"
        )
    return lines


def _soup(
    config: RunConfig,
    storage: Storage,
    tracker: Tracker,
    table: SweepTable,
    watch: ProgressWatcher,
) -> tuple[Row, str]:
    """Make the soup of a table's trials; return its row and its job's key, also without MLflow.

    Raises InputError where the weights of a checkpoint are neither in storage nor in MLflow.
    """

    def fetch(sha256: str) -> Path:
        reader = MlflowReader(tracker.connection)
        return reader.download_content(config.name, table.plan.sweep, sha256)

    trials = [job.key for job in table.plan.trials]
    processes = partial(worker_pool, threads=torch.get_num_threads())  # those of the jobs
    soup = soup_of_sweep(
        config,
        table.plan.sweep,
        trials,
        storage=storage,
        project=watch.copy,
        fetch=fetch,
        on_scored=watch.count("soup", "candidates"),
        processes=None if config.cluster.address else processes,
    )
    note = (
        f"{len(soup.ingredients)} of {len(soup.decisions)} checkpoints; "
        f"all of them: J&F {soup.scores['uniform_jf']:.3f}"
    )
    return table.soup(soup.sha256, note, watch.count("soup's row", "frames")), soup.key


def _protocol(config: SweepConfig) -> str:
    """Describe the splits and the protocol of a table's scores."""
    chosen = ScoringProtocol.for_select(config.data)
    report = ScoringProtocol.for_report(config.data)
    select = f"{chosen.data.root} {chosen.describe()}"
    if report is None:
        return select
    other = "" if chosen.data.root == report.data.root else f"{report.data.root} "
    return f"{select}; report {other}{report.describe()}"


def run_seeds(
    configs: Sequence[SweepConfig],
    table: SeedTable,
    out: Path,
    *,
    text: str,
    command: str,
    tracking_uri: str | None,
    rerun_changed: bool = False,
    alone: Sequence[str] = (),
) -> tuple[SeedTable, bool]:
    """Run a sweep for each configuration and collect all of them in one table.

    configs: the same sweep with different seeds; out: file that has the table after every job;
    rerun_changed, alone: as `run` takes them. Returns the table, and whether all trials finished
    and MLflow has everything.
    """
    all_well = True
    if any(config.seed in table.runs for config in configs) and rerun_changed:
        keep_dated(out)
    for config in configs:
        logger.info("table %s: seed %d", table.name, config.seed)
        before = table.runs.get(config.seed)

        def keep(
            results: Results, table: SeedTable = table, before: Results | None = before
        ) -> None:
            if before is None or len(results.rows) >= len(before.rows):  # a file loses no rows
                write_json(out, table.with_run(results).as_dict())

        try:
            results = run(
                config,
                text=text,
                command=command,
                tracking_uri=tracking_uri,
                quiet=True,
                rerun_changed=rerun_changed,
                alone=[*alone, f"seed={config.seed}"],
                keep=keep,
            )
        except cli.CommandFailed as failure:
            results, all_well = failure.result or {}, False
        table = table.with_run(Results.from_dict(results))
        write_json(out, table.as_dict())
        files = [out]
        if any(row.mean.role == "trial" for row in table.rows()):
            files += draw(table, out)
        with waiting_for_mlflow("the table of all seeds") as errors:
            Tracker(Connection(store_of(config, tracking_uri))).log_files(
                config.name, results["sweep"], files
            )
        all_well = all_well and not errors
    return table, all_well
