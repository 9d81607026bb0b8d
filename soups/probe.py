"""Score weights on the beginnings of some videos: a number in seconds, not the score of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.config.models import ModelConfig
from orchestrator.execution.scoring import Scorer, segmenters_of, student_of
from orchestrator.planning.protocol import PROBED_FRAMES
from soups.geometry import Error, measure
from soups.search import Ingredient, Settle, Soup
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


def measured(
    soup: Soup,
    ingredients: Sequence[Ingredient],
    scorer: Scorer,
    model: ModelConfig | None,
    settle: Settle | None = None,
) -> dict[str, Any]:
    """Measure what is in a soup with its first ingredient, and the first try that is not in it.

    model: of the weights; None: no barriers, which take a network. The stem counts where its file
    is in storage. settle: as in `soups.search.greedy`. Returns what `geometry.measure` does.
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
    storage, ancestor = scorer.storage, tried[first.sha256].ancestor
    stem = storage.checkpoint(ancestor) if ancestor else None
    if stem:
        storage.mirror.fetch(stem)
    return measure(
        tried[first.sha256],
        list(others.values()),
        stem=partial(checkpoint.read_tensors, stem) if stem and stem.is_file() else None,
        error=error_of(scorer, model) if model else None,
        settle=settle,
    )


def _is_scored(video: ScoredVideo, stride: int) -> bool:
    """Return whether a visited frame after the first has a mask to compare with."""
    visited = visited_frames(video, stride)
    return any(n in video.judged for n in visited[1 : None if video.last_counts else -1])


def error_of(scorer: Scorer, model: ModelConfig) -> Error | None:
    """Return 1 - J&F of weights on the beginnings of the scorer's videos; None without any.

    model: whose weights they are. Height, rows and stride are those of the scorer's protocol.
    """
    protocol = scorer.protocol
    videos = beginnings(scorer.videos, protocol.stride)
    if not videos:
        return None
    return lambda weights: (
        1
        - evaluate(
            segmenters_of(student_of(model, weights), protocol.rows),
            videos,
            height=protocol.height,
            stride=protocol.stride,
        ).jf
    )
