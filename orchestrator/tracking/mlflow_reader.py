"""Read experiments, sweeps, checkpoints and files back from MLflow.

`mlflow_writer` writes what this module reads.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.config import RunConfig
from orchestrator.tracking import mlflow_names
from orchestrator.tracking.events import Role
from orchestrator.tracking.mlflow_names import KEY, OPENED, SHA256, SWEEP, CheckpointRecord
from orchestrator.tracking.mlflow_store import Connection
from vosmodels.errors import InputError, UsageError
from vosmodels.support.atomic_files import read_json
from vosmodels.support.digests import check_file, check_sha256

logger = logging.getLogger(__name__)

SHOWN = 8  # letters of a sweep's id that a line shows, as its run in MLflow does
NAMED = 4  # sweeps that a line names at most


class MlflowReader:
    """Reader of the sweeps in one MLflow store; it writes nothing."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.store = connection.store
        self._client = connection.client

    def find_experiment(self, name: str) -> str:
        """Return the name of the experiment that `name` names, by name or else by id.

        Raises InputError with the store and its experiments where neither exists.
        """
        return str(self.connection.experiment(name).name)

    def resolve(self, text: str) -> tuple[str, str]:
        """Return experiment and id of the sweep that EXPERIMENT or EXPERIMENT@SWEEP names.

        SWEEP: the first letters of its id. Without it the newest is taken, and where there are
        several, a line says so. Raises InputError where one of them does not exist.
        """
        name, at, wanted = text.rpartition("@")
        experiment = self.find_experiment(name if at else text)
        sweeps = self._sweeps(experiment)
        if at:
            found = [sweep for sweep in sweeps if wanted and sweep.startswith(wanted)]
            if len(found) != 1:
                raise InputError(
                    f"{self.store.uri}: {len(found) or 'no'} sweeps of experiment {experiment!r} "
                    f"begin with {wanted!r}; those there, the newest first: {', '.join(sweeps)}"
                )
            return experiment, found[0]
        if len(sweeps) > 1:
            others = ", ".join(f"{experiment}@{sweep[:SHOWN]}" for sweep in sweeps[1:NAMED])
            logger.info(
                "%s: sweep %s is taken, the newest of %d; others: %s",
                experiment,
                sweeps[0][:SHOWN],
                len(sweeps),
                others + (", ..." if len(sweeps) > NAMED else ""),
            )
        return experiment, sweeps[0]

    def newest_sweep(self, experiment: str) -> str:
        """Return the id of the sweep opened last. Raises InputError without any sweep."""
        return self._sweeps(experiment)[0]

    def _sweeps(self, experiment: str) -> list[str]:
        """List the ids of an experiment's sweeps, the one opened last first."""
        experiment_id = self.connection.experiment(experiment).experiment_id
        runs = self.connection.sweeps(experiment_id)
        if not runs:
            raise InputError(f"{self.store.uri}: no sweep in experiment {experiment!r} yet")
        opened = {str(r.data.tags[SWEEP]): float(r.data.tags.get(OPENED, 0)) for r in runs}
        return sorted(opened, key=lambda sweep: -opened[sweep])

    def config_of(self, experiment: str, sweep: str) -> RunConfig:
        """Read the resolved configuration that `open_sweep` logged. Raises InputError.

        Its storage is the folder of the store where that has a ledger: it may have been moved.
        """
        values = self._read_json(experiment, sweep, "config.json")
        beside = self.store.file.parent if self.store.file else None
        if beside is not None and (beside / "ledger").is_dir():
            values = {**values, "storage": str(beside)}
        return RunConfig.model_validate(values)

    def results_of(self, experiment: str, sweep: str) -> Mapping[str, Any]:
        """Read the results that `log_results` logged. Raises InputError without results."""
        return self._read_json(experiment, sweep, "results.json")

    def checkpoints(
        self, experiment: str, sweep: str | None = None, roles: Sequence[Role] = ("trial",)
    ) -> list[CheckpointRecord]:
        """List the READY checkpoints that a sweep trained or used, by key and step.

        sweep: id, None for the newest. roles: roles to list.
        Raises InputError where the experiment or a sweep in it does not exist.
        """
        experiment_id = self.connection.experiment(experiment).experiment_id
        sweep = sweep or self.newest_sweep(experiment)
        models = [
            model for model in self.connection.models(experiment_id) if model.status == "READY"
        ]
        records = [r for model in models if (r := mlflow_names.checkpoint_record(model))]
        matches = [r for r in records if r.role in roles and sweep in r.sweeps]
        return sorted(matches, key=lambda r: (r.key, r.step))

    def jobs(self, experiment: str, text: str) -> set[str]:
        """Return the keys of the jobs whose runs match a filter, as MLflow writes one.

        Raises UsageError on a filter that MLflow cannot read.
        """
        from mlflow.exceptions import MlflowException

        experiment_id = self.connection.experiment(experiment).experiment_id
        try:
            runs = self.connection.runs(experiment_id, text)
        except MlflowException as error:
            raise UsageError(
                f"filter {text!r}: {error.message}; write it as in MLflow's search of runs, such "
                "as \"params.`loss.omega` = '0.8'\""
            ) from None
        return {run.data.tags[KEY] for run in runs if KEY in run.data.tags}

    def best_checkpoint(self, experiment: str, sweep: str | None = None) -> CheckpointRecord:
        """Return the trial, soup or stem with the highest select J&F; ties by sha256.

        Raises InputError without any scored checkpoint.
        """
        records = self.checkpoints(experiment, sweep, ("trial", "soup", "stem"))
        candidates = [record for record in records if "jf" in record.scores]
        if not candidates:
            raise InputError(
                f"{self.store.uri}: no scored checkpoint in experiment {experiment!r} yet; "
                "run its sweep to the end"
            )
        return min(candidates, key=lambda record: (-record.scores["jf"], record.sha256))

    def model(self, model_id: str) -> CheckpointRecord:
        """Return the checkpoint behind models:/ID.

        Raises InputError where the store has no such model, or the model is no checkpoint.
        """
        from mlflow.exceptions import MlflowException

        try:
            record = mlflow_names.checkpoint_record(self._client.get_logged_model(model_id))
        except MlflowException as error:
            raise InputError(f"{self.store.uri}: models:/{model_id}: {error.message}") from None
        if record is None:
            raise InputError(f"{self.store.uri}: models:/{model_id} is not a checkpoint of a sweep")
        return record

    def experiment_of(self, record: CheckpointRecord) -> str:
        """Return the name of the experiment that a checkpoint is in."""
        model = self._client.get_logged_model(record.model_id)
        return str(self._client.get_experiment(model.experiment_id).name)

    def download(self, record: CheckpointRecord) -> Path:
        """Return the checkpoint as a local file: of a remote store a downloaded copy.

        Raises InputError where the file cannot be read or is not the one that was logged.
        """
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        place = f"{record.artifact_uri}/{record.sha256}.safetensors"
        try:
            path = Path(download_artifacts(artifact_uri=place, tracking_uri=self.store.uri))
        except (MlflowException, OSError) as error:
            raise InputError(f"{place}: cannot read the file of {record.name}: {error}") from None
        remedy = "take the file from the sweep's storage folder, or train it again"
        check_file(path, remedy)
        check_sha256(path, record.sha256, remedy, named_in=f"the tag {SHA256} of {record.name}")
        return path

    def download_content(self, experiment: str, sweep: str, sha256: str) -> Path:
        """Return a checkpoint of a sweep, by its content, as `download` does.

        Raises InputError where the store has no such file.
        """
        records = self.checkpoints(experiment, sweep)
        for record in records:
            if record.sha256 == sha256:
                return self.download(record)
        raise InputError(f"{self.store.uri}: no checkpoint {sha256} in sweep {sweep}")

    def _read_json(self, experiment: str, sweep: str, name: str) -> Mapping[str, Any]:
        """Read a JSON artifact of a sweep's parent run. Raises InputError without one."""
        from mlflow.exceptions import MlflowException

        experiment_id = self.connection.experiment(experiment).experiment_id
        runs = self.connection.sweeps(experiment_id, sweep)
        if not runs:
            raise InputError(f"{self.store.uri}: no sweep {sweep!r} in experiment {experiment!r}")
        run_id = runs[0].info.run_id
        try:
            if all(file.path != name for file in self._client.list_artifacts(run_id)):
                raise InputError(
                    f"{self.store.uri}: sweep {sweep} of {experiment!r} has no {name} yet; let it "
                    "run to its end"
                )
            path = self._client.download_artifacts(run_id, name)
            value: Mapping[str, Any] | None = read_json(Path(path))
            if not isinstance(value, dict):
                raise InputError(f"{path}: not a JSON object")
        except (MlflowException, OSError) as error:
            raise InputError(
                f"{self.store.uri}: {name} of sweep {sweep} of {experiment!r} cannot be read "
                f"({error}); run the same sweep again to write it"
            ) from None
        return value
