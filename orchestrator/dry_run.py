"""Say what a sweep would do, from one seed or several: jobs, memory, time. Starts nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.execution import driver
from orchestrator.execution.forecast import done_steps, forecast
from orchestrator.execution.labelling import labels_of_plan
from orchestrator.execution.last_run import new_trials
from orchestrator.execution.older_code import older_code
from orchestrator.planning.paths import located
from orchestrator.planning.plan import Plan
from orchestrator.planning.preflight import Missing
from orchestrator.planning.trials import trials
from orchestrator.prepared import plan_of, ready, search_of
from orchestrator.reporting.seeds import SeedTable
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from vosmodels.support import cli
from vosmodels.support.grid import screen

PARTS = {  # of a forecast, in words
    "labels": "segmenting videos for labels",
    "teacher": "training the teacher",
    "stem": "training the stem",
    "trial": "training the trials",
    "scoring": "scoring checkpoints and rows",
    "soup": "scoring candidates of the soup",
    "barriers": "barriers in the soup, at most",
}


def show(
    config: SweepConfig,
    *,
    tracking_uri: str | None,
    quiet: bool,
    rerun_changed: bool = False,
    times: dict[str, float] | None = None,
) -> Mapping[str, Any]:
    """Print and return the jobs that `pipeline.run` would run, without starting or writing any.

    times: as `forecast` takes them. Absent data and weights are told, as another machine may have
    them. Raises CommandFailed where those that are here cannot be used, InputError where the
    machine lacks the memory.
    """
    storage = Storage(config.storage_root)
    out = screen(stderr=quiet)
    try:
        sweep = sweep_id(config)
        config = ready(located(config), tracking_uri)
        plan = plan_of(config, storage, sweep)
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
    ledger = Ledger.of(storage)
    if config.sweep.search == "optuna":
        plan = _with_asked(plan, config, storage, sweep)
        out.print("trials that are new are drawn at random here: Optuna chooses them as it learns")
    states: dict[str, str] = {job.name: ledger.job(job.key).state for job in plan.jobs}
    older = older_code(plan, storage)
    again = older.again if rerun_changed else ()
    states |= {job.name: "again" for job in again}
    for job in plan.jobs:
        done = 0 if states[job.name] in ("done", "again") else done_steps(job, storage)
        steps = f"{job.steps} steps" if not done else f"from step {done} of {job.steps}"
        out.print(f"{job.role:8} {job.name:36} {steps:>12}  {states[job.name]:8} {job.key}")
    for line in filter(None, [new_trials(plan, config, storage), *older.lines(rerun_changed)]):
        out.print(line)
    nodes = driver.nodes_of(config)
    left = driver.unfinished(plan.trials, storage, again) or plan.trials
    groups = driver.groups_of(left, config, nodes, left[0].threads, config.students)
    students = max(map(len, groups))
    placement = driver.placement(config, nodes, len(groups), left[0].threads)
    at = config.cluster.address or "this machine"
    out.print(f"runs {driver.describe(placement, students)} on {at}")
    memory = driver.memory_of(plan, config, storage, nodes, again)
    out.print(memory.describe())
    memory.check()
    for line in labels_of_plan(plan, storage):
        out.print(line)
    estimate = forecast(plan, config, storage, placement, times, students, again)
    for part, seconds in estimate.seconds.items():
        out.print(f"{PARTS.get(part, part):34} about {seconds:.0f} s")
    if len(estimate.seconds) > 1:
        total = sum(estimate.seconds.values())
        out.print(f"{'in all':34} about {total:.0f} s, {total / 60:.1f} min")
    out.print(f"{estimate.source}; disk about {estimate.disk_mib:.0f} MiB under {storage.root}")
    return {
        "trials": [job.name for job in plan.trials],
        "states": states,
        "older_code": [job.name for job in older.older],
        "at_once": placement.at_once,
        "threads": placement.threads,
        "lockstep": students,
        "seconds": dict(estimate.seconds),
        "disk_mib": estimate.disk_mib,
        "missing": [],
    }


def show_seeds(
    configs: Sequence[SweepConfig],
    table: SeedTable,
    *,
    tracking_uri: str | None,
    quiet: bool,
    rerun_changed: bool = False,
) -> Mapping[str, Any]:
    """Say what `pipeline.run_seeds` would do and how long it takes; start and write nothing."""
    out = sys.stderr if quiet else sys.stdout
    print(f"{table.name}: {len(table.runs)} seeds are done, {len(configs)} to run", file=out)
    sweeps, times = dict[str, Mapping[str, Any]](), dict[str, float]()
    for config in configs:
        print(f"seed {config.seed}", file=out)
        sweeps[str(config.seed)] = show(
            config,
            tracking_uri=tracking_uri,
            quiet=quiet,
            rerun_changed=rerun_changed,
            times=times,
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


def _with_asked(plan: Plan, config: SweepConfig, storage: Storage, sweep: str) -> Plan:
    """Put the trials that a search has asked for before those that were drawn in its place."""
    search = search_of(config, storage, sweep, plan.jobs[0].threads, begin=False)
    known = search.plan(plan).trials if search else ()
    left = max(0, len(plan.trials) - len(known))
    drawn = [job for job in plan.trials if job.key not in {job.key for job in known}]
    return replace(plan, trials=(*known, *drawn[:left]), points=())
