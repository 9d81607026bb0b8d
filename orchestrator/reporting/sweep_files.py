"""Write the figures of a finished sweep, and the scores of its strata, as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

from orchestrator.execution.scoring import FIRST_FRAME_COPY, Scorer
from orchestrator.planning.plan import Job
from orchestrator.planning.trials import Trial, short_names
from orchestrator.reporting.best import best_of
from orchestrator.reporting.response_figures import (
    Measured,
    draw_parallel,
    draw_response,
    numbered_key,
)
from orchestrator.reporting.results import BASELINE, COPY, Row
from orchestrator.reporting.split_scores import Split
from orchestrator.reporting.sweep_figures import Cost, draw_costs, draw_losses, draw_masks
from orchestrator.reporting.sweep_table import SweepTable
from orchestrator.tracking.events import Picture
from orchestrator.tracking.mlflow_names import csv_table
from vosmodels import registry
from vosmodels.data.frames import scaled_frame, visited_frames
from vosmodels.evaluation import strata
from vosmodels.inference.video_need import video_need
from vosmodels.support.atomic_files import write_whole

POINT = "point"  # the axis of `sweep.points` in figures


def write_files(table: SweepTable, rows: Sequence[Row], folder: Path) -> dict[str, Path]:
    """Write figures and the scores of strata of a finished sweep to a folder.

    rows: of this sweep, the soup's included. Returns by name the files of what there was to show:
    `response` (J&F by swept key), `parallel` (the same of three keys and more), `masks` (of the
    best row), `losses` of the trials, `costs` of the rows, and `strata` as CSV.
    """
    sweep, best = table.plan.sweep, best_of(rows)
    paths = {
        name: folder / f"{sweep}-{name}.png"
        for name in ("response", "parallel", "masks", "losses", "costs")
    }
    paths["strata"] = folder / f"{sweep}-strata.csv"
    records = ((job.name, table.ledger.job(job.key)) for job in table.plan.trials)
    trials, title = measured(table, rows), f"best {best}"
    placed = {job.name for job, _ in _placed(table)}
    levels = {
        row.name: row.scores["select"].jf
        for row in [r for r in rows if r.role == BASELINE and r.sha256][-1:]
        + [r for r in rows if r.role == "teacher"]
        + [r for r in rows if r.role == "trial" and r.name not in placed]
        if "select" in row.scores
    }
    there = {
        "response": draw_response(trials, paths["response"], title=title, levels=levels),
        "parallel": draw_parallel(trials, paths["parallel"], title=title),
        "masks": best is not None and _draw_masks(table, best.point.best, paths["masks"]),
        "losses": draw_losses({n: record.losses() for n, record in records}, paths["losses"]),
        "costs": draw_costs(
            costs(table, rows), paths["costs"], where="scoring select, beside other jobs"
        ),
    }
    if lines := strata_of(table, rows):
        write_whole(paths["strata"], csv_table(lines).encode())
    there["strata"] = bool(lines)
    return {name: path for name, path in paths.items() if there[name]}


def measured(table: SweepTable, rows: Sequence[Row]) -> list[Measured]:
    """Return the scored trials with the values that they vary, by the short names of the keys.

    Points that set one key to several numbers stand over that key, and those that do not set it
    are none of these trials; other points stand side by side.
    """
    scored = {row.name: row.scores["select"].jf for row in rows if "select" in row.scores}
    keys = dict.fromkeys(key for trial in table.plan.points for key in trial.values)
    names = short_names(keys)
    found = []
    points, numbered = table.config.sweep.points, numbered_key(table.config.sweep.points)
    for job, trial in _placed(table):
        if job.name in scored:
            values = {names[key]: value for key, value in trial.values.items()}
            if points:
                own = [*([numbered] if numbered else []), *table.config.sweep.parameters]
                values = {names[key]: trial.values[key] for key in own}
                if not numbered:
                    values = {POINT: _point(trial, list(points)), **values}
            found.append(Measured(values, trial.seed_index, scored[job.name]))
    return found


def _placed(table: SweepTable) -> list[tuple[Job, Trial]]:
    """Pair the trials with their places, without points that do not set what the others number."""
    numbered = numbered_key(table.config.sweep.points)
    pairs = zip(table.plan.trials, table.plan.points, strict=True)
    return [(job, trial) for job, trial in pairs if not numbered or numbered in trial.values]


def _point(trial: Trial, points: Sequence[str]) -> str:
    """Name the point that a trial is of: the longest that its name begins with."""
    return max((p for p in points if f"{trial.name} ".startswith(f"{p} ")), key=len)


def _draw_masks(table: SweepTable, row: Row, path: Path) -> bool:
    """Draw the masks that were predicted at a row's checkpoint, if there are any; tell whether."""
    job = next(job for job in table.plan.trials if job.name == row.name)
    pictures = table.ledger.job(job.key).of(Picture)
    found = [e for e in pictures if e.kind == Picture.kind and e.step == row.step]
    if not found or not (picture := table.storage.root / found[-1].path).is_file():
        return False
    strip = table.select.strip()
    title = (
        f"{row.name}, step {row.step}: video {strip.sequence.name}, the first mask is given\n"
        "above: predicted, below: the truth"
    )
    draw_masks(picture, path, title=title, frames=strip.shown)
    return True


def strata_of(table: SweepTable, rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return the scores of each row on each stratum of each split, as flat fields."""
    lines = []
    scorers: dict[Split, Scorer | None] = {"select": table.select, "report": table.report}
    for split, scorer in scorers.items():
        for row in rows:
            name = FIRST_FRAME_COPY if row.name == COPY else row.sha256
            if scorer is None or name is None or split not in row.scores:
                continue
            if scores := scorer.known(name):
                for part in strata.strata(scores):
                    values = asdict(part)
                    whose = {"split": split, "row": row.name, "role": row.role}
                    lines.append({**whose, "stratum": values.pop("name"), **values})
    return lines


def costs(table: SweepTable, rows: Sequence[Row]) -> list[Cost]:
    """Return what the rows with weights and select scores cost on the videos of select."""
    models = {entry.event.sha256: entry.job.model for entry in table.entries()}
    videos = table.select.videos
    objects = max(len(video.begins) for video in videos)
    longest = max(videos, key=len)
    h, w = scaled_frame(longest, 0, table.select.protocol.height).shape[:2]
    frames = len(visited_frames(longest, table.select.protocol.stride))

    @cache
    def mib(name: str, options: str) -> float:
        need = video_need(registry.outline(name, **json.loads(options)), objects)
        return need.of(h, w, frames) / 2**20

    found = []
    for row in rows:
        if row.sha256 is None or "select" not in row.scores:
            continue
        model = models.get(row.sha256, table.plan.trials[0].model)  # a soup is of the trials
        memory = mib(model.name, json.dumps(model.options, sort_keys=True))
        known = table.select.known(row.sha256)
        fps = known.fps if known else None
        found.append(Cost(row.name, row.role, row.scores["select"].jf, memory, fps))
    return found
