"""Resolve the names of a model's intermediates, whose layers may be counted from the end.

A name is ATTENTION.PART.LAYER, such as `self.id.1`: attention long or self; part visual, id,
output, weights or offsets; layers count from 1, or from the end, where -1 is the last.
"""

from __future__ import annotations

from collections.abc import Collection

from vosmodels.errors import InputError


def resolve(name: str, available: Collection[str]) -> str:
    """Return the name in `available` that `name` means: `self.id.-1` is the last `self.id`.

    Raises InputError that lists what there is.
    """
    place, _, layer = name.rpartition(".")
    if layer.startswith("-"):
        layers = sorted(
            int(other.rpartition(".")[2])
            for other in available
            if other.rpartition(".")[0] == place
        )
        index = len(layers) + int(layer)
        if index >= 0 and layers:
            return f"{place}.{layers[index]}"
    elif name in available:
        return name
    there = f"there are {', '.join(available)}" if available else "there is none"
    raise InputError(f"no intermediate {name!r}; {there}")
