"""Show a sweep of omega in a store without training: its jobs, its table, its figures."""

from __future__ import annotations

from dataclasses import replace

from orchestrator import outcome
from orchestrator.planning.paths import located
from orchestrator.planning.plan import plan_sweep
from orchestrator.reporting.results import Row
from orchestrator.reporting.split_scores import SplitScores
from orchestrator.reporting.sweep_table import SweepTable
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_writer import Tracker
from orchestrator.tracking.storage import Storage
from tests.stores import finished_trial, sweep_config
from tests.tables import run


def row(name: str, role: str, jf: float, sha256: str | None = None) -> Row:
    return Row(name, role, {"select": SplitScores(jf, jf, jf)}, sha256=sha256)


def publish_omega(tracker: Tracker, ledger: Ledger) -> list[str]:
    """Publish sweep `s1` of omega 0 and 1, whose trials another sweep has trained.

    Returns what is said of that which MLflow lacks.
    """
    config, storage = sweep_config(ledger.storage), Storage(ledger.storage)
    plan = replace(plan_sweep(located(config), "s1", threads=1), teacher=None)
    tracker.open_sweep(config, "s1")
    for number, (job, jf) in enumerate(zip(plan.trials, (0.4, 0.681), strict=True)):
        finished_trial(ledger, config, number, job.key, [jf])
    rows = [row("omega=0.0", "trial", 0.4), row("omega=1.0", "trial", 0.681)]
    table = SweepTable(plan, config, storage)
    return outcome.publish(
        run(name="omega", sweep="s1", rows=rows),
        table,
        config,
        storage,
        tracker,
        jobs=[job.key for job in plan.trials],
        soup_key=None,
        status="FINISHED",
    )
