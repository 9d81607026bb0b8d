"""A comparison for a terminal and for the README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from orchestrator.reporting.results import shortfall
from orchestrator.reporting.seeds import SeedRow, SeedTable
from vosmodels.evaluation.bootstrap import LEVEL
from vosmodels.evaluation.boundary_errors import DISTANCES
from vosmodels.support.grid import Grid

MIN_SEEDS = 3  # below that a row says how many it has
FEW = 5  # videos: an interval over no more than these says little


def show(comparison: SeedTable) -> None:
    """Print the tables of scores and of boundary errors."""
    out = Console(highlight=False, soft_wrap=True, width=max(210, Console().width))
    lines = comparison.lines()
    for grid in (_scores(comparison, lines), _boundary(lines)):
        if grid:
            out.print(grid.terminal())


def markdown(comparison: SeedTable, picture: str | None = None) -> str:
    """For the README: the tables, every difference by video, and where each run comes from.

    picture: a path to the figure, as seen from the README.
    """
    lines = comparison.lines()
    scores = _scores(comparison, lines)
    notes = [note.replace("FAILED", "**FAILED**") for note in scores.notes]
    parts = [replace(scores, notes=notes).markdown()]
    if errors := _boundary(lines):
        parts.append(errors.markdown())
    if picture:
        parts.append(f"![{comparison.name}]({picture})")
    if by_video := _videos(lines):
        parts.append("<details><summary>Differences by video</summary>")
        parts += [by_video.markdown(), "</details>"]
    return "\n\n".join([*parts, *_addresses(comparison)])


BOUNDARY_NOTE = (
    "Share of the wrong pixels of all scored frames and seeds within so many px of the true "
    "boundary, and of those added, where they were counted, the others being missed; wrong pixels "
    "per object and frame."
)


def _title(comparison: SeedTable) -> str:
    runs = [comparison.runs[seed] for seed in sorted(comparison.runs)]
    return f"{comparison.name}: {runs[-1].protocol}" if runs else f"{comparison.name}: no seed yet"


def _scores(comparison: SeedTable, lines: Sequence[SeedRow]) -> Grid:
    """Lay out scores with their spread, and differences to the baseline."""
    reported = comparison.split == "report"
    head = ["row", "seeds", "step", "J", "F", "J&F"] + ["report J", "F", "J&F"] * reported
    head += ["seconds", "difference", f"{LEVEL:.0%} interval", "videos + / - / 0"]
    rows = []
    most = max([MIN_SEEDS, len(comparison.runs)])
    for line in lines:
        count = len(line.seeds)
        cells = [line.mean.name, str(count) if count == most else f"{count} of {most} seeds"]
        cells.append(", ".join(map(str, dict.fromkeys(line.steps))))
        for split in ("select", "report") if reported else ("select",):
            cells += [_score(line, split, measure) for measure in ("j", "f", "jf")]
        cells.append("" if line.mean.seconds is None else f"{line.mean.seconds:.0f}")
        rows.append([*cells, *_difference(line)])
    return Grid(head, rows, _title(comparison), _notes(comparison, lines))


def _score(line: SeedRow, split: str, measure: str) -> str:
    scores = getattr(line.mean, split)
    if measure not in scores:
        return ""
    spread = line.spread.get((split, measure))
    return f"{scores[measure]:.3f}" + ("" if spread is None else f" ± {spread:.3f}")


def _difference(line: SeedRow) -> list[str]:
    paired = line.difference
    if paired is None:
        return ["", "", ""]
    signs = " / ".join(map(str, paired.signs))
    return [f"{paired.mean:+.3f}", f"{paired.low:+.3f} to {paired.high:+.3f}", signs]


def _notes(comparison: SeedTable, lines: Sequence[SeedRow]) -> list[str]:
    means = [line.mean for line in lines]
    notes = [shortfall(means)] if shortfall(means) else []
    compared = [line for line in lines if line.difference]
    if not compared:
        return notes
    names = " or ".join(dict.fromkeys(str(line.mean.baseline) for line in compared))
    counts = {len(line.difference.per_sequence) for line in compared if line.difference}
    seeds = {line.difference.seeds for line in compared if line.difference}
    drawn = "videos" if seeds == {1} else "videos and seeds"
    text = (
        f"± is the standard deviation over seeds. Differences in {comparison.split} J&F are to "
        f"{names}, from the same seed, on {max(counts)} videos; their interval is a paired "
        f"bootstrap over {drawn}."
    )
    if max(counts) <= FEW:
        text += " Over so few videos it says little."
    if max(seeds) < MIN_SEEDS:
        text += f" {max(seeds)} of {MIN_SEEDS} seeds: what another seed would change is not known."
    return [*notes, text]


def _boundary(lines: Sequence[SeedRow]) -> Grid | None:
    """Shares of wrong pixels near the true boundary, and of those the object does not have, unless
    all reports are older than that count; None where nothing was counted."""
    found = [(line.mean.name, line.mean.report.get("boundary")) for line in lines]
    counted = [(name, counts) for name, counts in found if counts and counts["wrong"]]
    kinds = {str(d): f"within {d} px" for d in DISTANCES}
    if any("added" in counts for _, counts in counted):
        kinds["added"] = "added"
    rows = []
    for name, counts in counted:
        shares = [f"{counts[k] / counts['wrong']:.1%}" if k in counts else "" for k in kinds]
        rows.append([name, *shares, f"{counts['wrong'] / counts['masks']:.0f}"])
    if not rows:
        return None
    return Grid(["report", *kinds.values(), "wrong px"], rows, notes=[BOUNDARY_NOTE])


def _videos(lines: Sequence[SeedRow]) -> Grid | None:
    found = [(line.mean.name, line.difference) for line in lines if line.difference]
    videos = dict.fromkeys(video for _, paired in found for video in paired.per_sequence)
    rows = [
        [
            video,
            *(f"{p.per_sequence[video]:+.3f}" if video in p.per_sequence else "" for _, p in found),
        ]
        for video in videos
    ]
    return Grid(["video", *(name for name, _ in found)], rows) if rows else None


def _addresses(comparison: SeedTable) -> list[str]:
    made = []
    for seed in sorted(comparison.runs):
        run = comparison.runs[seed]
        trained = sum(row.seconds or 0.0 for row in run.rows)
        made.append(
            f"seed {seed}: `{run.command}` · commit {run.commit} · {run.machine} · {run.placement} "
            f"· jobs {trained / 60:.1f} min in all · {run.date}"
        )
    return made
