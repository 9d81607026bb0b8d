"""CPU seconds that copying the ledger to MLflow takes beside training, of those of its steps.

`python -m tests.benchmarks.upload` trains a trial in a process of its own, as a sweep does:
`stcn_mobilenetv2` teaches `mobilevos_mobilenetv2_noaspp` on generated clips, 4 of 3 frames of
192x192, with a checkpoint every 20 steps, five times as many as by default. This process follows
its ledger and copies it to a real MLflow server on this machine. A round is a stretch of time in
which the CPU seconds of the job's processes, of the thread that copies and of the server's
processes are counted. Scores, of tiny frames, are of the job.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.config.sections import SweepSection
from orchestrator.execution.copying import Copier
from orchestrator.execution.usage import cpu_seconds
from orchestrator.planning import calibration
from orchestrator.planning.paths import located
from orchestrator.planning.plan import Job, Plan, plan_sweep
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.mlflow_store import Connection
from orchestrator.tracking.mlflow_writer import Tracker
from tests.benchmarks.rounds import Claim, Timing, parsed, report
from tests.execution.one_job import in_turn
from tests.mlflow_server import Server

MODULE = "tests.benchmarks.upload"
PERCENT = 3.0  # of the job's CPU seconds, at most
ROUND_S = 20.0
EVERY = 20  # steps between two checkpoints
NEVER = 10**6  # steps
START_S = 600.0  # within which the trial makes its first steps


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 where every claim holds, else 1."""
    args = parsed(MODULE, argv, count=5)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        plan = plan_on(root / "results")
        with Server(root / "server") as server:
            timings, models = measure(plan, root / "results", server, args.rounds)
    print(f"{models} checkpoints copied")
    cpu = {name: sum(timing.cpu) for name, timing in timings.items()}
    claims = [
        Claim(f"{name}: % of the job's CPU seconds", 100 * cpu[name] / cpu["job"], PERCENT, True)
        for name in ("copying", "server")
    ]
    return 0 if report("upload", args.command, timings, claims, out=args.out) else 1


def plan_on(storage: Path) -> Plan:
    """Plan a sweep of one trial that never ends, from a teacher and a stem that hardly begin."""
    config = SweepConfig.model_validate(
        {
            "name": "upload",
            "storage": str(storage),
            "data": {"select_height": 32, "select_stride": 7, "max_objects": 1},
            "student": {"name": "mobilevos_mobilenetv2_noaspp"},
            "teacher": {"name": "stcn_mobilenetv2", "steps": 1},
            "stem": {"steps": 1, "batch_size": 2, "crop": 64, "lr": 1e-4},
            "train": {"steps": NEVER, "checkpoint_every": EVERY, "batch_size": 4}
            | {"clip_length": 3, "crop": 192},
            "sweep": {"parameters": {"loss.omega": [0.95]}},
        }
    )
    plan = plan_sweep(located(config), sweep_id(config), threads=1)
    return replace(plan, trials=plan.trials[:1])


def measure(
    plan: Plan, storage: Path, server: Server, count: int
) -> tuple[Mapping[str, Timing], int]:
    """Count CPU seconds by round; return them and the number of checkpoints that were copied.

    Raises RuntimeError where the job ends by itself.
    """
    ledger, tracker = Ledger(storage), Tracker(Connection(server.store))
    (trial,) = plan.trials
    section = SweepSection(parameters={"loss.omega": [0.95]})
    tracker.open_sweep(SweepConfig(**dict(trial.config), sweep=section), plan.sweep)
    context = multiprocessing.get_context("spawn")
    job = context.Process(target=train, args=(plan.jobs, storage), daemon=True)
    job.start()
    assert job.pid is not None
    copier = Copier(
        [each.key for each in plan.jobs], ledger, lambda r: tracker.project(r, plan.sweep)
    )
    try:
        with copier:
            record = ledger.job(trial.key)
            _wait_for_steps(record, job.is_alive)
            clocks: dict[str, Callable[[], float]] = {
                "job": lambda: cpu_seconds(job.pid),
                "copying": lambda: of_thread(copier.thread),
                "server": lambda: cpu_seconds(server.pid),
            }
            timings = {name: Timing([], []) for name in clocks}
            before, models = len(record.checkpoints()), 0
            for _ in range(count):
                wall, cpu = time.perf_counter(), {n: clock() for n, clock in clocks.items()}
                time.sleep(ROUND_S)
                for name, clock in clocks.items():
                    timings[name].cpu.append(clock() - cpu[name])
                    timings[name].wall.append(time.perf_counter() - wall)
                if not job.is_alive():
                    raise RuntimeError("the job ended before its rounds did")
            models = len(record.checkpoints()) - before
    finally:
        job.kill()
        job.join()
    return timings, models


def train(jobs: Sequence[Job], storage: Path) -> None:
    """Train jobs in turn, from statistics of one batch: what precedes the steps does not count."""
    calibration.BATCHES = 1
    in_turn(jobs, storage)


def _wait_for_steps(record: JobRecord, alive: Callable[[], bool]) -> None:
    ends = time.monotonic() + START_S
    while not record.losses():
        if not alive() or time.monotonic() > ends:
            raise RuntimeError(f"no step in {START_S:.0f} s, or the job ended")
        time.sleep(0.5)


def of_thread(thread: threading.Thread) -> float:
    """CPU seconds of a thread of this process."""
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


if __name__ == "__main__":
    sys.exit(main())
