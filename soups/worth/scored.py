"""Score the rows of a comparison by one protocol; each is scored once and kept in storage."""

from __future__ import annotations

from dataclasses import asdict

import torch

from orchestrator.config.content_key import digest
from orchestrator.config.models import ModelConfig
from orchestrator.execution.scoring import Scorer, Segmenters, segmenters_of, student_of
from soups.average import NoMean
from soups.probe import beginnings
from soups.worth.entrants import Entrant
from vosmodels.errors import InputError
from vosmodels.evaluation.runner import evaluate
from vosmodels.evaluation.scores import Scores
from vosmodels.inference.ensemble import Ensemble
from vosmodels.inference.fold import for_inference
from vosmodels.inference.scaled import ScaledSegmenter
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.model import VideoModel

TIMED = 16  # frames by which costs are measured


class RowScorer:
    """Score rows by the protocol of a Scorer, which keeps the scores.

    threads: on the CPU, of which the last bits of scores depend.
    """

    def __init__(self, scorer: Scorer, model: ModelConfig, threads: int) -> None:
        self.scorer, self._model, self._threads = scorer, model, threads
        self._single_s: float | None = None

    def score(self, entrant: Entrant) -> Scores:
        """Score a row, or read its saved scores.

        A checkpoint's are those that every other command takes. Other weights, and rows of several
        passes, are known by the content of their networks, and their views.
        """
        torch.set_num_threads(self._threads)
        if entrant.sha256 is not None:
            return self.scorer.checkpoint(entrant.sha256, lambda: self._models(entrant)[0])
        models = self._models(entrant)
        contents = [self.scorer.content(model) for model in models]
        if entrant.passes == 1 and (twin := self.scorer.twin(contents[0])):
            return twin.scores
        name = digest(["row", contents, [asdict(view) for view in entrant.views]])
        scores = self.scorer.known(name)
        if scores is None:
            scores = self._run(self._segmenters(entrant, models), whole=True)
            self.scorer.save(name, scores)
        return scores

    def cost(self, entrant: Entrant) -> float:
        """Return the seconds a frame takes, relative to the row's first network in one view.

        Both are timed here and now, on the same few frames.
        """
        torch.set_num_threads(self._threads)
        models = self._models(entrant)
        if self._single_s is None:
            one = segmenters_of(models[0], self.scorer.protocol.rows)
            self._single_s = self._seconds(one)
        return self._seconds(self._segmenters(entrant, models)) / self._single_s

    def _models(self, entrant: Entrant) -> list[VideoModel]:
        try:
            return [student_of(self._model, load()) for load in entrant.loads]
        except NoMean as error:  # it names the checkpoints
            raise InputError(f"{entrant.name}: cannot be averaged: {error}") from error

    def _segmenters(self, entrant: Entrant, models: list[VideoModel]) -> Segmenters:
        rows = self.scorer.protocol.rows
        if entrant.passes == 1:
            return segmenters_of(models[0], rows)
        together = Ensemble([for_inference(model) for model in models], entrant.views)
        if rows is None:
            return lambda: VideoSegmenter(together)
        return lambda: ScaledSegmenter(VideoSegmenter(together), rows)

    def _seconds(self, segmenters: Segmenters) -> float:
        fps = self._run(segmenters, whole=False).fps
        return 1 / fps if fps else float("nan")

    def _run(self, segmenters: Segmenters, *, whole: bool) -> Scores:
        protocol, videos = self.scorer.protocol, self.scorer.videos
        if not whole:
            videos = beginnings(videos, protocol.stride, TIMED) or videos
        return evaluate(segmenters, videos, height=protocol.height, stride=protocol.stride)
