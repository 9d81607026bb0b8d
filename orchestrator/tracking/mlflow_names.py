"""Name the facts of the ledger in MLflow: tags, metrics, datasets, tables."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config import RunConfig
from orchestrator.config.content_key import digest
from orchestrator.config.data import DataConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.tracking.events import (
    Checkpoint,
    Done,
    Evaluated,
    Event,
    Gradients,
    Losses,
    Souped,
    Speed,
    Taught,
    Usage,
)
from vosmodels.data import split_file

ROLE, KEY, SWEEP, OPENED = "vos.role", "vos.key", "vos.sweep", "vos.opened"
STEP, SHA256, ANCESTOR, LABELS = "vos.step", "vos.sha256", "vos.ancestor", "vos.labels"
REPLACED = "vos.replaced"  # of a run: id of the run of the same job that was trained after it
BEST, NOTE = "vos.best", "mlflow.note.content"
SORTED = "orderByKey=metrics.%60select%2Fjf%60&orderByAsc=false&startTime=ALL"
LONGEST_NOTE = 8000  # letters of a tag that MLflow keeps
SYSTEM = "system"  # before a metric's slash: MLflow shows it on its page of system metrics
VIEW = "sweep"  # names the columns and the order in which the page of an experiment shows its runs
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"  # where MLflow's page looks them up


@dataclass(frozen=True)
class CheckpointRecord:
    """A READY checkpoint in MLflow, with its latest select scores."""

    model_id: str
    name: str
    role: str
    key: str
    step: int
    sha256: str
    ancestor: str | None
    scores: Mapping[str, float]
    sweeps: frozenset[str]
    artifact_uri: str
    job: str  # name of the job, e.g. "omega=0.2"


@dataclass(frozen=True)
class Dataset:
    """Split that scores were measured on. digest: MLflow takes 36 characters."""

    name: str
    digest: str


def model_name(job: str, step: int) -> str:
    """Name the model of a checkpoint after its job, such as omega-0_8-step-80.

    MLflow refuses / : . % and quotes in names; two sweeps may have models of one name.
    """
    text = job.replace(".", "_").replace("+", "plus")
    return f"{re.sub(r'[^A-Za-z0-9_]+', '-', text).strip('-')}-step-{step}"


def sweep_name(config: RunConfig) -> str:
    """Name the parent run of a sweep by what was asked: experiment and data."""
    root = config.data.root
    return f"{config.name}: {Path(root).name or root}"


def runs_page(experiment_id: str, *, with_view: bool = True) -> str:
    """Return the address, below that of MLflow's server, of an experiment's runs, best first.

    with_view: show the columns of VIEW_TAG, of which MLflow refuses to speak where it is not there.
    """
    shown = f"viewStateShareKey={VIEW}" if with_view else SORTED
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&{shown}"


def run_page(experiment_id: str, run_id: str) -> str:
    """Return the address of a run, below that of MLflow's server."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def view(keys: Iterable[str]) -> str:
    """Describe how MLflow shows an experiment's runs: swept keys and scores, the best first."""
    scores = ("select/jf", "select/j", "select/f", "report/jf", "train/loss_total")
    columns = [f"params.`{key}`" for key in keys] + [f"metrics.`{name}`" for name in scores]
    state = {
        "searchFilter": "",
        "orderByKey": "metrics.`select/jf`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {},
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
    }
    return json.dumps(state, separators=(",", ":"))


def sweep_tag(sweep: str) -> str:
    """Name the tag that marks a checkpoint as trained or used by a sweep."""
    return f"{SWEEP}.{sweep}"


def sweeps_of(tags: Mapping[str, str]) -> set[str]:
    """Return the sweeps that a checkpoint is tagged with."""
    prefix = sweep_tag("")
    return {tag.removeprefix(prefix) for tag in tags if tag.startswith(prefix)}


def checkpoint_record(model: Any) -> CheckpointRecord | None:
    """Read a LoggedModel; None where it lacks the tags of a checkpoint."""
    tags = model.tags
    if not {ROLE, KEY, STEP, SHA256} <= tags.keys():
        return None
    newest: dict[str, Any] = {}
    for metric in model.metrics or ():
        name = metric.key.removeprefix("select/")
        if name != metric.key and metric.timestamp >= getattr(newest.get(name), "timestamp", 0):
            newest[name] = metric
    return CheckpointRecord(
        model_id=model.model_id,
        name=model.name,
        role=tags[ROLE],
        key=tags[KEY],
        step=int(tags[STEP]),
        sha256=tags[SHA256],
        ancestor=tags.get(ANCESTOR),
        scores={name: metric.value for name, metric in newest.items()},
        sweeps=frozenset(sweeps_of(tags)),
        artifact_uri=model.artifact_location,
        job=model.params.get("job", ""),
    )


def dataset_of(metric: str, config: Mapping[str, Any]) -> Dataset | None:
    """Return the dataset of a `select/...` or `report/...` metric, None for others.

    The digest covers root, split, height, stride and rows.
    config: of the job's first start in the ledger; a report split that was named later is called
    `report`.
    """
    kind = metric.partition("/")[0]
    if kind not in ("select", "report"):
        return None
    values = dict(config["data"])
    values["report"] = values.get("report") or "report"
    data = DataConfig.model_construct(**values)  # validated before the job started
    make = ScoringProtocol.for_select if kind == "select" else ScoringProtocol.for_report
    protocol = make(data)
    assert protocol is not None  # the report split has a name here
    root = protocol.data.root
    scaled = [] if protocol.height is None else [protocol.height, protocol.stride]
    rows = [protocol.rows] if protocol.rows else []
    return Dataset(
        f"{Path(root).name or root}-{split_file.label(protocol.split)}",
        digest([root, protocol.split, [*scaled, *rows]]),
    )


def metrics_of(event: Event) -> Iterator[tuple[str, float, int]]:
    """Yield (metric, value, step) of any event but a checkpoint.

    J&F is named `jf`, since MLflow refuses `&`. What stands before the slash heads a section of
    charts, and sections are sorted by it: scores and losses come before gradients and costs.
    """
    if isinstance(event, Losses):
        for name, value in event.values.items():
            whole = name if name in ("grad_norm", "ignored") else f"loss_{name}"
            yield f"train/{whole}", value, event.step
    elif isinstance(event, Taught):
        yield "train_labels/videos", float(event.videos), 0
        if event.ignored is not None:
            yield "train_labels/ignored", event.ignored, 0
    elif isinstance(event, Speed):
        for name, value in event.values.items():
            yield f"speed/{name}", value, event.step
    elif isinstance(event, Gradients):
        for name, value in event.norms.items():
            yield f"train_gradients/{name}", value, event.step
    elif isinstance(event, Usage):
        for name, value in event.values.items():
            yield f"{SYSTEM}/{name}", value, event.step
    elif isinstance(event, Evaluated):
        for name, value in event.scores.items():
            yield ("speed/fps" if name == "fps" else f"{event.split}/{name}"), value, event.step
    elif isinstance(event, Souped):
        for name, value in event.scores.items():
            yield f"soup/{name}", value, 0
    elif isinstance(event, Done):
        yield "usage/seconds", event.seconds, 0
        yield "usage/peak_mib", event.peak_mib, 0


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested sections to dotted parameters with text values.

    A list of sections becomes its length and one parameter per index and key.
    """
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        elif isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
            flat[f"{prefix}{key}"] = str(len(value))
            flat.update(
                flatten({str(n): entry for n, entry in enumerate(value)}, f"{prefix}{key}.")
            )
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def flat_row(row: Mapping[str, Any]) -> dict[str, object]:
    """Flatten a row of results: scores become columns, deeper levels are dropped."""
    flat: dict[str, object] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat.update({f"{key} {k}": v for k, v in value.items() if isinstance(v, float)})
        elif isinstance(value, str | int | float | None):
            flat[key] = value
    return flat


def csv_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Write rows as CSV with a header, which MLflow's page shows as a table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(k for row in rows for k in row)))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def checkpoint_metrics(event: Checkpoint) -> Iterator[tuple[str, float]]:
    """Yield (metric, value) of a checkpoint's select scores."""
    for name, value in event.scores.items():
        yield f"select/{name}", value
