"""Train one job of a sweep, with those that it needs: no scores of other splits, soup or table."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.execution import driver
from orchestrator.execution.progress import ProgressWatcher
from orchestrator.planning.paths import located
from orchestrator.planning.plan import job_alone
from orchestrator.prepared import plan_of, ready, search_of, store_of, take_up
from orchestrator.tracking.delivery import Delivery, copy_jobs, patiently
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_store import Connection, waiting_for_mlflow
from orchestrator.tracking.mlflow_writer import Tracker
from orchestrator.tracking.storage import Storage
from vosmodels.errors import InputError
from vosmodels.support import cli


def run(
    config: SweepConfig, name: str, *, tracking_uri: str | None, quiet: bool
) -> Mapping[str, Any]:
    """Run the job of a sweep with that name or key, unless it is done; the sweep finds it done.

    quiet: print nothing on stdout. Raises CommandFailed where the job or one that it needs failed
    or MLflow lacks something,
    InputError where the sweep has no such job, and what `pipeline.run` raises beforehand.
    """
    storage, sweep = Storage(config.storage_root, config.remote), sweep_id(config)
    named = located(config)
    config = ready(named, tracking_uri)
    take_up(storage)
    drawn = plan_of(config, storage, sweep)
    search = search_of(config, storage, sweep, drawn.jobs[0].threads, begin=False)
    whole = search.plan(drawn) if search else drawn
    plan = job_alone(whole, name)
    ledger = Ledger.of(storage)
    ledger.pull([job.key for job in whole.jobs], anew=True)
    driver.memory_of(plan, config, storage, driver.nodes_of(config, storage)).check()
    with driver.sweep_lock(storage, sweep) as held:
        tracker = Tracker(Connection(store_of(config, tracking_uri)))
        tracker.open_sweep(named, sweep)
        tracker.kill_orphans(ledger, config.name)
        watch = ProgressWatcher(plan.jobs, ledger, lambda record: tracker.project(record, sweep))
        delivery = Delivery(config.name, sweep, tracker.store.uri, "KILLED", watch.keys)

        def deliver(status: str) -> list[str]:
            problems = copy_jobs(delivery, storage, tracker)
            tracker.kill_orphans(ledger, config.name)
            tracker.close_sweep(config.name, sweep, status=status)
            return problems

        ended = False
        try:
            with watch:
                outcome = driver.execute(plan, config, storage, held=held)
            done = all(ledger.job(job.key).state == "done" for job in whole.jobs)
            status = "FINISHED" if done else "FAILED"
            try:
                lacking = patiently(partial(deliver, status), tracker.store)
            except InputError as error:
                lacking = [f"{error}; run the same command again to show there what was recorded"]
            ended = True
        finally:
            if not ended:
                with waiting_for_mlflow("how the job ended"):
                    deliver("KILLED")
    (job,) = [job for job in plan.jobs if name in (job.name, job.key)]
    record = ledger.job(job.key)
    checkpoints = [
        {"step": made.step, "sha256": made.sha256, "scores": dict(made.scores)}
        for made in record.checkpoints()
    ]
    result = {"job": job.name, "key": job.key, "state": record.state, "checkpoints": checkpoints}
    for failure in outcome.failures:
        for line in failure.lines("the same command"):
            print(line, file=sys.stderr)
    for line in lacking:
        print(f"failed: {line}", file=sys.stderr)
    if outcome.failures or lacking:
        raise cli.CommandFailed(result)
    if not quiet:
        print(f"{job.name}: {record.state}, {len(checkpoints)} checkpoints under {storage.root}")
    return result
