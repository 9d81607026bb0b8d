"""Turn pydantic's errors into lines: PLACE: key: problem; did you mean 'x'?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails, PydanticCustomError

from orchestrator.config.document import Document

RULE = "rule"  # pydantic's `type` of every error that `broken_rule` makes


def broken_rule(
    message: str, *, prefix: str = "{value}: ", keys: Iterable[str] = (), at: str | None = None
) -> PydanticCustomError:
    """Make the error that a validator of this schema raises.

    prefix: what a line prints before the message, "" where the message names the value itself.
    keys: dotted keys that break the rule together, so that a sweep of any of them reports it.
    at: the dotted key whose place a line names, where the validator checks a whole section.
    """
    context = {"message": message, "prefix": prefix, "keys": tuple(keys), "at": at}
    return PydanticCustomError(RULE, "{message}", context)


def concerns(details: ErrorDetails, key: str) -> bool:
    """Return whether `key` is among the keys that break the rule of an error."""
    return details["type"] == RULE and key in details["ctx"]["keys"]


def section_at(model: type[BaseModel], path: Iterable[str]) -> type[BaseModel] | None:
    """Find the model that holds the keys below `path`; None below a plain value.

    A number in `path` is a list index; all entries of a list have the same model.
    """
    here = model
    for part in path:
        if part.isdigit():
            continue
        field = here.model_fields.get(part)
        nested = models_in(field.annotation) if field else []
        if not nested:
            return None
        here = nested[0]
    return here


def meant(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known word, else an empty text."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if not near:  # case, or a name without its prefix
        near = [key for key in known if key.lower() == word.lower()]
    return f"; did you mean {near[0]!r}?" if near else ""


def unknown_key(model: type[BaseModel], path: tuple[str, ...]) -> str:
    """Describe a dotted key that `model` lacks."""
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
    """Write one error of pydantic about a document as a line: PLACE: key: problem."""
    # pydantic appends the branch of a union to the key; no key of ours has a bracket in it
    path = tuple(str(part) for part in details["loc"] if "[" not in str(part))
    if details["type"] == RULE and details["ctx"]["at"] is not None:
        path = tuple(details["ctx"]["at"].split("."))
    key, value = ".".join(path), details["input"]
    return f"{document.place(path)}: {key}: {problem(model, path, details, value)}"


def problem(
    model: type[BaseModel], path: tuple[str, ...], details: ErrorDetails, value: Any
) -> str:
    """Write the part of an error's line after the key."""
    kind, message = details["type"], details["msg"]
    if kind == "extra_forbidden":
        return unknown_key(model, path)
    if kind == "missing":
        return "missing"
    shown = f"{value!r:.80}"
    if kind == RULE:
        return str(details["ctx"]["prefix"]).format(value=shown) + str(details["ctx"]["message"])
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{shown} is not a section (`key: value` lines)"
    if kind == "string_pattern_mismatch":
        return f"{shown}: must be letters, digits, _ and -"
    if kind == "literal_error" and isinstance(value, str):
        allowed = [str(part) for part in str(details["ctx"]["expected"]).split("'")[1::2]]
        message += meant(value, allowed)
    if kind == "string_type" and type(value) in (int, float):
        message += f"; in quotes it is one: '\"{value}\"'"
    return f"{shown}: {message.replace('Input should', 'must')}"


def list_at(section: type[BaseModel], key: str) -> bool:
    """Return whether the value of a section's key may be a list of sections."""
    annotation = section.model_fields[key].annotation
    nested = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return not nested and bool(models_in(annotation))


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def _elsewhere(model: type[BaseModel], word: str) -> str:
    """Suggest the section that has a key named `word`, else return an empty text."""
    for name, field in model.model_fields.items():
        if any(word in nested.model_fields for nested in models_in(field.annotation)):
            return f"; did you mean '{name}.{word}'?"
    return ""
