"""Print J and F of every object of a scored set."""

from __future__ import annotations

from rich.console import Console

from vosmodels.evaluation.scores import ON_THE_SERVER, Scores
from vosmodels.support.grid import Grid


def show_scores(scores: Scores, source: str) -> None:
    """Print the scores of objects and their means, or why there are none.

    source: what was scored, in words. The rate is printed where frames
    were segmented rather than masks read.
    """
    out = Console(highlight=False, soft_wrap=True)  # paths stay whole
    out.print(source)
    out.print(_grid(scores).terminal() if scores.sequences else ON_THE_SERVER)
    if scores.fps is not None:
        out.print(f"{scores.fps:.1f} frames a second, one video at a time, on this machine's CPU")


def _grid(scores: Scores) -> Grid:
    """Lay out every object, then the means over all, seen and unseen objects."""
    rows = [
        [video.name, str(number), *_three(score.j, score.f)]
        for video in scores.sequences
        for number, score in video.objects.items()
    ]
    rows.append(["mean", "", *_three(scores.j, scores.f)])
    if means := scores.seen_unseen:
        for kind in ("seen", "unseen"):
            rows.append([kind, "", *_three(means[f"j_{kind}"], means[f"f_{kind}"])])
        rows.append(["G, mean of the four", "", "", "", f"{means['g']:.3f}"])
    return Grid(["video", "object", "J", "F", "J&F"], rows)


def _three(j: float, f: float) -> list[str]:
    return [f"{value:.3f}" for value in (j, f, (j + f) / 2)]
