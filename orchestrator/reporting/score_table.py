"""Print J and F of every object of a scored set."""

from __future__ import annotations

from vosmodels.evaluation.scores import ON_THE_SERVER, Scores
from vosmodels.evaluation.strata import strata
from vosmodels.support.cli import CPU, place_of
from vosmodels.support.grid import Grid, screen


def show_scores(
    scores: Scores, source: str, *, wanted: int | None = None, device: str = CPU
) -> None:
    """Print the scores of objects and their means, or why there are none.

    source: what was scored, in words. The rate is printed where frames
    were segmented rather than masks read. wanted: number of videos to score, of which `scores`
    has a part, so that their means are left out as no result; None where all were scored. device:
    where the network ran.
    """
    out = screen()
    out.print(source)
    if wanted is not None:
        out.print(f"partial, without a mean: {len(scores.sequences)} of {wanted} videos scored")
    if scores.sequences:
        out.print(_grid(scores, means=wanted is None).terminal())
    elif wanted is None:
        out.print(ON_THE_SERVER)
    if scores.fps is not None:
        rate = f"{scores.fps:.1f} frames a second, one video at a time"
        out.print(f"{rate}, on {place_of(device)}")


def _grid(scores: Scores, *, means: bool) -> Grid:
    """Lay out every object, then with `means` those over all, seen and unseen objects, and strata.

    A stratum has its number of objects in place of an object's id.
    """
    rows = [
        [video.name, str(number), *_three(score.j, score.f)]
        for video in scores.sequences
        for number, score in video.objects.items()
    ]
    if means:
        rows.append(["mean", "", *_three(scores.j, scores.f)])
    if means and (four := scores.seen_unseen):
        for kind in ("seen", "unseen"):
            rows.append([kind, "", *_three(four[f"j_{kind}"], four[f"f_{kind}"])])
        rows.append(["G, mean of the four", "", "", "", f"{four['g']:.3f}"])
    if means:
        rows += [[part.name, str(part.objects), *_three(part.j, part.f)] for part in strata(scores)]
    return Grid(["video", "object", "J", "F", "J&F"], rows)


def _three(j: float, f: float) -> list[str]:
    return [f"{value:.3f}" for value in (j, f, (j + f) / 2)]
