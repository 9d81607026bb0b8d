"""Run a sweep of many stubbed trials under the real driver, Ray and MLflow, and measure the driver.

`python -m tests.integration.many_trials 200 FOLDER` prints JSON. A stubbed job trains and scores
nothing: it writes the lines and the checkpoint of a small job. Driver, Tune, ledger, progress and
the copy to MLflow are the product's.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

import psutil
import torch

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.execution import driver, ray_workers
from orchestrator.execution.progress import ProgressWatcher
from orchestrator.planning.paths import located
from orchestrator.planning.plan import plan_sweep
from orchestrator.tracking import events
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_store import Connection, locate
from orchestrator.tracking.mlflow_writer import Tracker
from orchestrator.tracking.storage import Storage
from vosmodels import checkpoint

STEPS = 20  # of a trial, with a line of losses and of speed each


def config_of(trials, folder):
    """A sweep of so many trials on two cores."""
    return SweepConfig.model_validate(
        {
            "name": "many",
            "data": {"select_height": 64, "select_stride": 4},
            "student": {"name": "mobilevos_mobilenetv2_noaspp"},
            "teacher": {"steps": STEPS},
            "stem": {"steps": STEPS},
            "train": {"steps": STEPS, "checkpoint_every": STEPS, "crop": 64},
            "sweep": {"parameters": {"loss.omega": [n / trials for n in range(trials)]}},
            "cluster": {"threads": 1},
            "storage": str(folder),
        }
    )


def stub(config, *, storage):
    """Stand in for `ray_workers._run_in_process`."""
    from ray import tune

    from orchestrator.execution.tune_hooks import SCORE, STEP, TASK

    for job in config[TASK].jobs:
        record = Ledger(storage.root).job(job.key)
        with record.claim():
            write_lines(record, job, storage)
        tune.report({STEP: job.steps, SCORE: 0.5})
    tune.report({"ended": 1})


def write_lines(record, job, storage):
    """Write what a job of STEPS steps and one checkpoint has in its ledger."""
    record.write(
        events.Started(
            role=job.role,
            name=job.name,
            sweep=job.sweep,
            experiment=job.config.name,
            config=job.config.model_dump(mode="json"),
        )
    )
    for step in range(1, STEPS + 1):
        record.write(events.Losses(step=step, values={"total": 1.0, "ce": 0.5, "repr": 0.5}))
        record.write(events.Speed(step=step, values={"samples_per_s": 4.0, "data_wait": 0.1}))
    scores = {"j": 0.5, "f": 0.5, "jf": 0.5}
    info = checkpoint.CheckpointInfo("stub", {"job": job.key}, None, STEPS, scores)
    path, sha256 = checkpoint.write(storage.checkpoints, {"weight": torch.ones(1000)}, info)
    inside = path.relative_to(storage.root).as_posix()
    videos = {f"video-{n:02d}": {"j": 0.5, "f": 0.5, "objects": 2} for n in range(12)}
    record.write(
        events.Checkpoint(step=STEPS, sha256=sha256, path=inside, scores=scores, sequences=videos)
    )
    record.write(events.Done(seconds=1.0, peak_mib=1.0))


def measure(trials, folder):
    """Run the sweep; return a line for each look at it, of seconds, jobs done, MiB and CPU."""
    config, storage = config_of(trials, folder), Storage(folder)
    plan = plan_sweep(located(config), sweep_id(config), threads=1)
    tracker = Tracker(Connection(locate(None, folder)))
    tracker.open_sweep(config, plan.sweep, "")
    ledger, ended, looks = Ledger(folder), threading.Event(), []
    driver_process, polls, copied = psutil.Process(), [], set()

    def project(record):
        tracker.project(record, plan.sweep)
        if record.state == "done":
            copied.add(record.key)

    def look():
        while not ended.wait(1.0):
            done = sum(ledger.job(job.key).state == "done" for job in plan.jobs)
            cpu = driver_process.cpu_times()
            mib = driver_process.memory_info().rss / 2**20
            looks.append((time.monotonic(), done, mib, cpu.user + cpu.system, len(copied)))

    class Watch(ProgressWatcher):
        def _poll(self):
            began = time.thread_time()
            super()._poll()
            polls.append((len(self._done), time.thread_time() - began))

    ray_workers._run_in_process = stub
    looker = threading.Thread(target=look)
    looker.start()
    try:
        with Watch(plan.jobs, ledger, project):
            ran = driver.execute(plan, config, storage)
        polls.pop()
    finally:
        ended.set()
        looker.join()
    left = [record.key for record in map(ledger.job, (j.key for j in plan.jobs))]
    left = [key for key in left if ledger.job(key).state != "done"]
    return {"failures": len(ran.failures), "left": left, "looks": looks, "polls": polls}


if __name__ == "__main__":
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    json.dump(measure(int(sys.argv[1]), Path(sys.argv[2])), sys.stdout)
