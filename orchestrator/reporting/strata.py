"""Break the scores of rows down by the number of objects that a video has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from orchestrator.reporting.split_scores import Split, SplitScores
from vosmodels.support.grid import Grid


def by_objects(rows: Mapping[str, Sequence[SplitScores]], split: Split) -> Grid | None:
    """Lay out the J&F of rows by the number of objects in a video.

    rows: by name, the scores on `split` of every seed. A cell is the mean over the videos with so
    many objects, of all seeds. None where all videos have equally many objects.
    """
    videos: dict[int, dict[str, None]] = defaultdict(dict)  # names, in the order of the split
    for scores in rows.values():
        for seed in scores:
            for name, video in seed.sequences.items():
                videos[video.objects][name] = None
    numbers = sorted(videos)
    if len(numbers) < 2:
        return None
    lines = []
    for row, scores in rows.items():
        if any(seed.sequences for seed in scores):
            lines.append([row, *(_cell(scores, number) for number in numbers)])
    head = [f"{split} J&F by objects", *map(str, numbers)]
    counts = ", ".join(f"{len(videos[number])} with {number}" for number in numbers)
    return Grid(head, lines, notes=[f"Means over videos and seeds; videos: {counts}."])


def _cell(scores: Sequence[SplitScores], number: int) -> str:
    values = [v.jf for seed in scores for v in seed.sequences.values() if v.objects == number]
    return f"{fmean(values):.3f}" if values else ""
