"""Read a YAML file into a typed, frozen configuration, or list its problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.config import errors, sweep_checks
from orchestrator.config.document import ConfigError, Document, read, with_keys
from orchestrator.config.sections import NOT_SWEPT, Config, RunConfig, SweepConfig
from orchestrator.config.stages import STAGE_KEYS


def load(path: Path | str, overrides: Sequence[str] = ()) -> SweepConfig:
    """Read the sweep in a YAML file.

    Raises ConfigError with every problem of the file, those of each grid point included.
    """
    document = _read(path, overrides)
    problems = []
    if "sweep" not in document.values:
        problems.append(
            f"{path}: sweep: missing; a sweep needs `sweep: {{parameters: {{key: [values]}}}}`, "
            f"one job runs with: python -m orchestrator.train {path}"
        )
        document.values["sweep"] = {"parameters": {}}  # else the schema reports it again
    else:
        problems = sweep_checks.of_grid(document, RunConfig, NOT_SWEPT)
    return _validate(SweepConfig, document, problems)


def load_run(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """Read the single job in a YAML file. Raises ConfigError on a sweep, too."""
    document = _read(path, overrides)
    problems = []
    if document.values.pop("sweep", None) is not None:
        problems.append(
            f"{document.place(('sweep',))}: sweep: this is a sweep, not one job; "
            f"run it with: python -m orchestrator.sweep {path}"
        )
    return _validate(RunConfig, document, problems)


def changed(config: RunConfig, values: Mapping[str, Any], place: str) -> RunConfig:
    """Copy a run with dotted keys changed.

    place: where the values come from, for messages. Raises ConfigError as `load` does.
    """
    document = Document(Path(place), with_keys(config.model_dump(), values))
    return _validate(RunConfig, document, [])


def run_of(config: SweepConfig) -> RunConfig:
    """Return what a sweep keeps of its configuration: resolved, without what varies.

    The storage folder is absolute, because the configuration is read from anywhere.
    """
    values = dict(resolve(config)) | {"storage": str(config.storage_root)}
    return RunConfig(**{key: value for key, value in values.items() if key != "sweep"})


def resolve(config: Config) -> Config:
    """Fill the nulls of `stem` from `train`; stages leave no nulls to fill."""
    if config.stages is not None:
        return config
    stem, train = config.stem, config.train
    values = {
        key: getattr(stem, key) or getattr(train, key) for key in ("batch_size", "crop", "lr")
    }
    return config.model_copy(update={"stem": stem.model_copy(update=values)})


def _read(path: Path | str, overrides: Sequence[str]) -> Document:
    document = read(Path(path), overrides)
    document.values.setdefault("name", Path(path).stem)
    problems = sweep_checks.of_stages(document, STAGE_KEYS)
    return replace(document, problems=(*document.problems, *problems))


def _validate(model: type[Config], document: Document, problems: Sequence[str]) -> Config:
    lines = list(document.problems)
    try:
        config = model.model_validate(document.values)
    except ValidationError as error:
        lines += [errors.line(document, model, details) for details in error.errors()]
    lines += problems
    if lines:
        raise ConfigError(list(dict.fromkeys(lines)))
    return resolve(config)
