"""Read what a swept key may be: a list of values, or a range to draw from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from pydantic import BaseModel

from orchestrator.config.errors import section_at
from vosmodels import registry

Scale = Literal["uniform", "loguniform"]
FORMS = "[value, ...], {uniform: [low, high]}, {loguniform: [low, high]} or {choice: [value, ...]}"
MISSES = 1000  # draws in a row that gave nothing new, after which there is nothing new
DIGITS = 3  # significant ones of a number that is drawn, so that a row's name says it whole


@dataclass(frozen=True)
class Choice:
    """Values of which one is taken."""

    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        """Return every value: a check of them checks all that can be taken."""
        return self.values

    def at(self, share: float) -> Any:
        """Return the value at a share in [0, 1) of the list."""
        return self.values[int(share * len(self.values))]


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included; whole: integers alone."""

    scale: Scale
    low: float
    high: float
    whole: bool = False

    @property
    def ends(self) -> tuple[Any, ...]:
        """Return the lowest and the highest number."""
        return self.low, self.high

    def at(self, share: float) -> Any:
        """Return the number at a share in [0, 1) of the range, on its scale, as `rounded`."""
        low, high = (self.low, self.high + 1) if self.whole else (self.low, self.high)
        if self.scale == "loguniform":
            value = low * (high / low) ** share
        else:
            value = low + (high - low) * share
        return min(math.floor(value), int(self.high)) if self.whole else self.rounded(value)

    def rounded(self, value: float) -> float:
        """Round a number to DIGITS significant digits, within the range."""
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


Varied: TypeAlias = Choice | Range


def read(model: type[BaseModel], key: str, values: Any) -> Varied:
    """Read what a dotted key of a run may be.

    model: the schema of the run, which says where numbers are whole.
    Raises ValueError that says what is wrong.
    """
    if isinstance(values, list):
        return _choice(values)
    if not (isinstance(values, dict) and len(values) == 1):
        raise ValueError(f"{values!r:.60} is no list and no range; write {FORMS}")
    ((form, given),) = values.items()
    if form == "choice" and isinstance(given, list):
        return _choice(given)
    if form not in get_args(Scale):
        raise ValueError(f"{form!r:.60} is no range; write {FORMS}")
    numbers = isinstance(given, list) and len(given) == 2 and all(map(_is_number, given))
    if not numbers:
        raise ValueError(f"{form}: {given!r:.60} is not [low, high], two numbers")
    low, high = given
    if low >= high:
        raise ValueError(f"{form}: [{low}, {high}]: low must be below high")
    if form == "loguniform" and low <= 0:
        raise ValueError(f"loguniform: [{low}, {high}]: low must be above 0")
    whole = whole_number(model, key)
    if whole and not (isinstance(low, int) and isinstance(high, int)):
        raise ValueError(f"{form}: [{low}, {high}]: {key} is a whole number, so both must be")
    return Range(form, low, high, whole)


def places(
    model: type[BaseModel], parameters: Mapping[str, Any], search: str, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield values of all swept keys, each combination once, in the order of a sweep's trials.

    A grid: last key fastest, of ranges their ends. Any other search: drawn by the seed and the
    place's number alone, without end where a range is among the keys.
    """
    varied = {key: read(model, key, values) for key, values in parameters.items()}
    if search == "grid":
        for values in itertools.product(*(one.ends for one in varied.values())):
            yield dict(zip(varied, values, strict=True))
        return
    from vosmodels.support.seeding import numpy_generator  # loads numpy, which --help needs not

    seen: list[dict[str, Any]] = []
    misses = 0
    for index in itertools.count():
        place = {
            key: one.at(numpy_generator(seed, "search", key, index).random())
            for key, one in varied.items()
        }
        misses = misses + 1 if place in seen else 0
        if misses > MISSES:
            return
        if not misses:
            seen.append(place)
            yield place


def whole_number(model: type[BaseModel], key: str) -> bool:
    """Return whether a key holds an integer. Of a model's options its own schema says it."""
    path = key.split(".")
    section = section_at(model, path[:-1])
    annotation = None
    if section is not None and path[-1] in section.model_fields:
        annotation = section.model_fields[path[-1]].annotation
    elif path[1:2] == ["options"]:
        known = [entry.config.model_fields for entry in registry.REGISTRY.values()]
        annotation = next((of[path[-1]].annotation for of in known if path[-1] in of), None)
    kinds = _plain(annotation)
    return int in kinds and float not in kinds


def _plain(annotation: Any) -> set[Any]:
    """Return the types that an annotation is made of."""
    parts = get_args(annotation)
    return {annotation} if not parts else set().union(*map(_plain, parts))


def _choice(values: Sequence[Any]) -> Choice:
    if not values:
        raise ValueError("[] is an empty list; give at least one value")
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise ValueError(f"{twice[0]!r:.60} is there twice")
    return Choice(tuple(values))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
