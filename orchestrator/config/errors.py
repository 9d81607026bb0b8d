"""pydantic's findings as lines a person can act on: PLACE: key: problem; did you mean 'x'?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails, PydanticCustomError

from orchestrator.config.document import Document

_RULE = "rule"  # pydantic's `type` of every error that `broken_rule` makes


def broken_rule(
    message: str, *, prefix: str = "{value}: ", keys: Iterable[str] = ()
) -> PydanticCustomError:
    """Make the error that a validator of this schema raises.

    prefix: what a line prints before the message, "" where the message names the value itself.
    keys: dotted keys that break the rule together, so that a sweep of any of them reports it.
    """
    context = {"message": message, "prefix": prefix, "keys": tuple(keys)}
    return PydanticCustomError(_RULE, "{message}", context)


def concerns(details: ErrorDetails, key: str) -> bool:
    """Tell whether an error is of a rule that `key` breaks together with other keys."""
    return details["type"] == _RULE and key in details["ctx"]["keys"]


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
    shown = f"{value!r:.80}"
    if kind == _RULE:
        return str(details["ctx"]["prefix"]).format(value=shown) + message
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{shown} is not a section (`key: value` lines)"
    if kind == "string_pattern_mismatch":
        return f"{shown}: must be letters, digits, _ and -"
    if kind == "literal_error" and isinstance(value, str):
        allowed = [str(part) for part in str(details["ctx"]["expected"]).split("'")[1::2]]
        message += meant(value, allowed)
    return f"{shown}: {message.replace('Input should', 'must')}"


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
