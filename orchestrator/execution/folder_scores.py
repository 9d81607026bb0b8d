"""Score a network on the videos of a folder, and write its masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.config.data import DataConfig
from orchestrator.execution.scoring import Segmenters, segmenters_of
from orchestrator.planning.datasets import check_names, sequences, unscorable_videos
from vosmodels.checkpoint import load_model
from vosmodels.data.files import unusable
from vosmodels.data.masks import write_palette
from vosmodels.errors import InputError
from vosmodels.evaluation.runner import evaluate
from vosmodels.evaluation.scores import PartialScores, Scores
from vosmodels.export.fitted import FittedSegmenter
from vosmodels.export.sidecar import open_folder
from vosmodels.memory_rule import MemoryRule
from vosmodels.support.memory import keep_freed_memory
from vosmodels.types import U8, ScoredVideo


def score_videos(
    network: Callable[[], Segmenters], data: DataConfig, split: str, *, out: Path | None = None
) -> Scores:
    """Score a network on a split, every frame at full size.

    network: `checkpoint_segmenters` or `exported_segmenters` of it; out: folder for the masks as
    palette PNG, in the layout of the benchmark. Raises InputError that names what is wrong with
    network, folder and split; PartialScores where videos fail while they are run, whose masks are
    then not in `out`.
    """
    keep_freed_memory()
    segmenters, videos = _opened(network, data, split)
    answers = None if out is None else _Answers(out, videos)
    try:
        return evaluate(segmenters, videos, on_mask=answers.write if answers else None)
    except PartialScores as partial:
        if answers is not None:
            answers.remove(partial.failed)
        raise


def checkpoint_segmenters(
    path: Path, *, rows: int | None, memory: MemoryRule | None, device: str
) -> Segmenters:
    """Return a maker of segmenters that run the checkpoint at `path`.

    rows: rows the network sees, None for all; memory: in place of the model's own rule; device:
    of torch. Raises InputError on a checkpoint that cannot be read, UsageError on a memory that
    the model does not take.
    """
    model = load_model(path)
    if memory:
        model.check_memory(memory)
    return segmenters_of(model.to(device), rows, memory)


def exported_segmenters(folder: Path) -> Segmenters:
    """Return a maker of segmenters that run the graphs of an exported folder.

    Raises InputError on a folder that is not a whole export.
    """
    _, runner = open_folder(folder)
    return lambda: FittedSegmenter(runner)


def _opened(
    network: Callable[[], Segmenters], data: DataConfig, split: str
) -> tuple[Segmenters, Sequence[ScoredVideo]]:
    """Load the network and open the videos. Raises InputError with the problems of both."""
    problems = []
    try:
        check_names(data)
        if unscorable := unscorable_videos(data, split, stride=1):
            raise unusable(Path(data.root), split, unscorable)
        videos = sequences(data, split)
    except InputError as error:
        problems.append(str(error))
    try:
        segmenters = network()
    except InputError as error:
        problems.append(str(error))
    if problems:
        raise InputError("; ".join(problems))
    return segmenters, videos


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
