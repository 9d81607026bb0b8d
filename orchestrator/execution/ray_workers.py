"""Run jobs on Ray, a lock-step group per trial, in a process or on a TorchTrainer's workers.

`job.run` does the work, and the ledger holds the outcome.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import gc
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from orchestrator.execution import interrupts, job_log
from orchestrator.execution import job as jobs_module
from orchestrator.execution.failures import retry_can_help
from orchestrator.execution.job import OnScore
from orchestrator.execution.nodes import reachable
from orchestrator.execution.trial_source import ASHA, TrialSource
from orchestrator.planning.placement import Placement, cores
from orchestrator.planning.plan import Job
from orchestrator.tracking.storage import Storage
from orchestrator.training.distributed import Workers
from vosmodels.support.memory import return_freed_memory

if TYPE_CHECKING:
    from orchestrator.execution.halving import Halving

logger = logging.getLogger(__name__)

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ctrl-C then reaches the command (interrupts.py); Tune would exit with success.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # no panels of Tune; progress.py reports instead
    # Period of the controller's polls; the default of 2 s delays every start and end.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # the last report of a trial has no score
}
LET_GO_S = 60.0  # in which Ray ends the worker of a stopped trial, after which its claim is free
# Of a Ray that is started here: workers as nice as the command itself. Ray makes them yield to any
# other program (15), which on a machine in use slows training many times over.
NICENESS = ("RAY_worker_niceness", "0")
# Of the same: seconds in which its server (GCS) must answer again, after which all processes of Ray
# end, with a line. With Ray's 60 a server that was killed is a minute's silence.
SILENCE = ("RAY_gcs_rpc_server_reconnect_timeout_s", "20")
# Of the same: 127.0.0.1 as the address of its node, at which all its parts then listen. Else they
# do on every interface: `ray.init(_node_ip_address=)` puts the outer address in place of a loopback
# one.
LOOPBACK = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
# Of the same: the interface at which the workers of a job listen for each other (gloo).
# They find each other by a file (meeting.py).
GLOO = ("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
OF_OUR_OWN = (NICENESS, SILENCE, LOOPBACK, GLOO)


def start(
    address: str | None, *, dashboard: bool, slots: Mapping[str, int] | None = None
) -> list[dict[str, float]]:
    """Start Ray on 127.0.0.1, or attach to a cluster; return each node's resources.

    dashboard: needed for more than one worker per job, since Ray Train cleans up worker groups by
    the state API, which the dashboard serves. slots: how many tasks of a kind run at a time on
    this machine, by the name of the resource of which each asks for one.
    """
    set_environment(address)
    import ray

    quoted = shlex.quote(sys.executable)
    try:
        # An exception that breaks into Ray's start can end in a segmentation fault. Ray also puts
        # its own handler of SIGTERM in place, which exits.
        with interrupts.noted():
            if address:
                here = Path(__file__).resolve().parents[2]
                modules = [str(here / package) for package in job_log.PACKAGES]
                runtime = {"py_modules": modules, "env_vars": ENVIRONMENT}
                with reachable(address):
                    ray.init(
                        address=address,
                        runtime_env=runtime,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                    )
            else:
                ray.init(
                    address="local",  # not a cluster of $RAY_ADDRESS, or one that runs here
                    num_cpus=cores(),
                    resources=dict(slots or {}),
                    include_dashboard=dashboard,
                    dashboard_host="127.0.0.1",
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    # Ray passes the command of its workers to a shell unquoted.
                    runtime_env={"py_executable": quoted} if quoted != sys.executable else None,
                )
    except KeyboardInterrupt:
        stop()
        raise
    return [
        {key: float(node["Resources"].get(key, 0)) for key in ("CPU", "GPU")}
        for node in ray.nodes()
        if node["Alive"]
    ]


def set_environment(address: str | None) -> None:
    """Set what Ray reads when it is first imported, for a cluster's address or a Ray of our own."""
    os.environ.update(ENVIRONMENT)
    if not address:
        for name, value in OF_OUR_OWN:
            os.environ.setdefault(name, value)


def stop() -> None:
    """Detach from the cluster, or stop the Ray that `start` started."""
    import ray

    # Ray ends a process, without an error, that lets go of one of its objects while it shuts down,
    # and a collection in another thread does that at any time, as one of Ray's own threads may.
    gc.collect()
    gc.freeze()
    try:
        ray.shutdown()
    finally:
        gc.unfreeze()


def run_round(
    source: TrialSource,
    storage: Storage,
    placement: Placement,
    name: str,
    check: Callable[[], None],
    retries: int = 0,
    halving: Halving | None = None,
) -> None:
    """Run the groups of a source, `placement.at_once` side by side; the ledger has their outcomes.

    One process runs several groups in turn. Jobs whose process dies restart from their last resume
    states, `retries` times. halving: stops jobs early; None: all run to their end.
    check: called several times a second; what it raises ends the round. Raises OutOfMemory where
    Ray ended jobs for want of memory.
    """
    from ray import tune

    from orchestrator.execution.out_of_memory import out_of_memory
    from orchestrator.execution.tune_hooks import TASK, Check, Jobs, OutOfTime

    searcher = Jobs(source)
    if halving is not None:
        halving.on_stop = lambda job, step: source.stop(job, step, ASHA)
    if placement.workers == 1:
        task = tune.with_resources(
            tune.with_parameters(_run_in_process, storage=storage), placement.resources
        )
    else:
        # The trial reserves no CPU, else the reservation of its workers would never fit.
        task = tune.with_resources(
            tune.with_parameters(_run_worker_group, storage=storage, placement=placement),
            {"CPU": 0, "memory": 1024},
        )
    tuner = tune.Tuner(
        task,
        tune_config=tune.TuneConfig(
            num_samples=-1,  # until the source has no more
            search_alg=searcher,
            scheduler=halving,
            max_concurrent_trials=placement.at_once,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"{trial.config[TASK]}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(storage.tune),
            verbose=0,
            callbacks=[Check(check, source)],
            stop=OutOfTime(source, searcher),
            failure_config=tune.FailureConfig(max_failures=retries),
        ),
    )
    try:
        tuner.fit()
    except RuntimeError as error:
        if ended := out_of_memory(error):
            raise ended from error
        raise
    finally:
        source.settle(LET_GO_S)


def _run_in_process(config: Mapping[str, Any], *, storage: Storage) -> None:
    """Run a Tune trial that trains in its own process."""
    from ray import tune

    from orchestrator.execution.tune_hooks import SCORE, STEP, TASK

    jobs: Sequence[Job] = config[TASK].jobs
    device = torch.device("cuda" if jobs[0].config.cluster.gpus_per_worker else "cpu")

    def report(step: int, jf: float) -> None:
        tune.report({STEP: step, SCORE: jf})  # does not return where the trial is stopped

    _run(jobs, storage, Workers(device=device), _trial_id(), report)
    tune.report({"ended": 1})


def _run_worker_group(config: Mapping[str, Any], *, storage: Storage, placement: Placement) -> None:
    """Run a Tune trial that starts a group of train workers and waits for them."""
    from ray import train, tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    from orchestrator.execution.meeting import ByFile
    from orchestrator.execution.tune_hooks import TASK

    jobs: Sequence[Job] = config[TASK].jobs
    TorchTrainer(
        _train_worker,
        train_loop_config={"jobs": jobs, "storage": storage, "task": _trial_id()},
        torch_config=ByFile() if jobs[0].config.cluster.address is None else None,
        scaling_config=train.ScalingConfig(
            num_workers=placement.workers,
            use_gpu=placement.gpus > 0,
            resources_per_worker=placement.resources,
        ),
        run_config=train.RunConfig(
            # A new name each time: a known name would resume Train's own snapshot, not our state.
            name=f"{jobs[0].key}-{time.time_ns()}",
            storage_path=str(storage.train),
            callbacks=[TuneReportCallback()],
            failure_config=train.FailureConfig(
                max_failures=jobs[0].config.cluster.retries, controller_failure_limit=3
            ),
        ),
    ).fit()
    tune.report({"ended": 1})


def _train_worker(config: Mapping[str, Any]) -> None:
    """Run one rank of a group of workers that trains jobs together."""
    import ray.train.torch

    workers = Workers.of_process_group(ray.train.torch.get_device())
    _run(config["jobs"], config["storage"], workers, config["task"])


def _trial_id() -> str:
    """Return what Ray calls this trial, in all its attempts and in no other sweep."""
    from ray import tune

    context = tune.get_context()
    return f"{context.get_experiment_name()} {context.get_trial_id()}"


def _run(
    jobs: Sequence[Job],
    storage: Storage,
    workers: Workers,
    task: str,
    on_score: OnScore = lambda step, jf: None,
) -> None:
    """Run jobs with log files and watchdog.

    An error that would recur on a retry ends the trial in a single process as if it had succeeded;
    the ledger has the error. Among several workers it is raised.
    """
    paths = {job.key: storage.log(job.key) for job in jobs}
    if workers.rank:  # each rank above 0 has its own files
        paths = {k: path.with_suffix(f".rank{workers.rank}.log") for k, path in paths.items()}
    cluster = jobs[0].config.cluster
    storage.mirror.pull(*paths.values())
    with job_log.written_to(paths) as first:
        if len(jobs) > 1:
            names = ", ".join(job.name for job in jobs)
            logger.info("in lock-step: %s; where they stood still is told in %s", names, first.name)

        def alive() -> None:
            faulthandler.dump_traceback_later(cluster.stall_s, exit=True, file=first)

        alive()
        try:
            workers = dataclasses.replace(workers, alive=alive)
            jobs_module.run(jobs, storage, workers, on_score, task)
        except Exception as error:
            if cluster.workers > 1 or retry_can_help(error):
                raise  # among several, else the other ranks would wait for this rank
        finally:
            faulthandler.cancel_dump_traceback_later()
            return_freed_memory()
