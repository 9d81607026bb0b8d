"""Print J and F of every object of a scored set."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from vosmodels.evaluation.scores import ON_THE_SERVER, Scores


def show_scores(scores: Scores, told: str) -> None:
    table = Table(box=None)
    for index, heading in enumerate(("video", "object", "J", "F", "J&F")):
        table.add_column(heading, justify="left" if index == 0 else "right")
    for video in scores.sequences:
        for number, one in video.objects.items():
            three = (f"{value:.3f}" for value in (one.j, one.f, (one.j + one.f) / 2))
            table.add_row(video.name, str(number), *three)
    out = Console(highlight=False, soft_wrap=True)  # paths stay whole
    out.print(told)
    if scores.sequences:
        table.add_row("mean", "", *(f"{value:.3f}" for value in (scores.j, scores.f, scores.jf)))
        if four := scores.seen_unseen:
            for kind in ("seen", "unseen"):
                j, f = four[f"j_{kind}"], four[f"f_{kind}"]
                table.add_row(kind, "", *(f"{value:.3f}" for value in (j, f, (j + f) / 2)))
            table.add_row("G, mean of the four", "", "", "", f"{four['g']:.3f}")
        out.print(table)
    else:
        out.print(ON_THE_SERVER)
    if scores.fps is not None:
        out.print(f"{scores.fps:.1f} frames a second, one video at a time, on this machine's CPU")
