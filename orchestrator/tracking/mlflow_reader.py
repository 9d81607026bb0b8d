"""What can be found in MLflow: experiments, sweeps, checkpoints, files.

The other way round from `tracking`, which put them there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.config import RunConfig
from orchestrator.tracking import mlflow_names
from orchestrator.tracking.events import Role
from orchestrator.tracking.mlflow_names import OPENED, SWEEP, CheckpointRecord
from orchestrator.tracking.mlflow_store import Connection
from vosmodels.errors import InputError


class Catalogue:
    """Finds what sweeps left in one MLflow store; writes nothing."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.store = connection.store
        self._client = connection.client

    def find_experiment(self, name: str) -> str:
        """Name of the experiment called `name`, else of the one with that id; InputError with the
        store and the names in it where there is none."""
        return str(self._connection.experiment(name).name)

    def newest_sweep(self, experiment: str) -> str:
        """Id of the sweep that was opened last; InputError where the experiment has none."""
        experiment_id = self._connection.experiment(experiment).experiment_id
        runs = self._connection.sweeps(experiment_id)
        if not runs:
            raise InputError(f"{self.store.uri}: no sweep in experiment {experiment!r} yet")
        newest = max(runs, key=lambda run: float(run.data.tags.get(OPENED, 0)))
        return str(newest.data.tags[SWEEP])

    def config_of(self, experiment: str, sweep: str) -> RunConfig:
        """The resolved configuration of a sweep, as `open_sweep` kept it."""
        return RunConfig.model_validate(self._kept(experiment, sweep, "config.json"))

    def results_of(self, experiment: str, sweep: str) -> Mapping[str, Any]:
        """A sweep's results, as `log_results` kept them."""
        return self._kept(experiment, sweep, "results.json")

    def checkpoints(
        self, experiment: str, sweep: str | None = None, roles: Sequence[Role] = ("trial",)
    ) -> list[CheckpointRecord]:
        """READY checkpoints of these roles that `sweep` (None: the newest) trained or used, by key
        and step."""
        experiment_id = self._connection.experiment(experiment).experiment_id
        sweep = sweep or self.newest_sweep(experiment)
        models = [
            model for model in self._connection.models(experiment_id) if model.status == "READY"
        ]
        found = [record for model in models if (record := mlflow_names.record(model))]
        mine = [r for r in found if r.role in roles and sweep in r.sweeps]
        return sorted(mine, key=lambda r: (r.key, r.step))

    def best_checkpoint(self, experiment: str, sweep: str | None = None) -> CheckpointRecord:
        """The highest select J&F among trials and soups; ties by sha256."""
        found = self.checkpoints(experiment, sweep, ("trial", "soup"))
        scored = [record for record in found if "jf" in record.scores]
        if not scored:
            raise InputError(
                f"{self.store.uri}: no scored checkpoint in experiment {experiment!r} yet; "
                "run its sweep to the end"
            )
        return min(scored, key=lambda record: (-record.scores["jf"], record.sha256))

    def model(self, model_id: str) -> CheckpointRecord:
        """The checkpoint behind models:/ID; InputError where the store has none of ours."""
        from mlflow.exceptions import MlflowException

        try:
            record = mlflow_names.record(self._client.get_logged_model(model_id))
        except MlflowException as error:
            raise InputError(f"{self.store.uri}: models:/{model_id}: {error.message}") from None
        if record is None:
            raise InputError(f"{self.store.uri}: models:/{model_id} is no checkpoint of ours")
        return record

    def download(self, record: CheckpointRecord) -> Path:
        """The checkpoint as a local file: in place where the store is local, else a copy."""
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        place = f"{record.artifact_uri}/{record.sha256}.safetensors"
        try:
            path = Path(download_artifacts(artifact_uri=place, tracking_uri=self.store.uri))
        except (MlflowException, OSError) as error:
            raise InputError(f"{place}: the file of {record.name} cannot be had: {error}") from None
        return path

    def _kept(self, experiment: str, sweep: str, name: str) -> Mapping[str, Any]:
        """A JSON file of a sweep's parent run; InputError where there is none."""
        from mlflow.exceptions import MlflowException

        experiment_id = self._connection.experiment(experiment).experiment_id
        runs = self._connection.sweeps(experiment_id, sweep)
        if not runs:
            raise InputError(f"{self.store.uri}: no sweep {sweep!r} in experiment {experiment!r}")
        try:
            path = self._client.download_artifacts(runs[0].info.run_id, name)
            value: Mapping[str, Any] = json.loads(Path(path).read_text())
        except (MlflowException, OSError) as error:
            raise InputError(
                f"{self.store.uri}: sweep {sweep} of {experiment!r} has no {name} yet ({error}); "
                "let it run to its end"
            ) from None
        return value
