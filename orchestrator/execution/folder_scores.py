"""Score a checkpoint on the videos of a folder, and write its masks."""

from __future__ import annotations

from pathlib import Path

from orchestrator.config.sections import DataConfig
from orchestrator.execution.scoring import segmenters_of
from orchestrator.planning.datasets import sequences, unscorable_videos
from vosmodels.checkpoint import load_model
from vosmodels.data.files import unusable
from vosmodels.data.masks import write_palette
from vosmodels.evaluation.runner import evaluate
from vosmodels.evaluation.scores import Scores
from vosmodels.support.memory import keep_freed_memory
from vosmodels.types import U8


def score_checkpoint(
    path: Path, data: DataConfig, split: str, *, rows: int | None = None, out: Path | None = None
) -> Scores:
    """Score the checkpoint at `path` on a split, every frame at full size.

    rows: rows the network sees, None for all; out: folder for the masks as palette PNG, in the
    layout of the benchmark. Raises InputError on a broken checkpoint, folder or split.
    """
    keep_freed_memory()
    segmenters = segmenters_of(load_model(path), rows)
    problems = unscorable_videos(data, split, stride=1)
    if problems:
        raise unusable(Path(data.root), split, problems)
    videos = sequences(data, split)
    by_name = {video.name: video for video in videos}

    def write(name: str, number: int, ids: U8) -> None:
        answer = by_name[name].answer(number)
        if out is not None and answer is not None:
            (out / answer).parent.mkdir(parents=True, exist_ok=True)
            write_palette(out / answer, ids)

    return evaluate(segmenters, videos, on_mask=write if out else None)
