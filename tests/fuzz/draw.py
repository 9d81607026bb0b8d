"""Draw the choices of one case: the same on every machine, whichever cases run before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from vosmodels.support.seeding import numpy_generator

SEED = 0

T = TypeVar("T")


class Draw:
    """The random choices of case `index` of a kind."""

    def __init__(self, kind: str, index: int) -> None:
        self.rng = numpy_generator(SEED, "fuzz", kind, index)

    def one(self, options: Sequence[T]) -> T:
        """Draw one of the options."""
        return options[int(self.rng.integers(len(options)))]

    def several(self, options: Sequence[T], least: int, most: int) -> list[T]:
        """Draw `least` to `most` different options, in random order."""
        count = min(self.whole(least, most), len(options))
        return [options[int(place)] for place in self.rng.permutation(len(options))[:count]]

    def whole(self, least: int, most: int) -> int:
        """Draw a whole number, both ends included."""
        return int(self.rng.integers(least, most + 1))

    def chance(self, share: float) -> bool:
        """Draw True in `share` of all draws."""
        return bool(self.rng.random() < share)
