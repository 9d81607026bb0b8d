"""Time J and F against their plain reference: `python -m tests.benchmarks.jf`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from tests import jf_reference
from tests.benchmarks.rounds import Claim, parsed, report, rounds
from vosmodels.evaluation import metrics

MODULE = "tests.benchmarks.jf"
TARGET = 5.0  # times less CPU than the reference
HEIGHT, WIDTH, FRAMES = 480, 854, 16
# Half-axes as shares of the frame's height: objects of 0.7 % to 21 % of the frame.
OBJECTS = ((0.05, 0.08), (0.08, 0.12), (0.1, 0.2), (0.2, 0.16), (0.25, 0.3), (0.3, 0.4))

Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 where the numbers are identical and the target is reached, else 1."""
    args = parsed(MODULE, argv, count=7)
    cv2.setNumThreads(1)  # the reference's dilation would share its work out
    truth, prediction = masks(seed=0), masks(seed=0, error=0.03)

    frames = [(g, p) for v in zip(truth, prediction, strict=True) for g, p in zip(*v, strict=True)]

    def both(jaccard: Measure, boundary_f: Measure) -> np.ndarray:
        videos = zip(truth, prediction, strict=True)
        return np.concatenate([np.stack([jaccard(*v), boundary_f(*v)], axis=1) for v in videos])

    candidates: dict[str, Callable[[], np.ndarray]] = {
        "reference": lambda: both(jf_reference.jaccard, jf_reference.boundary_f),
        "jaccard, boundary_f": lambda: both(metrics.jaccard, metrics.boundary_f),
        "frame_scores": lambda: np.array([metrics.frame_scores(*pair) for pair in frames]),
    }
    wanted, *others = (candidate() for candidate in candidates.values())
    for name, found in zip(list(candidates)[1:], others, strict=True):
        if not np.array_equal(found, wanted):
            print(f"{name}: {np.count_nonzero(found != wanted)} of {found.size} scores differ")
            return 1
    print(
        f"{len(wanted)} pairs of masks of {HEIGHT}x{WIDTH}, objects on {truth.mean():.1%} of the "
        f"frame; mean J {wanted[:, 0].mean():.3f}, F {wanted[:, 1].mean():.3f}, identical"
    )
    timings = rounds(candidates, args.rounds, warm=False)  # all have just run
    ratio = timings["reference"].median() / timings["jaccard, boundary_f"].median()
    claims = [Claim("times less CPU than the reference", ratio, TARGET)]
    return 0 if report("jf", args.command, timings, claims, out=args.out) else 1


def masks(seed: int, error: float = 0.0) -> np.ndarray:
    """(objects, FRAMES, H, W) bool: ellipses that move, turn, and swell and shrink all round.

    error: how far, as a share of their size, a prediction's outline and place are off.
    """
    rng, off = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT
    made = np.zeros((len(OBJECTS), FRAMES, HEIGHT, WIDTH), dtype=bool)
    for number, axes in enumerate(OBJECTS):
        place, speed = rng.uniform((0.3, 0.5), (0.7, 1.3)), rng.uniform(-0.01, 0.01, 2)
        turn, phases = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi, 4)
        for t in range(FRAMES):
            y, x = place + t * speed + error * min(axes) * off.normal(size=2)
            angle = turn + 0.05 * t
            u = ((rows - y) * np.cos(angle) + (columns - x) * np.sin(angle)) / axes[0]
            v = ((columns - x) * np.cos(angle) - (rows - y) * np.sin(angle)) / axes[1]
            around, radius = np.arctan2(u, v), np.ones_like(rows)
            for wave, phase in enumerate(phases, start=2):
                swell = 0.08 / (wave - 1) + error * off.normal()
                radius += swell * np.cos(wave * around + phase + 0.2 * t)
            made[number, t] = np.hypot(u, v) < radius
    return made


if __name__ == "__main__":
    sys.exit(main())
