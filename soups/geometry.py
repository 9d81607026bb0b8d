"""Measure how checkpoints lie to each other: distance, angle at the stem, and the barrier between.

The first ingredient of a soup is the centre: what joined it, and the first that did not, are
measured from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from torch import Tensor

from soups.scoring import Weights
from soups.search import Ingredient, Settle, mean_of

Errors = Callable[[Sequence[Callable[[], Weights]]], Sequence[float]]  # of weights, in their order


@dataclass(frozen=True)
class Place:
    """Say where a checkpoint lies, seen from the centre.

    distance: L2, to the centre; from_stem: L2, to the stem; angle: in degrees at the stem; barrier:
    at the midpoint to the centre. None where there is no stem, no angle or no error was measured.
    """

    name: str
    sha256: str
    accepted: bool
    distance: float
    from_stem: float | None
    angle: float | None
    barrier: float | None


def distance(ours: Weights, theirs: Weights) -> float:
    """|a - b|_2 over all floating-point tensors of two state dicts, summed in float64."""
    return math.sqrt(_dot(ours, theirs, ours, theirs))


def angle(ours: Weights, theirs: Weights, stem: Weights) -> float | None:
    """Return the angle at the stem in degrees, arccos of (a - s)(b - s) / (|a - s| |b - s|).

    0 where both went the same way, 90 where neither says anything about the other; None where one
    of them is the stem.
    """
    lengths = distance(ours, stem) * distance(theirs, stem)
    if not lengths:
        return None
    cosine = _dot(ours, stem, theirs, stem) / lengths
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def barrier(middle: float, ends: tuple[float, float]) -> float:
    """B = E((a + b) / 2) - (E(a) + E(b)) / 2      Frankle et al., arXiv:1912.05671

    There the largest over the line; here at its midpoint, which is the soup of the two. At most 0:
    nothing lies between the two that an average would have to cross.
    """
    return middle - sum(ends) / 2


def measure(
    centre: Ingredient,
    others: Sequence[tuple[Ingredient, bool]],
    *,
    stem: Callable[[], Weights] | None = None,
    errors: Errors | None = None,
    settle: Settle | None = None,
) -> dict[str, Any]:
    """Measure ingredients from the centre, for the record of a soup.

    others  each with whether the soup took it
    stem    reads the weights that all were trained from
    errors  of weights, as 1 - J&F; None: no barriers. It is given two an ingredient and one for the
            centre, each to be read when it is measured. Three state dicts are held besides.
    settle  as in `soups.search.greedy`, of the mean of two
    Returns {"centre", "from_stem", "places": [a dict of each Place]}. Raises NoMean as
    `average`.
    """
    barriers = _barriers(centre, [each for each, _ in others], errors, settle)
    middle, root = centre.load(), stem() if stem else None
    places = []
    for (ingredient, accepted), height in zip(others, barriers, strict=True):
        weights = ingredient.load()
        places.append(
            Place(
                ingredient.name,
                ingredient.sha256,
                accepted,
                distance(middle, weights),
                None if root is None else distance(weights, root),
                None if root is None else angle(middle, weights, root),
                height,
            )
        )
    return {
        "centre": centre.name,
        "from_stem": None if root is None else distance(middle, root),
        "places": [asdict(place) for place in places],
    }


def _barriers(
    centre: Ingredient,
    others: Sequence[Ingredient],
    errors: Errors | None,
    settle: Settle | None,
) -> Sequence[float | None]:
    """Return the barrier from the centre to each."""
    if errors is None or not others:
        return [None] * len(others)
    pairs = [(partial(mean_of, [centre, each], settle), each.load) for each in others]
    first, *found = errors([centre.load, *(weights for pair in pairs for weights in pair)])
    ends = zip(found[::2], found[1::2], strict=True)
    return [barrier(between, (first, end)) for between, end in ends]


def _dot(a: Weights, b: Weights, c: Weights, d: Weights) -> float:
    """(a - b)(c - d), over the floating-point tensors."""
    return sum(
        float((_gap(a, b, key) * _gap(c, d, key)).sum())
        for key, tensor in a.items()
        if tensor.is_floating_point()
    )


def _gap(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], key: str) -> Tensor:
    return ours[key].double() - theirs[key].double()
