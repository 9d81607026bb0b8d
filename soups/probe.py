"""Score weights on the beginnings of some videos: a number in seconds, not the score of a split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from orchestrator.config.models import ModelConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution.scoring import segmenters_of, student_of
from orchestrator.planning.protocol import PROBED_FRAMES, scored_videos
from orchestrator.tracking.storage import Storage
from soups.geometry import measure
from soups.scoring import SetScorer, Weights
from soups.search import Ingredient, Settle, Soup
from soups.speculative import Try, Workers, answers
from vosmodels import checkpoint
from vosmodels.data.frames import visited_frames
from vosmodels.evaluation.runner import evaluate
from vosmodels.types import U8, ScoredVideo

LEAST = 4  # frames of a video: one is given, and what is scored should have moved


@dataclass(frozen=True)
class Beginning:
    """The first `count` frames of a video, with the objects of its first mask."""

    video: ScoredVideo
    count: int

    @property
    def name(self) -> str:
        """Return the video's name."""
        return self.video.name

    @property
    def ids(self) -> Sequence[int]:
        """Return the ids of the first frame."""
        return self.video.ids

    def __len__(self) -> int:
        return self.count

    def frame(self, index: int) -> U8:
        """Read frame `index`, as the video does."""
        return self.video.frame(index)

    def mask(self, index: int) -> U8:
        """Read the ids of frame `index`, as the video does."""
        return self.video.mask(index)

    @property
    def begins(self) -> Mapping[int, int]:
        """Map the objects of frame 0 to it; those that begin later are left out."""
        return {number: first for number, first in self.video.begins.items() if first == 0}

    @property
    def judged(self) -> Sequence[int]:
        """Return the frames with a whole mask, ascending."""
        return [number for number in self.video.judged if number < self.count]

    @property
    def last_counts(self) -> bool:
        """Return whether the last frame is scored: it is, where the video goes on."""
        return self.video.last_counts or self.count < len(self.video)

    @property
    def unseen(self) -> frozenset[int] | None:
        """Return the objects of categories not in training; None if unknown."""
        return self.video.unseen

    def answer(self, index: int) -> Path | None:
        """Return the path of the frame's mask in an answer to the benchmark."""
        return self.video.answer(index)


def beginnings(
    videos: Sequence[ScoredVideo], stride: int, frames: int = PROBED_FRAMES
) -> list[ScoredVideo]:
    """Return beginnings of as many videos as possible that visit at most `frames` frames together.

    Every `stride`-th frame is visited, and of each video the same number, at least LEAST, unless
    it is shorter. Videos without a scored frame at their beginning are left out.
    """
    each = max(LEAST, frames // max(1, len(videos)))
    short = [Beginning(v, min(len(v), (each - 1) * stride + 1)) for v in videos]
    usable = [video for video in short if _is_scored(video, stride)]
    return list(usable[: frames // each])


@dataclass(frozen=True)
class Error:
    """1 - J&F of weights of a model on the beginnings of a protocol's videos.

    Height, rows and stride are the protocol's.
    """

    model: ModelConfig
    protocol: ScoringProtocol

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process open the videos anew."""
        return (Error, (self.model, self.protocol))

    def __call__(self, weights: Weights) -> float:
        """Score weights."""
        protocol = self.protocol
        segmenters = segmenters_of(student_of(self.model, weights), protocol.rows)
        scores = evaluate(segmenters, self.videos, height=protocol.height, stride=protocol.stride)
        return 1 - scores.jf

    @cached_property
    def videos(self) -> Sequence[ScoredVideo]:
        """Return what is scored; nothing where no beginning has a frame to score."""
        return beginnings(scored_videos(self.protocol), self.protocol.stride)


def measured(
    soup: Soup,
    ingredients: Sequence[Ingredient],
    storage: Storage,
    error: Error | None,
    workers: Workers | None = None,
    settle: Settle | None = None,
) -> dict[str, Any]:
    """Measure what is in a soup with its first ingredient, and the first try that is not in it.

    The stem counts where its file is in storage. error: of weights; None: no barriers. workers:
    measure several errors at a time; None: this process. settle: as in `soups.search.greedy`.
    Returns what `geometry.measure` does.
    """
    tried = {ingredient.sha256: ingredient for ingredient in ingredients}
    first = soup.decisions[0]
    taken = {ingredient.sha256 for ingredient in soup.ingredients}
    refused = next((turn for turn in soup.decisions if turn.sha256 not in taken), None)
    others = {
        turn.sha256: (tried[turn.sha256], turn.sha256 in taken)
        for turn in soup.decisions
        if (turn.sha256 in taken or turn is refused) and turn.sha256 != first.sha256
    }
    ancestor = tried[first.sha256].ancestor
    stem = storage.checkpoint(ancestor) if ancestor else None
    if stem:
        storage.mirror.fetch(stem)
    return measure(
        tried[first.sha256],
        list(others.values()),
        stem=partial(checkpoint.read_tensors, stem) if stem and stem.is_file() else None,
        errors=partial(_errors, error, workers) if error and error.videos else None,
        settle=settle,
    )


def _errors(
    error: Error, workers: Workers | None, weights: Sequence[Callable[[], Weights]]
) -> Sequence[float]:
    """Return the errors of weights, which one process or several measure."""
    tries = [Try("barrier", (), None, each) for each in weights]
    found = [answer.value for answer in answers(SetScorer.of(error), tries, workers)]
    return [value for value in found if value is not None]  # none is: nothing is to be beaten


def _is_scored(video: ScoredVideo, stride: int) -> bool:
    """Return whether a visited frame after the first has a mask to compare with."""
    visited = visited_frames(video, stride)
    return any(n in video.judged for n in visited[1 : None if video.last_counts else -1])
