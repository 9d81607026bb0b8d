"""Check swept keys, points and stages, each value within a whole run."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Set
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from orchestrator.config import ranges
from orchestrator.config.document import Document, with_keys
from orchestrator.config.errors import (
    RULE,
    concerns,
    list_at,
    problem,
    section_at,
    unknown_key,
)


def of_grid(document: Document, model: type[BaseModel], not_swept: Set[str]) -> list[str]:
    """List the problems of swept keys and of points.

    Each value of a swept key, of a range its ends, is validated in the run by itself, each point
    as a whole.
    """
    section = document.values["sweep"]
    parameters = section.get("parameters", {}) if isinstance(section, dict) else None
    points = section.get("points", {}) if isinstance(section, dict) else None
    if not (isinstance(parameters, dict) and isinstance(points, dict)):
        return []  # the schema reports it
    if not all(isinstance(changes, dict) for changes in points.values()):
        return []  # the schema reports this too
    base = {key: value for key, value in document.values.items() if key != "sweep"}
    of_base = _rules_broken(model, base)
    known = of_base or set()  # the schema reports them
    problems = []
    if not parameters and not points:
        problems.append(
            _at(document, "parameters", "empty; give at least one key, or sweep.points")
        )
    drawn = isinstance(section, dict) and section.get("search", "grid") != "grid"
    for key, values in parameters.items():
        path = tuple(str(key).split("."))
        place = f"parameters.{key}"
        if path in document.overridden:
            problems.append(
                f"{document.place(path)}: {key}: is swept; use sweep.parameters.{key}=[value], "
                "or leave it to the sweep"
            )
        problems += [
            _at(document, place, text)
            for text in _of_key(model, path, values, base, not_swept, known, drawn=drawn)
        ]
        problems += [
            _at(document, place, f"is also set by point {name!r}; a key varies in one place")
            for name, changes in points.items()
            if key in changes
        ]
    problems += _of_points(document, model, points, base, not_swept, known)
    if problems or of_base is None or not _is_whole(section):
        return problems
    return _of_combinations(document, model, points, parameters, base, known)


def _of_combinations(
    document: Document,
    model: type[BaseModel],
    points: Mapping[str, Mapping[str, Any]],
    parameters: Mapping[str, Any],
    base: Mapping[str, Any],
    known: Set[str],
) -> list[str]:
    """List the first trial of each rule that values break together which are valid alone."""
    problems: dict[str, str] = {}
    of_sweep, seed = document.values["sweep"], document.values.get("seed", 0)
    most = of_sweep.get("max_trials")
    search = of_sweep.get("search", "grid")
    ends = "grid" if search == "optuna" else search  # what it will ask for is not known
    places = ranges.places(model, parameters, ends, seed)
    first = itertools.islice(places, most)
    for (name, changes), swept in itertools.product((points or {"": {}}).items(), first):
        said = ", ".join(filter(None, (name, *(f"{k}={v}" for k, v in swept.items()))))
        for details in _errors(model, with_keys(base, {**changes, **swept})):
            if not _told(details, known):
                loc = tuple(str(part) for part in details["loc"])
                text = problem(model, loc, details, details["input"])
                problems.setdefault(text, _at(document, "parameters", f"{said}: {text}"))
    return list(problems.values())


def _is_whole(section: Mapping[str, Any]) -> bool:
    """Return whether the section says how its places are made; else the schema says why not."""
    search, most = section.get("search", "grid"), section.get("max_trials")
    counts = isinstance(most, int) and not isinstance(most, bool) and most > 0
    return search in ("grid", "random", "optuna") and (
        counts or (most is None and search == "grid")
    )


def _rules_broken(model: type[BaseModel], values: Mapping[str, Any]) -> set[str] | None:
    """Return what the rules say of a run; None where it is not of the schema at all."""
    errors = _errors(model, values)
    if any(details["type"] != RULE for details in errors):
        return None
    return {details["ctx"]["message"] for details in errors}


def _errors(model: type[BaseModel], values: Mapping[str, Any]) -> list[ErrorDetails]:
    """List what is wrong with a run, as pydantic tells it."""
    try:
        model.model_validate(values)
    except ValidationError as error:
        return error.errors()
    return []


def _told(details: ErrorDetails, known: Set[str]) -> bool:
    """Return whether an error is of a rule that the run breaks without its swept values."""
    return details["type"] == RULE and details["ctx"]["message"] in known


def _of_points(
    document: Document,
    model: type[BaseModel],
    points: Mapping[str, Mapping[str, Any]],
    base: Mapping[str, Any],
    not_swept: Set[str],
    known: Set[str],
) -> list[str]:
    problems = []
    runs: dict[str, BaseModel] = {}
    for name, changes in points.items():
        whole = with_keys(base, changes)
        for key, value in changes.items():
            path = tuple(str(key).split("."))
            problems += [
                _at(document, f"points.{name}.{key}", text)
                for text in _of_key(model, path, [value], whole, not_swept, known)
            ]
            if path in document.overridden and all(key in other for other in points.values()):
                problems.append(
                    f"{document.place(path)}: {key}: is set by every point of sweep.points"
                )
        try:
            run = model.model_validate(whole)
        except ValidationError:
            continue  # reported by key, above or by the schema
        twins = [other for other, theirs in runs.items() if theirs == run]
        problems += [_at(document, f"points.{name}", f"is the same run as {t!r}") for t in twins]
        runs[name] = run
    return problems


def of_stages(document: Document, keys: Iterable[str]) -> list[str]:
    """List keys of `train` and `stem`, written or swept, that `stages` sets instead."""
    if not isinstance(document.values.get("stages"), list):
        return []  # none, or the schema reports it
    sweep = document.values.get("sweep")
    swept = sweep.get("parameters") if isinstance(sweep, dict) else None
    problems = []
    for section in ("train", "stem"):
        written = document.values.get(section)
        for key in keys:
            dotted = f"{section}.{key}"
            if isinstance(written, dict) and key in written:
                path: tuple[str, ...] = (section, key)
            elif isinstance(swept, dict) and dotted in swept:
                path = ("sweep", "parameters", dotted)
            else:
                continue
            problems.append(
                f"{document.place(path)}: {'.'.join(path)}: with `stages` every stage sets its own "
                f"{key}; write it there, or take the stages out"
            )
    return problems


def _of_key(
    model: type[BaseModel],
    path: tuple[str, ...],
    values: Any,
    base: Mapping[str, Any],
    not_swept: Set[str],
    known: Set[str],
    *,
    drawn: bool = False,
) -> list[str]:
    key = ".".join(path)
    options = path[1:2] == ("options",) and len(path) > 2  # checked by the model, with its value
    if not options:
        section = section_at(model, path[:-1])
        if section is None or path[-1] not in section.model_fields:
            return [unknown_key(model, path)]
        if section_at(model, path) is not None and not list_at(section, path[-1]):
            return [f"a section cannot be swept; sweep its keys, e.g. {key}.KEY"]
    stages = base.get("stages")
    last = f"stages.{len(stages) - 1}" if isinstance(stages, list) else "stages"
    if not_swept & {key, path[0]} and ".".join(path[:2]) != last:
        exception = f" (of the stages, {last}.KEY can)" if path[0] == "stages" else ""
        return ["cannot be swept: trials of one sweep share it" + exception]
    if isinstance(values, dict) and not drawn:
        return [f"{values!r:.60}: a range needs sweep.search=random, and sweep.max_trials"]
    if not isinstance(values, list | dict):
        return [f"{values!r:.60} is not a list of values, e.g. [{values!r:.60}]"]
    try:
        ends = ranges.read(model, key, values).ends
    except ValueError as error:
        return [str(error)]
    problems = []
    for value in ends:
        for details in _errors(model, with_keys(base, {key: value})):
            loc = tuple(str(part) for part in details["loc"])
            at_key = loc[: len(path)] == path or (options and loc == path[:2])
            if at_key or (concerns(details, key) and not _told(details, known)):
                problems.append(problem(model, loc, details, value))
    return problems


def _at(document: Document, key: str, text: str) -> str:
    """Write the problem line of a key below `sweep`, whose own name may have dots."""
    where = ("sweep", *key.split(".", 1))
    return f"{document.place(where)}: {'.'.join(where)}: {text}"
