"""Copy MLflow databases for tests.

One is made per process, which takes seconds.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.config import RunConfig, SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.config.sections import SweepSection
from orchestrator.planning.trials import trials
from orchestrator.tracking.events import Checkpoint, Done, Losses, Started
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.mlflow_names import OPENED, ROLE
from orchestrator.tracking.mlflow_store import Connection, Store, locate
from orchestrator.tracking.mlflow_writer import Tracker

# mlflow 3.17 on SQLAlchemy 2.1: its own use of a loader strategy that will go away.
WARNING = "ignore:The ``noload`` loader strategy:DeprecationWarning"


@functools.cache
def _template() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="mlflow-template-")
    Connection(Store(f"sqlite:///{folder.name}/mlflow.db", Path(folder.name)))
    return folder


def empty_store(storage: Path) -> Store:
    """A new store in `storage`, as Connection would make it there."""
    storage.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(_template().name) / "mlflow.db", storage / "mlflow.db")
    return locate(f"sqlite:///{storage / 'mlflow.db'}", storage)


def empty_tracker(storage: Path) -> Tracker:
    """The tracker of a new store in `storage`."""
    return Tracker(Connection(empty_store(storage)))


def sweep_config(storage: Path, name: str = "omega", seed: int = 0) -> SweepConfig:
    run = RunConfig(name=name, storage=str(storage), seed=seed)
    section = SweepSection(parameters={"loss.omega": [0.0, 1.0]})
    return SweepConfig(**dict(run), sweep=section)


def trial_job(
    ledger: Ledger, config: SweepConfig, index: int, key: str
) -> tuple[JobRecord, Started]:
    """A job of the sweep's trial, and the event it starts with."""
    trial = trials(config)[index]
    return ledger.job(key), Started(
        role="trial",
        name=trial.name,
        sweep=sweep_id(config),
        config=trial.config.model_dump(mode="json"),
        ancestor="stem",
        experiment=config.name,
        time=1000.0,
    )


def sha_of(label: str) -> str:
    """The sha256 of the file that `checkpoint_of` writes for a label."""
    return hashlib.sha256(f"weights {label}".encode()).hexdigest()


def checkpoint_of(storage: Path, step: int, label: str, jf: float) -> Checkpoint:
    """A checkpoint event with a file behind it, of text that names its label."""
    sha256 = sha_of(label)
    path = storage / "checkpoints" / f"{sha256}.safetensors"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"weights {label}")
    scores = {"j": jf - 0.01, "f": jf + 0.01, "jf": jf}
    return Checkpoint(step, sha256, f"checkpoints/{path.name}", scores, ancestor="stem")


def finished_trial(
    ledger: Ledger, config: SweepConfig, index: int, key: str, scores: Sequence[float]
) -> JobRecord:
    """A trial with one checkpoint per score, at steps 10, 20, ..."""
    job, started = trial_job(ledger, config, index, key)
    with job.claim():
        job.write(started)
        for number, jf in enumerate(scores, 1):
            job.write(Losses(number * 10, {"total": 1 / number, "grad_norm": 2.0}))
            job.write(checkpoint_of(ledger.storage, number * 10, f"{key}{number}", jf))
        job.write(Done(5.0, 300.0))
    return job


def show_sweep(
    tracker: Tracker,
    ledger: Ledger,
    trained: Mapping[str, Sequence[float]],
    *,
    name: str = "omega",
    seed: int = 0,
) -> SweepConfig:
    """A sweep with its first trials finished, in the ledger and in MLflow.

    trained: scores of each one's checkpoints by job key.
    """
    config = sweep_config(ledger.storage, name, seed)
    tracker.open_sweep(config, sweep_id(config))
    for index, (key, scores) in enumerate(trained.items()):
        tracker.project(finished_trial(ledger, config, index, key, scores))
    return config


def contents(tracker: Tracker, experiment: str = "omega") -> dict[str, Any]:
    """Everything MLflow has of an experiment, read with its own client, ids and times left out.

    By name; a name that two jobs' runs have is an error.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracker.store.uri)
    ident = client.get_experiment_by_name(experiment).experiment_id
    names: dict[str, str] = {}
    found: dict[str, Any] = {"models": {}}
    runs = client.search_runs([ident])
    for run in runs:
        assert run.info.run_name not in names.values() or run.data.tags[ROLE] == "sweep"
        names[run.info.run_id] = run.info.run_name
    models = client.search_logged_models([ident])
    model_names = {model.model_id: model.name for model in models}
    for run in runs:
        outputs = run.outputs.model_outputs if run.outputs else []
        found[run.info.run_name] = {
            "status": run.info.status,
            "params": run.data.params,
            "parent": names.get(run.data.tags.get("mlflow.parentRunId")),
            "tags": {
                k: v for k, v in run.data.tags.items() if k.startswith("vos.") and k != OPENED
            },
            "outputs": sorted((model_names[o.model_id], o.step) for o in outputs),
            "history": {
                key: sorted(
                    (m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)
                )
                for key in run.data.metrics
            },
            "artifacts": sorted(a.path for a in client.list_artifacts(run.info.run_id))
            + sorted(a.path for a in client.list_artifacts(run.info.run_id, "images")),
        }
    for model in models:
        found["models"][model.name] = {
            "status": str(model.status),
            "tags": {k: v for k, v in model.tags.items() if k.startswith("vos.")},
            "run": names[model.source_run_id],
            "metrics": sorted(
                (m.key, m.value, m.step, m.dataset_name) for m in model.metrics or ()
            ),
        }
    return found
