"""Make results of small sweeps by hand, for tests that compare or show them."""

from dataclasses import replace

from orchestrator.config import SweepConfig
from orchestrator.config.loading import resolve
from orchestrator.reporting.results import Results, Row
from orchestrator.reporting.split_scores import ErrorCounts, SplitScores, VideoScores

VIDEOS = {"ant": 1, "bee": 2, "cat": 1}  # objects


def config(seed=0, **sections):
    """Two points; the second is compared with the first."""
    points = {"plain": {"loss.logit": 0.0}, "taught": {}}
    base = {"name": "t", "seed": seed, "data": {"report": "test"}, "soup": {"after_sweep": False}}
    made = SweepConfig.model_validate(base | {"sweep": {"points": points}} | sections)
    return resolve(made)


def scores(*values):
    """J = F = these on the videos, their mean over objects, and errors near the boundary."""
    mean = sum(v * n for v, n in zip(values, VIDEOS.values(), strict=True)) / sum(VIDEOS.values())
    videos = {
        name: VideoScores(value, value, count)
        for (name, count), value in zip(VIDEOS.items(), values, strict=True)
    }
    errors = ErrorCounts({1: 10, 2: 20, 4: 30, 8: 40}, wrong=80, masks=4, added=60)
    return SplitScores(mean, mean, mean, videos, errors)


def both(*values):
    """The same scores on select and on report."""
    return {"select": scores(*values), "report": scores(*values)}


def unreported(row):
    """The row with its select scores alone."""
    return replace(row, scores={"select": row.scores["select"]})


def run(seed=0, plain=(0.5, 0.6, 0.7), taught=(0.6, 0.6, 0.6), copied=(0.1, 0.2, 0.3), **changes):
    """Make the results of a seed's sweep; rows without report have select scores only."""
    made = config(seed)
    rows = [
        Row("first-frame copy", "anchor", both(*copied)),
        Row("plain", "trial", both(*plain), step=80, seconds=60.0),
        Row(
            "taught",
            "trial",
            both(*taught),
            step=40 + 40 * (seed % 2),
            seconds=90.0 + seed,
            baseline="plain",
            curve=[(40, 0.5), (80, 0.6)],
        ),
    ]
    values = {
        "name": "t",
        "sweep": f"sweep{seed}",
        "rows": rows,
        "command": "python -m orchestrator.table t.yaml",
        "config": made.model_dump(mode="json"),
        "protocol": "generated val; report test",
        "seconds": 200.0,
        "peak_mib": None,
        "placement": "2 at a time",
        "commit": f"{seed}234567",
        "machine": "2 cores",
        "date": "2026-01-02",
    }
    return Results(**(values | changes))
