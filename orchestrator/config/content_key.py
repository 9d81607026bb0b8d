"""Content keys: equal values have one text, and its digest names jobs, scores and sweeps."""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel

from orchestrator.config import SweepConfig
from orchestrator.config.sections import resolve


def canonical(obj: object) -> str:
    """JSON with sorted keys and no spaces: equal values, equal text. NaN is refused."""

    def plain(value: object) -> object:
        if isinstance(value, BaseModel):
            return value.model_dump(mode="json")
        raise TypeError(f"{type(value).__name__} {value!r} has no canonical JSON")

    return json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False, default=plain)


def digest(obj: object) -> str:
    """First 16 hex digits of the sha256 of the canonical JSON: a content key."""
    return hashlib.sha256(canonical(obj).encode()).hexdigest()[:16]


def sweep_id(config: SweepConfig) -> str:
    """Key of the resolved configuration, whatever is swept and wherever it runs."""
    outside = {"sweep", "cluster", "storage", "tracking"}
    return digest(resolve(config).model_dump(mode="json", exclude=outside))
