"""Score sets of checkpoints on the select videos, and keep the scores beside the others.

Kept are the scores of each video, in one file of `scores/` for each set, so that a search again
scores nothing twice, nor one of a larger pool.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from orchestrator.config.content_key import digest
from orchestrator.config.models import ModelConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution.scoring import Scorer, segmenters_of, student_of
from orchestrator.planning.placement import cores
from orchestrator.planning.protocol import protocol_key, scored_videos
from orchestrator.tracking import sweep_settings
from orchestrator.tracking.storage import Storage
from soups.bagging import Bag, Bags
from soups.scoring import Members, SetScorer, Weights
from soups.search import Ingredient, Settle, mean_of
from soups.speculative import Try, Workers, answers
from vosmodels.data.frames import visited_frames
from vosmodels.errors import InputError
from vosmodels.evaluation.runner import evaluate
from vosmodels.evaluation.scores import ObjectScore, Scores, SequenceScore
from vosmodels.support.atomic_files import read_json, write_json
from vosmodels.types import ScoredVideo

logger = logging.getLogger(__name__)

VERSION = 1  # raised when a set has another mean than before

Score = Callable[[ScoredVideo], Scores]  # of one video, empty where none of its frames is scored
Open = Callable[[Weights], Score]
PERFECT = ObjectScore((1.0,), (1.0,))


def threads_of(storage: Storage, sweep: str) -> int:
    """Return the CPU threads that checkpoints of a sweep and their means are scored on.

    Those of its jobs, so that scores made there and here are equal; one where no sweep of this name
    ran here, so that any number of workers finds the same.
    """
    return sweep_settings.threads_of(storage, sweep) or 1


def take_threads(storage: Storage, sweep: str, workers: int) -> int:
    """Let this process score on the threads of a sweep; return them.

    Tells how many workers would take all cores.
    """
    threads = threads_of(storage, sweep)
    torch.set_num_threads(threads)
    if (most := cores() // threads) > workers:
        logger.info(
            "scoring on %d of %d cores, with the threads of the sweep; --workers %d finds the same "
            "soup on all of them",
            *(threads * workers, cores(), most),
        )
    return threads


@dataclass(frozen=True)
class Network:
    """Open weights as the network that they are of."""

    student: ModelConfig
    protocol: ScoringProtocol

    def __call__(self, weights: Weights) -> Score:
        """Build the network with these weights; return what scores a video by it."""
        protocol = self.protocol
        segmenters = segmenters_of(student_of(self.student, weights), protocol.rows)
        return lambda video: evaluate(
            segmenters, [video], height=protocol.height, stride=protocol.stride
        )


@dataclass(frozen=True)
class SelectVideos:
    """The select videos as `scoring.Sequences`; a part holds the Scores of one video.

    objects: ids by video, which the score of any weights on these videos has; None while none is
    known, before which nothing stops early; names: in the order in which videos are scored; counts:
    how often each video counts, and none that is not there; None: each once.
    """

    protocol: ScoringProtocol
    opening: Open
    names: tuple[str, ...]
    objects: Mapping[str, tuple[int, ...]] | None = None
    counts: Mapping[str, int] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process open the videos anew."""
        return (SelectVideos, (self.protocol, self.opening, self.names, self.objects, self.counts))

    @classmethod
    def of(cls, protocol: ScoringProtocol, opening: Open) -> SelectVideos:
        """Take all videos of a protocol, as they are listed."""
        return cls(protocol, opening, tuple(video.name for video in scored_videos(protocol)))

    def as_in(self, scores: Scores) -> SelectVideos:
        """Take the videos and objects of a whole score, and first those that lacked most.

        What candidates lose on them shows soonest that they cannot win.
        """
        lacks = {
            each.name: times * len(each.objects) * (1 - each.jf)
            for each in scores.sequences
            if (times := self._times(each.name))
        }
        names = sorted(lacks, key=lambda name: -lacks[name])
        objects = {each.name: tuple(each.objects) for each in scores.sequences}
        return replace(self, names=tuple(names), objects=objects)

    def counted(self, scores: Scores) -> Scores:
        """Return a whole score with each video as often as it counts here."""
        return Scores(self._listed({each.name: (each,) for each in scores.sequences}))

    def opened(self, weights: Weights) -> Callable[[str], Scores]:
        """Return what scores a video by these weights."""
        videos = {video.name: video for video in self._videos}
        score = self.opening(weights)
        return lambda name: score(videos[name])

    def total(self, parts: Mapping[str, Scores]) -> Scores:
        """Return the scores of all videos, as they are listed, with their frames a second."""
        seconds = {
            video.name: len(visited_frames(video, self.protocol.stride)) / fps
            for video in self._videos
            if (fps := parts[video.name].fps if video.name in parts else None)
        }
        frames = sum(seconds[name] * (parts[name].fps or 0) for name in seconds)
        fps = frames / sum(seconds.values()) if seconds else None
        return Scores(self._listed({name: each.sequences for name, each in parts.items()}), fps)

    def at_most(self, parts: Mapping[str, Scores]) -> float:
        """Return J&F if every frame of the other videos were perfect.

        It is computed as J&F is, from as many numbers of which none is lower: it rounds no lower.
        """
        if self.objects is None:
            return float("inf")
        found: dict[str, Sequence[SequenceScore]] = {
            name: (SequenceScore(name, dict.fromkeys(ids, PERFECT)),)
            for name, ids in self.objects.items()
        }
        found |= {name: each.sequences for name, each in parts.items()}
        return Scores(self._listed(found)).jf

    def _listed(self, parts: Mapping[str, Sequence[SequenceScore]]) -> tuple[SequenceScore, ...]:
        return tuple(
            each
            for video in self._videos
            for each in tuple(parts.get(video.name, ())) * self._times(video.name)
        )

    def _times(self, name: str) -> int:
        return 1 if self.counts is None else self.counts.get(name, 0)

    @cached_property
    def _videos(self) -> Sequence[ScoredVideo]:
        return scored_videos(self.protocol)


@dataclass(frozen=True)
class KeptParts:
    """The scores of the videos by set of checkpoints, as files of a storage folder.

    settled: names what was done to the means of sets besides averaging; of one checkpoint nothing.
    """

    storage: Storage
    protocol: ScoringProtocol
    student: ModelConfig
    settled: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process open the videos anew."""
        return (KeptParts, (self.storage, self.protocol, self.student, self.settled))

    def read(self, members: Members) -> dict[str, Scores]:
        """Return what is kept of a set; of a single checkpoint also what its training kept."""
        if len(set(members)) == 1 and (whole := self._scorer.known(members[0])):
            by_name = {sequence.name: (sequence,) for sequence in whole.sequences}
            return {
                video.name: Scores(by_name.get(video.name, ()), whole.fps)
                for video in self._scorer.videos
            }
        path = self._path(members)
        self.storage.mirror.fetch(path)
        try:
            return {name: Scores.from_dict(part) for name, part in (read_json(path) or {}).items()}
        except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())
            logger.warning("%s: not the scores that were saved (%s); scoring anew", path, reason)
            return {}

    def write(self, members: Members, parts: Mapping[str, Any]) -> None:
        """Keep the scores of the videos of a set."""
        path = self._path(members)
        write_json(path, {name: part.as_dict() for name, part in parts.items()})
        self.storage.mirror.push([path])

    def _path(self, members: Members) -> Path:
        settled = [self.settled] if self.settled and len(set(members)) > 1 else []
        parts = ["soup", VERSION, *members, *self._key, *settled]
        return self.storage.scores / f"{digest(parts)}.json"

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self.storage, self.protocol)

    @cached_property
    def _key(self) -> list[Any]:
        return [self.student.name, dict(self.student.options), *protocol_key(self.protocol)]


@dataclass(frozen=True)
class Select:
    """Scores of checkpoints and of their means on the select videos; both are kept.

    workers: score several videos at a time; None: this process. settle: as in
    `soups.search.greedy`, of means.
    """

    scorer: Scorer
    videos: SelectVideos
    parts: KeptParts
    workers: Workers | None = None
    settle: Settle | None = None

    def checkpoints(self, ingredients: Sequence[Ingredient]) -> Generator[Scores]:
        """Score checkpoints, and save the scores where training does."""
        tries = [Try(i.name, (i.sha256,), None, i.load) for i in ingredients]
        found = answers(self._by(self.videos), tries, self.workers)
        for ingredient, answer in zip(ingredients, found, strict=True):
            assert isinstance(answer.scored, Scores)
            if self.scorer.known(ingredient.sha256) is None:
                self.scorer.save(ingredient.sha256, answer.scored)
            yield answer.scored

    def sets(self, best: Scores) -> SetScorer:
        """Return the scorer of sets, which stops early on the videos and objects of a score."""
        return self._by(self.videos.as_in(best))

    def bags(self, bags: Bags, whole: Mapping[str, Scores], best: Scores) -> list[Bag]:
        """Return the bags that are drawn; whole: the scores of the ingredients, by sha256.

        Videos without a scored frame, which the best one shows, are in none.
        """
        found = []
        for counts in bags.draw([sequence.name for sequence in best.sequences]):
            videos = replace(self.videos, counts=counts).as_in(best)
            scores = {sha256: videos.counted(each).jf for sha256, each in whole.items()}
            found.append(Bag(scores, self._by(videos)))
        return found

    def mean(self, ingredients: Sequence[Ingredient]) -> Scores:
        """Score the mean of ingredients."""
        members = tuple(sorted(i.sha256 for i in ingredients))
        uniform = Try("uniform soup", members, None, lambda: mean_of(ingredients, self.settle))
        (answer,) = answers(self._by(self.videos), [uniform], self.workers)
        assert isinstance(answer.scored, Scores)
        return answer.scored

    def _by(self, videos: SelectVideos) -> SetScorer:
        return SetScorer(videos, self.parts)
