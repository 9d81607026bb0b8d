"""Lay out a table of several seeds, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.reporting.results import BASELINE, STEM, Results, shortfall
from orchestrator.reporting.seeds import SeedRow, SeedTable
from orchestrator.reporting.split_scores import MEASURES, SPLITS, Measure, Split, SplitScores
from orchestrator.reporting.strata import by_objects
from vosmodels.evaluation.bootstrap import LEVEL
from vosmodels.evaluation.boundary_errors import DISTANCES
from vosmodels.support.grid import Grid, screen

MIN_SEEDS = 3  # a row with fewer says how many it has
FEW = 5  # videos: an interval over so many or fewer is called weak
BOUNDARY_NOTE = (
    "Share of wrong pixels within N px of the true boundary, pooled over frames and seeds; "
    "wrong px: wrong pixels per object and frame."
)
ADDED_NOTE = " Added: share of false positives; the other wrong pixels are misses."


def show_sweep(results: Results, *, whole: bool = False) -> None:
    """Print the table of a sweep: a row a trial, or a row a point with its spread over repeats.

    whole: of trials J&F by number of objects too, where videos differ in it.
    """
    if not results.repeated:
        out = screen(columns=120)
        out.print(results.grid().terminal())
        if whole and (objects := results.by_objects()):
            out.print(objects.terminal())
        return
    show(SeedTable.of_repeats(results))
    for row in results.rows:
        if row.note:
            print(f"{row.name}: {row.note}")


def sweep_markdown(results: Results) -> str:
    """Return the table of a sweep for a README, as `show_sweep` prints it."""
    if not results.repeated:
        return results.markdown()
    return markdown(SeedTable.of_repeats(results))


def show(table: SeedTable) -> None:
    """Print the scores, those by number of objects, and the boundary errors that were counted."""
    out = screen(columns=210)
    rows = table.rows()
    for grid in (_scores(table, rows), _by_objects(table, rows), _errors(rows)):
        if grid:
            out.print(grid.terminal())


def figures_beside(results: Path) -> tuple[Path, Path]:
    """Return the figures beside a table's file: its panels, and J&F over a key."""
    return results.with_suffix(".png"), results.with_name(f"{results.stem}-response.png")


def markdown(table: SeedTable, pictures: Sequence[str] = ()) -> str:
    """Return all tables, every difference by video, and the provenance of each run.

    pictures: paths of the figures, relative to the README.
    """
    rows = table.rows()
    scores = _scores(table, rows)
    notes = [note.replace("FAILED", "**FAILED**") for note in scores.notes]
    parts = [replace(scores, notes=notes).markdown()]
    for grid in (_by_objects(table, rows), _errors(rows)):
        if grid:
            parts.append(grid.markdown())
    parts += [f"![{table.name}]({picture})" for picture in pictures]
    if videos := _differences_by_video(rows):
        parts.append("<details><summary>Differences by video</summary>")
        parts += [videos.markdown(), "</details>"]
    return "\n\n".join([*parts, *_provenance(table)])


def _scores(table: SeedTable, rows: Sequence[SeedRow]) -> Grid:
    """Lay out means with their spread, and differences to the baseline."""
    splits = SPLITS if table.split == "report" else SPLITS[:1]
    head = ["row", f"{table.unit}s", "step", "J", "F", "J&F"]
    head += ["report J", "F", "J&F"] if "report" in splits else []
    head += ["seconds", "difference", f"{LEVEL:.0%} interval", "videos + / - / 0"]
    full = max(MIN_SEEDS, len(table.runs))
    lines = []
    for row in rows:
        count = len(row.seeds)
        cells = [row.mean.name, str(count) if count == full else f"{count} of {full} {table.unit}s"]
        cells.append(", ".join(map(str, dict.fromkeys(row.steps))))
        cells += [_score(row, split, measure) for split in splits for measure in MEASURES]
        cells.append("" if row.mean.seconds is None else f"{row.mean.seconds:.0f}")
        lines.append([*cells, *_difference(row)])
    return Grid(head, lines, _title(table), _notes(table, rows))


def _title(table: SeedTable) -> str:
    if not table.runs:
        return f"{table.name}: no seed yet"
    return f"{table.name}: {table.runs[max(table.runs)].protocol}"


def _score(row: SeedRow, split: Split, measure: Measure) -> str:
    scores = row.mean.scores.get(split)
    if scores is None:
        return ""
    spread = row.spread.get((split, measure))
    return f"{scores.means[measure]:.3f}" + ("" if spread is None else f" ± {spread:.3f}")


def _difference(row: SeedRow) -> list[str]:
    paired = row.difference
    if paired is None:
        return ["", "", ""]
    signs = " / ".join(map(str, paired.signs))
    return [f"{paired.mean:+.3f}", f"{paired.low:+.3f} to {paired.high:+.3f}", signs]


def _notes(table: SeedTable, rows: Sequence[SeedRow]) -> list[str]:
    """Explain spread and differences, and say where they cannot carry a conclusion."""
    failure = shortfall([row.mean for row in rows])
    notes = [failure] if failure else []
    notes += _findings(table, rows)
    compared = [(row.mean.baseline, row.difference) for row in rows if row.difference]
    if not compared:
        return notes
    names = " or ".join(dict.fromkeys(str(baseline) for baseline, _ in compared))
    videos = max(len(paired.per_sequence) for _, paired in compared)
    seeds = max(paired.seeds for _, paired in compared)
    unit = table.unit
    resampled = "videos" if seeds == 1 else f"videos and {unit}s"
    text = (
        f"± is the standard deviation over {unit}s. Differences in {table.split} J&F are to "
        f"{names}, from the same {unit}, on {videos} videos; their interval is a paired "
        f"bootstrap over {resampled}."
    )
    if unit == "repeat":
        text += " All repeats are from one stem: what another stem would change is not known."
    if videos <= FEW:
        text += " Over so few videos it says little."
    if seeds < MIN_SEEDS:
        text += f" {seeds} of {MIN_SEEDS} {unit}s: what another {unit} would change is not known."
    return [*notes, text]


def _findings(table: SeedTable, rows: Sequence[SeedRow]) -> list[str]:
    """Say which trials are above their stem, and above their baseline, from every seed."""
    trials = [row.mean for row in rows if row.mean.role == "trial"]
    stems = [r.mean.name for r in rows if r.mean.role == BASELINE and r.mean.name.startswith(STEM)]
    pairs = [(stem, [trial.name for trial in trials]) for stem in stems if len(stems) == 1]
    for baseline in dict.fromkeys(trial.baseline for trial in trials if trial.baseline):
        pairs.append((baseline, [trial.name for trial in trials if trial.baseline == baseline]))
    found = []
    for other, names in pairs if len(table.runs) >= MIN_SEEDS else ():
        ahead = table.ahead(names, other)
        said = f"{', '.join(ahead)} {'are' if len(ahead) > 1 else 'is'}" if ahead else "no trial is"
        found.append(f"From every {table.unit} {said} above {other!r} by {table.split} J&F.")
    return found


def _by_objects(table: SeedTable, rows: Sequence[SeedRow]) -> Grid | None:
    """Lay out J&F on the split of the differences, by the number of objects in a video."""
    scores: dict[str, list[SplitScores]] = {row.mean.name: [] for row in rows}
    for run in table.runs.values():
        for row in run.rows:
            if table.split in row.scores:
                scores[row.name].append(row.scores[table.split])
    return by_objects(scores, table.split)


def _errors(rows: Sequence[SeedRow]) -> Grid | None:
    """Lay out shares of wrong pixels near the boundary and of false positives.

    None where nothing was counted; no column of false positives where no row has counted them.
    """
    counts = {
        row.mean.name: row.mean.scores["report"].errors
        for row in rows
        if "report" in row.mean.scores
    }
    counted = [(name, errors) for name, errors in counts.items() if errors and errors.wrong]
    if not counted:
        return None
    added = any(errors.added is not None for _, errors in counted)
    lines = []
    for name, errors in counted:
        kinds = [errors.within.get(distance) for distance in DISTANCES]
        kinds += [errors.added] if added else []
        shares = ["" if count is None else f"{count / errors.wrong:.1%}" for count in kinds]
        lines.append([name, *shares, f"{errors.wrong / errors.masks:.0f}"])
    head = ["report", *(f"within {distance} px" for distance in DISTANCES)]
    head += ["added"] if added else []
    note = BOUNDARY_NOTE + (ADDED_NOTE if added else "")
    return Grid([*head, "wrong px"], lines, notes=[note])


def _differences_by_video(rows: Sequence[SeedRow]) -> Grid | None:
    """Lay out every row's differences to its baseline, one column per row.

    None where no row was compared.
    """
    compared = [(row.mean.name, row.difference.per_sequence) for row in rows if row.difference]
    videos = dict.fromkeys(video for _, differences in compared for video in differences)
    lines = [
        [video, *(f"{d[video]:+.3f}" if video in d else "" for _, d in compared)]
        for video in videos
    ]
    return Grid(["video", *(name for name, _ in compared)], lines) if lines else None


def _provenance(table: SeedTable) -> list[str]:
    """Name the command, code, machine and time of each seed's run; repeats are of one run."""
    lines = []
    for number in sorted(table.runs)[: 1 if table.unit == "repeat" else None]:
        run = table.runs[number]
        trained = sum(row.seconds or 0.0 for row in run.rows)
        seed = run.config.get("seed", number)
        lines.append(
            f"seed {seed}: `{run.command}` · commit {run.commit} · {run.machine} · {run.placement} "
            f"· jobs {trained / 60:.1f} min in all · {run.date}"
        )
    return lines
