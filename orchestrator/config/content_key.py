"""Compute content keys, the digests that name jobs, scores and sweeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Set
from typing import Any

from pydantic import BaseModel

from orchestrator.config.fields import Section
from orchestrator.config.loading import resolve
from orchestrator.config.sections import SweepConfig


def canonical(obj: object) -> str:
    """Write JSON with sorted keys and no spaces, so that equal values give equal text.

    Raises ValueError on NaN and infinity, TypeError on a type that JSON lacks.
    """

    def plain(value: object) -> object:
        if isinstance(value, Section):
            return content(value)
        if isinstance(value, BaseModel):
            return value.model_dump(mode="json")
        raise TypeError(f"{type(value).__name__} {value!r} has no canonical JSON")

    return json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False, default=plain)


def content(section: Section, exclude: Set[str] = frozenset()) -> dict[str, Any]:
    """Return a section's values as JSON, without keys in `exclude`.

    A key that was added to the schema later (`Section.added`) is left out at its default: what a
    file without that key was named before is its name still.
    """
    values = section.model_dump(mode="json", exclude=set(exclude))
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if name not in values:
            continue
        if name in section.added and value == field.default:
            del values[name]
        elif isinstance(value, Section):
            values[name] = content(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], Section):
            values[name] = [content(entry) for entry in value]
    return values


def digest(obj: object) -> str:
    """Return the first 16 hex digits of the sha256 of the canonical JSON."""
    return hashlib.sha256(canonical(obj).encode()).hexdigest()[:16]


def sweep_id(config: SweepConfig) -> str:
    """Compute the key of a sweep from its resolved configuration.

    Leaves out the swept values and where the sweep runs, so that extending a grid or moving to
    another machine keeps the key.
    """
    return digest(content(resolve(config), {"sweep", "cluster", "storage", "tracking"}))
