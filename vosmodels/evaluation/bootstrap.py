"""Compare two rows of a table, paired by video and seed, with a bootstrap."""

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
    """Paired differences of two rows, ours minus theirs.

    per_sequence: mean over seeds, by sequence name; mean: over sequences, each weighted by its
    number of objects; low, high: bootstrap interval of `mean`; above: share of the resamples with a
    mean above 0, and half of those with 0, as an estimate of P(ours is better).
    """

    per_sequence: Mapping[str, float]
    seeds: int
    mean: float
    low: float
    high: float
    above: float

    @property
    def signs(self) -> tuple[int, int, int]:
        """Count the sequences on which ours is above, below and equal to theirs."""
        values = list(self.per_sequence.values())
        above, below = sum(v > 0 for v in values), sum(v < 0 for v in values)
        return above, below, len(values) - above - below


def compare(
    ours: Sequence[Mapping[str, float]],
    theirs: Sequence[Mapping[str, float]],
    weights: Mapping[str, float],
    rng: np.random.Generator,
) -> Paired:
    """Compare two rows of scores sequence by sequence and seed by seed.

    ours, theirs: one mapping per seed, in the same order, from sequence name to score; weights: the
    number of objects of each sequence, because scores are means over objects.
    Raises ValueError if there is no seed or no sequence, or if the rows differ in either.
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
    means = resampled(gaps, weight, rng)
    low, high = _quantiles(means, LEVEL)
    return Paired(
        per_sequence=dict(zip(names, gaps.mean(0).tolist(), strict=True)),
        seeds=len(gaps),
        mean=float(gaps.mean(0) @ weight / weight.sum()),
        low=low,
        high=high,
        above=float((np.sign(means).mean() + 1) / 2),
    )


def interval(
    gaps: F64,
    weights: F64,
    rng: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of the weighted mean of gaps (S, V).

    gaps (seeds S, sequences V), weights (V,); level: the interval's nominal coverage.
    Every seed is scored on the same sequences, so seeds and sequences are resampled independently,
    with replacement, and the mean is taken over all pairs of a resampled seed and a resampled
    sequence (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007). Sequences
    resampled anew within each seed would average away the effect that a sequence has on all seeds,
    so the interval would be too narrow. With one seed this is the ordinary bootstrap over
    sequences, without the variance between seeds. With n seeds or sequences the interval is too
    narrow by a factor of about sqrt((n - 1) / n).
    """
    return _quantiles(resampled(gaps, weights, rng, resamples=resamples), level)


def resampled(
    gaps: F64, weights: F64, rng: np.random.Generator, *, resamples: int = RESAMPLES
) -> F64:
    """Return the weighted mean of gaps (S, V) in each resample, as `interval` draws them."""
    seeds, sequences = gaps.shape
    of_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)  # (R, S) counts
    counts = rng.multinomial(sequences, np.full(sequences, 1 / sequences), size=resamples)  # (R, V)
    mass = counts * weights
    means: F64 = ((of_seed @ gaps) * mass).sum(1) / (seeds * mass.sum(1))
    return means


def _quantiles(means: F64, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
