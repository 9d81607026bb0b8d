"""Score a checkpoint on the videos of a folder, and write its masks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.config.data import DataConfig
from orchestrator.execution.scoring import segmenters_of
from orchestrator.planning.datasets import check_names, sequences, unscorable_videos
from vosmodels.checkpoint import load_model
from vosmodels.data.files import unusable
from vosmodels.data.masks import write_palette
from vosmodels.errors import InputError
from vosmodels.evaluation.runner import evaluate
from vosmodels.evaluation.scores import PartialScores, Scores
from vosmodels.memory_rule import MemoryRule
from vosmodels.model import VideoModel
from vosmodels.support.memory import keep_freed_memory
from vosmodels.types import U8, ScoredVideo


def score_checkpoint(
    path: Path,
    data: DataConfig,
    split: str,
    *,
    rows: int | None = None,
    memory: MemoryRule | None = None,
    device: str = "cpu",
    out: Path | None = None,
) -> Scores:
    """Score the checkpoint at `path` on a split, every frame at full size.

    rows: rows the network sees, None for all; memory: in place of the model's own rule; device:
    of torch, where the network runs; out: folder for the masks as palette PNG, in the layout of the
    benchmark. Raises InputError that names what is wrong with checkpoint, folder and split;
    PartialScores where videos fail while they are run, whose masks are then not in `out`.
    """
    keep_freed_memory()
    model, videos = _opened(path, data, split)
    if memory:
        model.check_memory(memory)
    answers = None if out is None else _Answers(out, videos)
    try:
        return evaluate(
            segmenters_of(model.to(device), rows, memory),
            videos,
            on_mask=answers.write if answers else None,
        )
    except PartialScores as partial:
        if answers is not None:
            answers.remove(partial.failed)
        raise


def _opened(path: Path, data: DataConfig, split: str) -> tuple[VideoModel, Sequence[ScoredVideo]]:
    """Load the checkpoint and open the videos. Raises InputError with the problems of both."""
    problems = []
    try:
        check_names(data)
        if unscorable := unscorable_videos(data, split, stride=1):
            raise unusable(Path(data.root), split, unscorable)
        videos = sequences(data, split)
    except InputError as error:
        problems.append(str(error))
    try:
        model = load_model(path)
    except InputError as error:
        problems.append(str(error))
    if problems:
        raise InputError("; ".join(problems))
    return model, videos


class _Answers:
    """The predicted masks of videos, as files in a benchmark's layout below `out`."""

    def __init__(self, out: Path, videos: Sequence[ScoredVideo]) -> None:
        self._out = out
        self._videos = {video.name: video for video in videos}
        self._written: dict[str, list[Path]] = {name: [] for name in self._videos}

    def write(self, name: str, number: int, ids: U8) -> None:
        """Write the mask of a frame, if the benchmark wants one. Raises InputError."""
        answer = self._videos[name].answer(number)
        if answer is None:
            return
        path = self._out / answer
        self._written[name].append(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_palette(path, ids)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); free space, or give another --out"
            ) from error

    def remove(self, names: Sequence[str]) -> None:
        """Remove the masks of videos that were not followed to their end."""
        for path in (path for name in names for path in self._written[name]):
            with suppress(OSError):  # one that could not be written
                path.unlink()
        for folder in {path.parent for name in names for path in self._written[name]}:
            with suppress(OSError):  # not empty, or absent
                folder.rmdir()
