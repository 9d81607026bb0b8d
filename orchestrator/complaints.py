"""pydantic's findings as lines a person can act on: PLACE: key: problem; did you mean 'x'?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Set
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from orchestrator.yamlfile import Document

_OURS = {"bool_number", "not_built", "report_chosen", "classwise"}  # go on after the value
_TOGETHER = {  # what two keys do not do together
    "classwise": ("loss.method", "loss.omega"),
    "drawn": ("train.augmentation",),
}
_WHOLE = {"model", "options", "split", "stages", "drawn"}  # messages that name the value themselves


def section_at(model: type[BaseModel], path: Iterable[str]) -> type[BaseModel] | None:
    """The model that holds the keys below `path`; None below a plain value.

    A number in a path is the place in a list, whose entries are of one model."""
    here = model
    for part in path:
        if part.isdigit():
            continue
        field = here.model_fields.get(part)
        nested = _models(field.annotation) if field else []
        if not nested:
            return None
        here = nested[0]
    return here


def meant(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing where nothing is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if not near:  # case, or a name without its prefix
        near = [key for key in known if key.lower() == word.lower()]
    return f"; did you mean {near[0]!r}?" if near else ""


def unknown_key(model: type[BaseModel], path: tuple[str, ...]) -> str:
    """What is wrong with a dotted key that `model` lacks."""
    for depth, part in enumerate(path):
        if part.isdigit():
            continue
        section = section_at(model, path[:depth])
        if section is None:
            return f"unknown key; {'.'.join(path[:depth])!r} is a value, not a section"
        if part not in section.model_fields:
            near = _elsewhere(model, part) or meant(part, section.model_fields)
            return "unknown key" + near
    return "unknown key"


def line(document: Document, model: type[BaseModel], details: ErrorDetails) -> str:
    """One finding of pydantic on a document as a line."""
    # pydantic names the branch of a union after the key; no key has a bracket in it
    path = tuple(str(part) for part in details["loc"] if "[" not in str(part))
    key, value = ".".join(path), details["input"]
    return f"{document.place(path)}: {key}: {problem(model, path, details, value)}"


def problem(
    model: type[BaseModel], path: tuple[str, ...], details: ErrorDetails, value: Any
) -> str:
    """The part of the line after the key."""
    kind, message = details["type"], details["msg"]
    if kind == "extra_forbidden":
        return unknown_key(model, path)
    if kind == "missing":
        return "missing"
    if kind in _WHOLE:
        return message
    shown = f"{value!r:.80}"
    if kind in _OURS:
        return f"{shown} {message}" if kind == "report_chosen" else f"{shown}: {message}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{shown} is not a section (`key: value` lines)"
    if kind == "string_pattern_mismatch":
        return f"{shown}: must be letters, digits, _ and -"
    if kind == "literal_error" and isinstance(value, str):
        allowed = [str(part) for part in str(details["ctx"]["expected"]).split("'")[1::2]]
        message += meant(value, allowed)
    return f"{shown}: {message.replace('Input should', 'must')}"


def of_grid(document: Document, model: type[BaseModel], not_swept: Set[str]) -> list[str]:
    """What is wrong with the swept keys and their values, each tried in the run by itself, and
    with the points, each tried as a whole."""
    section = document.values["sweep"]
    parameters = section.get("parameters", {}) if isinstance(section, dict) else None
    points = section.get("points", {}) if isinstance(section, dict) else None
    if not (isinstance(parameters, dict) and isinstance(points, dict)):
        return []  # the schema says so
    if not all(isinstance(changes, dict) for changes in points.values()):
        return []  # so it does here
    base = {key: value for key, value in document.values.items() if key != "sweep"}
    problems = []
    if not parameters and not points:
        problems.append(
            _at(document, "parameters", "empty; give at least one key, or sweep.points")
        )
    for key, values in parameters.items():
        path = tuple(str(key).split("."))
        place = f"parameters.{key}"
        if path in document.overridden:
            problems.append(
                f"{document.place(path)}: {key}: is swept; use sweep.parameters.{key}=[value], "
                "or leave it to the sweep"
            )
        problems += [
            _at(document, place, text) for text in _of_key(model, path, values, base, not_swept)
        ]
        problems += [
            _at(document, place, f"is also set by point {name!r}; a key varies in one place")
            for name, changes in points.items()
            if key in changes
        ]
    return problems + _of_points(document, model, points, base, not_swept)


def _of_points(
    document: Document,
    model: type[BaseModel],
    points: Mapping[str, Mapping[str, Any]],
    base: Mapping[str, Any],
    not_swept: Set[str],
) -> list[str]:
    problems = []
    known: dict[str, BaseModel] = {}
    for name, changes in points.items():
        whole = with_keys(base, changes)
        for key, value in changes.items():
            path = tuple(str(key).split("."))
            problems += [
                _at(document, f"points.{name}.{key}", text)
                for text in _of_key(model, path, [value], whole, not_swept)
            ]
            if path in document.overridden and all(key in other for other in points.values()):
                problems.append(
                    f"{document.place(path)}: {key}: is set by every point of sweep.points"
                )
        try:
            run = model.model_validate(whole)
        except ValidationError:
            continue  # told by key, above or by the schema
        twins = [other for other, theirs in known.items() if theirs == run]
        problems += [_at(document, f"points.{name}", f"is the same run as {t!r}") for t in twins]
        known[name] = run
    return problems


def of_stages(document: Document, keys: Iterable[str]) -> list[str]:
    """Keys of `train` and `stem`, written or swept, that a list of stages says instead."""
    if document.values.get("stages") is None:
        return []
    sweep = document.values.get("sweep")
    swept = sweep.get("parameters") if isinstance(sweep, dict) else None
    told = []
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
            told.append(
                f"{document.place(path)}: {'.'.join(path)}: with `stages` every stage says its own "
                f"{key}; write it there, or take the stages out"
            )
    return told


def _of_key(
    model: type[BaseModel],
    path: tuple[str, ...],
    values: Any,
    base: Mapping[str, Any],
    not_swept: Set[str],
) -> list[str]:
    key = ".".join(path)
    options = path[1:2] == ("options",) and len(path) > 2  # checked by the model, with its value
    if not options:
        section = section_at(model, path[:-1])
        if section is None or path[-1] not in section.model_fields:
            return [unknown_key(model, path)]
        if section_at(model, path) is not None:
            return [f"a section cannot be swept; sweep its keys, e.g. {key}.KEY"]
    last = f"stages.{len(base.get('stages') or ()) - 1}"
    if not_swept & {key, path[0]} and ".".join(path[:2]) != last:
        known = f" (of the stages, {last}.KEY can)" if path[0] == "stages" else ""
        return ["cannot be swept: trials of one sweep share it" + known]
    if isinstance(values, dict):
        return [f"{values!r:.60}: ranges need search random or optuna, which are not built yet"]
    if not isinstance(values, list):
        return [f"{values!r:.60} is not a list of values, e.g. [{values!r:.60}]"]
    if not values:
        return ["[] is an empty grid; give at least one value"]
    problems = [
        f"{value!r:.60} is there twice"
        for index, value in enumerate(values)
        if value in values[:index]
    ]
    for value in values:
        try:
            model.model_validate(with_keys(base, {key: value}))
        except ValidationError as error:
            for details in error.errors():
                loc = tuple(str(part) for part in details["loc"])
                together = key in _TOGETHER.get(details["type"], ())
                if loc[: len(path)] == path or (options and loc == path[:2]) or together:
                    problems.append(problem(model, loc, details, value))
    return problems


def _at(document: Document, key: str, text: str) -> str:
    """A line about a key below `sweep`, whose own name may have dots."""
    where = ("sweep", *key.split(".", 1))
    return f"{document.place(where)}: {'.'.join(where)}: {text}"


def with_keys(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A nested mapping with dotted keys set, itself unchanged; a number is a place in a list."""
    result = dict(values)
    for key, value in changes.items():
        head, _, rest = key.partition(".")
        below = result.get(head)
        if not rest:
            result[head] = value
        elif isinstance(below, (list, tuple)):
            entries = with_keys({str(n): entry for n, entry in enumerate(below)}, {rest: value})
            result[head] = list(entries.values())
        else:
            result[head] = with_keys(below if isinstance(below, dict) else {}, {rest: value})
    return result


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _elsewhere(model: type[BaseModel], word: str) -> str:
    """Where a key of that very name lives, when it was put into the wrong section."""
    for name, field in model.model_fields.items():
        if any(word in nested.model_fields for nested in _models(field.annotation)):
            return f"; did you mean '{name}.{word}'?"
    return ""
