"""Store a sweep of tiny checkpoints, one weight each, and the soup of it: no MLflow, no video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from orchestrator.config import RunConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.config.loading import run_of
from orchestrator.tracking.events import Checkpoint, Done, Souped, Started
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from soups import recipe, records
from soups.records import SoupRecord
from soups.search import Ingredient, greedy
from soups.sources import from_ledger
from tests.stores import sweep_config, trial_job
from vosmodels import checkpoint
from vosmodels.evaluation.scores import ObjectScore, Scores, SequenceScore

VIDEOS = ("ant", "bee", "cat")


@dataclass(frozen=True)
class Nearness:
    """Scores 1 minus the distance of `w` to a target, a little less from video to video."""

    target: float

    def __call__(self, weights: Mapping[str, Tensor]) -> Scores:
        value = 1 - abs(float(weights["w"]) - self.target) / 10
        return of_videos({name: value - 0.01 * n for n, name in enumerate(VIDEOS)})


def of_videos(values: Mapping[str, float]) -> Scores:
    """Scores of one object a video, J and F the same."""
    return Scores(
        tuple(
            SequenceScore(name, {1: ObjectScore((value,), (value,))})
            for name, value in values.items()
        )
    )


class Pantry:
    """Trials 0 and 1 of a sweep from a stem, as lists of (step, weight)."""

    def __init__(
        self,
        folder: Path,
        runs: Sequence[Sequence[tuple[int, float]]],
        *,
        stem: float | None = 0.0,
        target: float = 0.4,
    ) -> None:
        self.storage = Storage(folder / "storage")
        self.ledger = Ledger(self.storage.root)
        sweep = sweep_config(self.storage.root)
        self.config: RunConfig = run_of(sweep)
        self.sweep, self.score = sweep_id(sweep), Nearness(target)
        self.stem = "0" * 64
        if stem is not None:
            self.stem = self._write(stem, None, 0, {})[1]
        self.shas: list[list[str]] = []
        for number, run in enumerate(runs):
            job, started = trial_job(self.ledger, sweep, number, f"k{number}")
            shas = []
            with job.claim():
                job.write(started)
                for step, value in run:
                    jf = self.score({"w": torch.tensor(value)}).jf
                    path, sha256 = self._write(value, self.stem, step, {"jf": jf})
                    relative = path.relative_to(self.storage.root).as_posix()
                    event = Checkpoint(step, sha256, relative, {"jf": jf}, ancestor=self.stem)
                    job.write(event)
                    shas.append(sha256)
                job.write(Done(1.0))
            self.shas.append(shas)

    def cook(self) -> SoupRecord:
        """Search, write the soup and its job, and find the record."""
        pool = from_ledger(self.storage, self.config, self.sweep, ()).ingredients
        return write_soup(self.storage, self.config, pool, self.score, self.sweep)

    def _write(
        self, value: float, ancestor: str | None, step: int, scores: Mapping[str, float]
    ) -> tuple[Path, str]:
        info = recipe.info_of(self.config.student, ancestor=ancestor, step=step, scores=scores)
        weights = {"w": torch.tensor([value])}
        return checkpoint.write(self.storage.checkpoints, weights, info)


def write_soup(
    storage: Storage,
    config: RunConfig,
    pool: Sequence[Ingredient],
    score: Callable[[Mapping[str, Tensor]], Scores],
    sweep: str = "s",
) -> SoupRecord:
    """Write the greedy soup of a pool and its job, as `recipe.make_soup` does; find its record."""
    soup = greedy(pool, score)
    info = recipe.info_of(
        config.student,
        ancestor=pool[0].ancestor,
        step=max(ingredient.step for ingredient in soup.ingredients),
        scores={"jf": soup.score},
    )
    path, sha256 = checkpoint.write(storage.checkpoints, soup.weights, info)
    scores = {"jf": soup.score, "best_single_jf": soup.score, "uniform_jf": soup.score}
    names = [ingredient.name for ingredient in soup.ingredients]
    job = Ledger(storage.root).job("soup")
    with job.claim():
        values = config.model_dump(mode="json")
        job.write(Started("soup", "soup", sweep, values, pool[0].ancestor, config.name))
        job.write(Souped("pool", names, [asdict(turn) for turn in soup.decisions], scores))
        relative = path.relative_to(storage.root).as_posix()
        job.write(Checkpoint(info.step, sha256, relative, info.scores, ancestor=info.ancestor))
        job.write(Done(1.0))
    return records.find(str(path), None)
