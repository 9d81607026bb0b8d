"""Run a whole sweep, from one seed or several: jobs, scores, soup, table."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from orchestrator.config import RunConfig, SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.config.loading import run_of
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.config.sections import EXPERIMENT, MODEL, STORAGE
from orchestrator.execution import driver
from orchestrator.execution.asked_trials import Search
from orchestrator.execution.forecast import done_steps, forecast
from orchestrator.execution.labelling import labels_of_plan
from orchestrator.execution.trial_source import ASHA, HOURS
from orchestrator.planning.paths import located
from orchestrator.planning.plan import Plan, Planner, plan_sweep
from orchestrator.planning.preflight import Missing, check
from orchestrator.planning.search import Study
from orchestrator.planning.trials import idle_keys, trials, trials_at
from orchestrator.reporting.figures import draw
from orchestrator.reporting.results import BASELINE, Results, Row, ordered
from orchestrator.reporting.seed_tables import show_sweep
from orchestrator.reporting.seeds import SeedTable
from orchestrator.reporting.sweep_table import SweepTable
from orchestrator.tracking.checkpoint_refs import find
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_store import Connection, Store, locate, waiting_for_mlflow
from orchestrator.tracking.mlflow_store import check as check_store
from orchestrator.tracking.mlflow_writer import Tracker
from orchestrator.tracking.storage import Storage
from soups.recipe import soup_of_sweep
from vosmodels.data import split_file
from vosmodels.errors import InputError
from vosmodels.support import cli
from vosmodels.support.atomic_files import write_json
from vosmodels.support.grid import screen
from vosmodels.support.memory import keep_freed_memory

logger = logging.getLogger(__name__)

PARTS = {  # of a forecast, in words
    "labels": "segmenting videos for labels",
    "teacher": "training the teacher",
    "stem": "training the stem",
    "trial": "training the trials",
    "scoring": "scoring checkpoints and rows",
    "soup": "scoring candidates of the soup",
}


def run(
    config: SweepConfig,
    *,
    text: str,
    command: str,
    tracking_uri: str | None,
    quiet: bool,
    keep: Callable[[Results], None] = lambda results: None,
) -> Mapping[str, Any]:
    """Run a whole sweep: jobs, scores, soup, table.

    text: the YAML file, logged in MLflow; command: the command line, for the results; quiet: print
    nothing; keep: called with the results so far after every finished job.
    Raises CommandFailed with the results where a trial failed, Missing where data or
    weights are absent.
    """
    started = time.monotonic()
    storage = Storage(config.storage_root)
    sweep, written = sweep_id(config), config
    named = located(config)
    config = _ready(named, tracking_uri)
    plan = _plan(config, storage, sweep)
    threads = plan.jobs[0].threads
    placement = driver.placement(config, driver.nodes_of(config), len(plan.trials), threads)
    driver.memory_of(plan, config, storage, placement).check()
    with driver.sweep_lock(storage, sweep):
        driver.save_resolved_config(config, storage, sweep, threads)
        tracker = Tracker(Connection(_store(config, tracking_uri)))
        tracker.open_sweep(named, sweep, text)  # without the paths of downloaded files
        tracker.kill_orphans(Ledger(storage.root), config.name)  # of a run that was killed
        # Same thread count as the jobs, so that scores computed here and there are equal.
        keep_freed_memory()
        torch.set_num_threads(threads)
        status = "KILLED"
        search = _search(config, storage, sweep, threads)
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

        def on_done() -> None:
            keep(results_of(table.so_far(), None, "not at its end yet"))

        try:
            outcome = driver.execute(table.plan, config, storage, tracker, on_done, search)
            if search:
                table = SweepTable(search.plan(plan), config, storage)
            failed = [f"{f.job.name}: {f.error}; log: {f.log}" for f in outcome.failures]
            rows = table.rows()
            if config.soup.after_sweep and any(row.role == "trial" for row in rows):
                try:
                    rows.append(_soup(run_of(named), storage, tracker, table))
                except InputError as error:  # the table of the trials is worth keeping without it
                    failed.append(f"greedy soup: {error}")
            results = results_of(rows, outcome.peak_mib, outcome.placement)
            _publish(results, table, storage, tracker)
            status = "FAILED" if failed else "FINISHED"
        finally:
            with waiting_for_mlflow("how the sweep ended"):
                tracker.kill_orphans(Ledger(storage.root), config.name)
                tracker.close_sweep(config.name, sweep, status=status)
    if not quiet:
        _print(results, config, tracker)
        for line in left_over(config, table.plan, storage):
            print(line, file=sys.stderr)
    if failed:
        for line in failed:
            print(f"failed: {line}", file=sys.stderr)
        raise cli.CommandFailed(results.as_dict())
    return results.as_dict()


def left_over(config: SweepConfig, plan: Plan, storage: Storage) -> list[str]:
    """Say how many trials the sweep did not bring to their end, and how they would go on."""
    ledger = Ledger(storage.root)
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


def dry_run(
    config: SweepConfig,
    *,
    tracking_uri: str | None,
    quiet: bool,
    times: dict[str, float] | None = None,
) -> Mapping[str, Any]:
    """Print and return the jobs that `run` would run, without starting or writing any.

    times: as `forecast` takes them. Absent data and weights are told, as another machine may have
    them. Raises CommandFailed where those that are here cannot be used, InputError where the
    machine lacks the memory.
    """
    storage = Storage(config.storage_root)
    out = screen(stderr=quiet)
    try:
        sweep = sweep_id(config)
        config = _ready(located(config), tracking_uri)
        plan = _plan(config, storage, sweep)
    except Missing as error:
        names = [trial.name for trial in trials(config)]
        out.print(f"{len(names)} trials: {', '.join(names)}")
        for line in error.problems:
            if line in error.unusable:
                print(f"error: {line}", file=sys.stderr)
            else:
                out.print(f"missing here: {line}")
        result = {"trials": names, "missing": list(error.problems)}
        if error.unusable:
            raise cli.CommandFailed(result) from error
        return result
    ledger = Ledger(storage.root)
    if config.sweep.search == "optuna":
        plan = _with_asked(plan, config, storage, sweep)
        out.print("trials that are new are drawn at random here: Optuna chooses them as it learns")
    states = {job.name: ledger.job(job.key).state for job in plan.jobs}
    for job in plan.jobs:
        done = 0 if states[job.name] == "done" else done_steps(job, storage)
        steps = f"{job.steps} steps" if not done else f"from step {done} of {job.steps}"
        out.print(f"{job.role:8} {job.name:36} {steps:>12}  {states[job.name]:8} {job.key}")
    nodes = driver.nodes_of(config)
    placement = driver.placement(config, nodes, len(plan.trials), plan.trials[0].threads)
    out.print(f"runs {driver.describe(placement)} on {config.cluster.address or 'this machine'}")
    memory = driver.memory_of(plan, config, storage, placement)
    out.print(memory.describe())
    memory.check()
    for line in labels_of_plan(plan, storage):
        out.print(line)
    estimate = forecast(plan, config, storage, placement, times)
    for part, seconds in estimate.seconds.items():
        out.print(f"{PARTS.get(part, part):34} about {seconds:.0f} s")
    if len(estimate.seconds) > 1:
        total = sum(estimate.seconds.values())
        out.print(f"{'in all':34} about {total:.0f} s, {total / 60:.1f} min")
    out.print(f"{estimate.source}; disk about {estimate.disk_mib:.0f} MiB under {storage.root}")
    return {
        "trials": [job.name for job in plan.trials],
        "states": states,
        "at_once": placement.at_once,
        "threads": placement.threads,
        "seconds": dict(estimate.seconds),
        "disk_mib": estimate.disk_mib,
        "missing": [],
    }


def _ready(config: SweepConfig, tracking_uri: str | None) -> SweepConfig:
    """Replace weights of models:/ID by files, and check data and weights.

    Raises Missing with all problems; InputError with these too where the storage folder or the
    store cannot be written to.
    """
    for line in idle_keys(config):
        logger.warning("%s", line)
    changes, problems, broken = {}, list[str](), frozenset[str]()
    unusable = _unusable(config, tracking_uri)
    for section in ("student", "teacher"):
        model = getattr(config, section)
        if model.weights and model.weights.startswith(MODEL):
            file = None
            try:
                uri = tracking_uri or config.tracking.uri
                file = str(find(model.weights, uri, config.storage_root).path)
            except InputError as error:
                problems.append(f"{section}.weights: {error}")
            changes[section] = model.model_copy(update={"weights": file})
    config = config.model_copy(update=changes)
    try:
        check(config)
    except Missing as error:
        problems += error.problems
        broken = error.unusable
    if unusable:
        raise InputError("; ".join(unusable + problems))
    if problems:
        raise Missing(problems, broken)
    return config


def _unusable(config: SweepConfig, tracking_uri: str | None) -> list[str]:
    """List why storage and store cannot be written to. Raises UsageError as `locate`."""
    store, problems = _store(config, tracking_uri), dict[str, str]()
    for key, attempt in (
        ("storage", Storage(config.storage_root).check),
        ("tracking.uri", partial(check_store, store)),
    ):
        try:
            attempt()
        except InputError as error:
            problems.setdefault(str(error), key)  # the default store lies in the storage
    return [f"{key}: {problem}" for problem, key in problems.items()]


def _store(config: SweepConfig, tracking_uri: str | None) -> Store:
    return locate(tracking_uri or config.tracking.uri, config.storage_root)


def _plan(config: SweepConfig, storage: Storage, sweep: str) -> Plan:
    """Plan a sweep. Raises InputError where Optuna would choose what a stem is trained with."""
    count = len(trials(config))
    threads = driver.threads_of(config, storage, sweep, count)
    plan = plan_sweep(config, sweep, threads)
    if config.sweep.search == "optuna" and len(plan.stems) > 1:
        raise InputError(
            f"sweep.search optuna: {', '.join(config.sweep.parameters)}: one of them changes the "
            "stem, of which all trials of a search share one; take sweep.search=random"
        )
    return plan


def _with_asked(plan: Plan, config: SweepConfig, storage: Storage, sweep: str) -> Plan:
    """Put the trials that a search has asked for before those that were drawn in its place."""
    if not _journal(storage, sweep).exists():
        return plan
    search = _search(config, storage, sweep, plan.jobs[0].threads)
    known = search.plan(plan).trials if search else ()
    left = max(0, len(plan.trials) - len(known))
    drawn = [job for job in plan.trials if job.key not in {job.key for job in known}]
    return replace(plan, trials=(*known, *drawn[:left]), points=())


def _journal(storage: Storage, sweep: str) -> Path:
    return storage.sweeps / f"{sweep}-optuna.log"


def _search(config: SweepConfig, storage: Storage, sweep: str, threads: int) -> Search | None:
    """Open the search of a sweep whose trials are chosen while it runs; None for another."""
    if config.sweep.search != "optuna" or config.sweep.max_trials is None:
        return None
    planner = Planner(config, sweep, threads)
    return Search(
        Study(_journal(storage, sweep), config),
        lambda places: planner.plan(trials_at(config, places)),
        config.sweep.max_trials,
    )


def _soup(config: RunConfig, storage: Storage, tracker: Tracker, table: SweepTable) -> Row:
    """Make the soup of a table's trials and return its row, with or without MLflow.

    Raises InputError where the weights of a checkpoint are neither in storage nor in MLflow.
    """

    def project(job: JobRecord) -> None:
        with waiting_for_mlflow("the soup"):
            tracker.project(job, table.plan.sweep)

    def fetch(sha256: str) -> Path:
        reader = MlflowReader(tracker.connection)
        return reader.download_content(config.name, table.plan.sweep, sha256)

    trials = [job.key for job in table.plan.trials]
    soup = soup_of_sweep(
        config, table.plan.sweep, trials, storage=storage, project=project, fetch=fetch
    )
    note = (
        f"{len(soup.ingredients)} of {len(soup.decisions)} checkpoints; "
        f"all of them: J&F {soup.scores['uniform_jf']:.3f}"
    )
    return table.soup(soup.sha256, note)


def _protocol(config: SweepConfig) -> str:
    """Describe the splits and the protocol of a table's scores."""
    chosen = ScoringProtocol.for_select(config.data)
    report = ScoringProtocol.for_report(config.data)
    select = f"{chosen.data.root} {chosen.describe()}"
    if report is None:
        return select
    other = "" if chosen.data.root == report.data.root else f"{report.data.root} "
    return f"{select}; report {other}{report.describe()}"


def _publish(results: Results, table: SweepTable, storage: Storage, tracker: Tracker) -> None:
    """Write results and figures to the storage folder and to the sweep's run in MLflow."""
    write_json(storage.sweeps / f"{results.sweep}-results.json", results.as_dict())
    files = table.files(results.rows, storage.sweeps)
    with waiting_for_mlflow("the table"):
        tracker.log_results(results.name, results.sweep, results.as_dict())
        tracker.log_files(results.name, results.sweep, files)


def _print(results: Results, config: SweepConfig, tracker: Tracker) -> None:
    out = screen(columns=120)
    show_sweep(results)
    chosen = [row for row in ordered(results.rows) if row.role in ("trial", "soup")]
    if chosen:
        out.print(_best(chosen[0], results.rows, config))
    out.print(results.cost())
    out.print("next:")
    for line in _next(config.name, tracker.store):
        out.print(f"  {line}")
    out.print(f"store: {tracker.store.uri}")


def _next(experiment: str, store: Store) -> list[str]:
    """List commands that go on from a sweep, as they work from this working directory."""
    default = store == locate(None, Path(STORAGE))
    at = "" if default else f" --tracking-uri {shlex.quote(store.uri)}"
    pages = f"python -m mlflow ui --host 127.0.0.1 --backend-store-uri {shlex.quote(store.uri)}"
    if store.artifacts is None:
        pages = store.uri
    elif store.file == Path(STORAGE, "mlflow.db").absolute() and Path("Makefile").is_file():
        pages = "make ui"
    return [
        f"{pages:41} look at runs, checkpoints, masks",
        f"python -m soups.greedy --runs {EXPERIMENT}{experiment}{at}",
        f"python -m orchestrator.segment --checkpoint {EXPERIMENT}{experiment}{at} "
        "--video CLIP.mp4 --mask FIRST.png --out OUT.mp4",
    ]


def _best(best: Row, rows: Sequence[Row], config: SweepConfig) -> str:
    """Name the best trial or soup; where a stem scores higher, name that and its file too."""
    split = split_file.label(config.data.select)
    said = f"best {best.role} by {split} J&F: {best.name}"
    stems = [row for row in rows if row.role == BASELINE and row.sha256 is not None]
    stem = max(stems, key=lambda row: row.scores["select"].jf, default=None)
    if stem is None or stem.scores["select"].jf <= best.scores["select"].jf:
        return said
    path = Storage(config.storage_root).checkpoint(str(stem.sha256))
    return f"{said}; {stem.name!r} scores higher: --checkpoint {path}"


def run_seeds(
    configs: Sequence[SweepConfig],
    table: SeedTable,
    out: Path,
    *,
    text: str,
    command: str,
    tracking_uri: str | None,
) -> tuple[SeedTable, bool]:
    """Run a sweep for each configuration and collect all of them in one table.

    configs: the same sweep with different seeds; out: file that has the table after every job.
    Returns the table, and whether all trials finished.
    """
    all_well = True
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
                keep=keep,
            )
        except cli.CommandFailed as failure:
            results, all_well = failure.result or {}, False
        table = table.with_run(Results.from_dict(results))
        write_json(out, table.as_dict())
        files = [out]
        if any(row.mean.role == "trial" for row in table.rows()):
            files.append(out.with_suffix(".png"))
            draw(table, files[-1])
        with waiting_for_mlflow("the table of all seeds"):
            Tracker(Connection(_store(config, tracking_uri))).log_files(
                config.name, results["sweep"], files
            )
    return table, all_well


def dry_run_seeds(
    configs: Sequence[SweepConfig], table: SeedTable, *, tracking_uri: str | None, quiet: bool
) -> Mapping[str, Any]:
    """Say what `run_seeds` would do, and how long it takes, as JSON; start and write nothing."""
    out = sys.stderr if quiet else sys.stdout
    print(f"{table.name}: {len(table.runs)} seeds are done, {len(configs)} to run", file=out)
    sweeps, times = dict[str, Mapping[str, Any]](), dict[str, float]()
    for config in configs:
        print(f"seed {config.seed}", file=out)
        sweeps[str(config.seed)] = dry_run(
            config, tracking_uri=tracking_uri, quiet=quiet, times=times
        )
    seconds = sum(sum(sweep.get("seconds", {}).values()) for sweep in sweeps.values())
    if len(sweeps) > 1:
        print(f"{'all seeds':34} about {seconds:.0f} s, {seconds / 60:.1f} min", file=out)
    return {
        "table": table.name,
        "done": sorted(table.runs),
        "seeds": sweeps,
        "seconds": seconds,
    }
