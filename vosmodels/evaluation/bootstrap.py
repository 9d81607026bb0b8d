"""Two rows of a table compared video by video: on the same videos, from the same seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Paired:
    """Differences, ours minus theirs. per_sequence: mean over seeds; mean: of the sequences, each
    weighted by its objects; low, high: the bootstrap interval of that mean."""

    per_sequence: Mapping[str, float]
    seeds: int
    mean: float
    low: float
    high: float

    @property
    def signs(self) -> tuple[int, int, int]:
        """On how many sequences ours is above theirs, below, and equal."""
        values = list(self.per_sequence.values())
        above, below = sum(v > 0 for v in values), sum(v < 0 for v in values)
        return above, below, len(values) - above - below


def compare(
    ours: Sequence[Mapping[str, float]],
    theirs: Sequence[Mapping[str, float]],
    weights: Mapping[str, float],
    rng: np.random.Generator,
) -> Paired:
    """Scores by sequence name, one mapping a seed in the same order; weights: a sequence's number
    of objects, as means are over objects.

    Raises ValueError where there is no seed or no sequence, or they are not the same on both sides.
    """
    names = tuple(weights)
    if not ours or not names or len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} and {len(theirs)} seeds, {len(names)} sequences to compare")
    for scores in (*ours, *theirs):
        if scores.keys() != weights.keys():
            odd = ", ".join(sorted(scores.keys() ^ weights.keys()))
            raise ValueError(f"sequences that not every row has: {odd}")
    gaps = np.array(
        [[a[name] - b[name] for name in names] for a, b in zip(ours, theirs, strict=True)]
    )
    weight = np.array([weights[name] for name in names], dtype=np.float64)
    low, high = interval(gaps, weight, rng)
    return Paired(
        per_sequence=dict(zip(names, gaps.mean(0).tolist(), strict=True)),
        seeds=len(gaps),
        mean=float(gaps.mean(0) @ weight / weight.sum()),
        low=low,
        high=high,
    )


def interval(
    gaps: F64,
    weights: F64,
    rng: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the weighted mean of gaps (seeds S, sequences V).

    Every seed is scored on the same sequences, so both are drawn with replacement, each by itself,
    and the mean is taken over all pairs of what was drawn (Owen, "The pigeonhole bootstrap", Annals
    of Applied Statistics 2007). Sequences drawn anew within each seed would average away what a
    sequence does to all seeds, and the interval would be too narrow. With one seed it is the
    ordinary bootstrap over sequences, and says nothing of other seeds. Few seeds or sequences give
    intervals that are too narrow, n of them by about sqrt((n - 1) / n).
    """
    seeds, sequences = gaps.shape
    of_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)  # (R, S) counts
    drawn = rng.multinomial(sequences, np.full(sequences, 1 / sequences), size=resamples) * weights
    means = ((of_seed @ gaps) * drawn).sum(1) / (seeds * drawn.sum(1))
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
