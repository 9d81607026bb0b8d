"""List what a soup is compared with: single checkpoints, other averages, views and an ensemble."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from orchestrator.tracking.events import Checkpoint, Started
from orchestrator.tracking.storage import Storage
from soups.average import average_of
from soups.records import Member, SoupRecord, jobs_of
from soups.scoring import Weights
from soups.worth.baselines import model_stock, wise_ft
from soups.worth.rows import BEST, ROWS, SOUP
from vosmodels.inference.ensemble import View

Load = Callable[[], Weights]
Settle = Callable[[Weights], Weights]

MEANS = ("tail", "uniform", "line", "stock")  # rows whose weights are a mean, made here

ALPHAS = (0.25, 0.5, 0.75)
LARGER = 1.25  # scale of the second view of `scales`
FLIP, SCALES = (View(), View(flipped=True)), (View(), View(scale=LARGER))


@dataclass(frozen=True)
class Entrant:
    """A row of the comparison: networks, whose predictions are averaged over the views.

    key: one of ROWS; kind: what it is with any soup; of: with this one; loads: reads the weights of
    each network; sha256: of a row that is one checkpoint; alpha: its place on the line from stem
    (0) to best (1).
    """

    key: str
    kind: str
    loads: Sequence[Load]
    of: str = ""
    sha256: str | None = None
    views: tuple[View, ...] = (View(),)
    alpha: float | None = None

    @property
    def name(self) -> str:
        """Return the row's name."""
        return name_of([self])

    @property
    def passes(self) -> int:
        """Count the passes of a network over a frame."""
        return len(self.loads) * len(self.views)


def name_of(entrants: Sequence[Entrant]) -> str:
    """Name a row of one soup or several: its counts are listed, names of checkpoints left out."""
    kind, of = entrants[0].kind, list(dict.fromkeys(entrant.of for entrant in entrants))
    if len(of) == 1:
        return f"{kind} {of[0]}".strip()
    if all(text.isdigit() for text in of):
        return f"{kind} {', '.join(entrant.of for entrant in entrants)}"
    return kind.rstrip(":")


@dataclass(frozen=True)
class Run:
    """A training run of the pool, with its checkpoints by step."""

    key: str
    name: str
    checkpoints: Sequence[Checkpoint]
    averaged: bool

    def member(self, event: Checkpoint) -> Member:
        """Return a checkpoint of the run as a record would name it."""
        return Member(f"{self.name} step {event.step}", event.sha256)


def runs_of(storage: Storage) -> Mapping[str, Run]:
    """Map the sha256 of each trial's checkpoint in the ledger to its run."""
    found: dict[str, Run] = {}
    for job in jobs_of(storage, "trial"):
        started = job.of(Started)[0]
        events = sorted(job.checkpoints(), key=lambda event: event.step)
        averaged = bool(started.config.get("train", {}).get("ema"))
        run = Run(job.key, started.name, events, averaged)
        for event in events:
            found.setdefault(event.sha256, run)
    return found


def best_of(members: Sequence[Member], scores: Mapping[Member, float | None]) -> Member:
    """Return the member with the highest score, ties by sha256; the first where none has one."""
    scored = {m: score for m in members if (score := scores.get(m)) is not None}
    return min(scored, key=lambda m: (-scored[m], m.sha256)) if scored else members[0]


def entrants(
    record: SoupRecord,
    known: Callable[[str], float | None],
    rows: Sequence[str] = ROWS,
    settle: Settle | None = None,
) -> tuple[list[Entrant], list[str]]:
    """List the rows of a comparison, and why a row that was asked for is not among them.

    known: the score of a sha256 by the protocol that chose; where it is None the ledger's counts;
    rows: keys of ROWS; BEST is always there; settle: what the soup's search did to every mean,
    which the means of other rows get too. Raises InputError that names every checkpoint of them
    that is gone, before anything is scored.
    """
    parts = _Parts.of(record, known)
    lacking = parts.lacking(record)
    wanted = [key for key in ROWS if key in {*rows, BEST} and key not in lacking]
    asked = parts.asked
    members = list(dict.fromkeys(member for key in wanted for member in asked[key]))
    load = dict(zip(members, record.loads(members), strict=True))
    found = [_settled(each, settle) for key in wanted for each in parts.made(key, load)]
    return found, [f"no row {key!r}: {why}" for key, why in lacking.items() if key in rows]


@dataclass(frozen=True)
class _Parts:
    """The checkpoints that the rows are made of.

    run: that trained the best; tail: its checkpoints in the second half of its steps; champions:
    the pool's best of every run.
    """

    soup: Member
    stem: Member
    best: Member
    run: Run | None
    tail: Sequence[Member]
    pool: Sequence[Member]
    taken: Sequence[Member]
    champions: Sequence[Member]

    @classmethod
    def of(cls, record: SoupRecord, known: Callable[[str], float | None]) -> _Parts:
        """Find them in a record and the ledger that it lies in."""
        runs, pool = runs_of(record.storage), list(dict.fromkeys(record.pool))
        scores = {member: _score_of(member, runs, known) for member in pool}
        best = best_of(pool, scores)
        by_run: dict[str, list[Member]] = {}
        for member in pool:
            if run := runs.get(member.sha256):
                by_run.setdefault(run.key, []).append(member)
        run = runs.get(best.sha256)
        events = run.checkpoints if run else []
        return cls(
            soup=Member("the soup", record.file.sha256),
            stem=Member("the stem", record.file.ancestor or ""),
            best=best,
            run=run,
            tail=[run.member(e) for e in events if e.step * 2 > events[-1].step] if run else [],
            pool=pool,
            taken=list(dict.fromkeys(record.members)),
            champions=[best_of(members, scores) for members in by_run.values()],
        )

    @property
    def last(self) -> list[Member]:
        """Return the last checkpoint of the best one's run, if that is known."""
        return [self.run.member(self.run.checkpoints[-1])] if self.run else []

    @property
    def asked(self) -> Mapping[str, Sequence[Member]]:
        """Map each row to the checkpoints that it takes."""
        return {
            "stem": [self.stem],
            "line": [self.stem],
            BEST: [self.best],
            SOUP: [self.soup],
            "last": self.last,
            "tail": self.tail,
            "uniform": self.pool,
            "stock": [self.stem, *self.champions],
            "flip": [self.best],
            "scales": [self.best],
            "all": self.taken,
        }

    def lacking(self, record: SoupRecord) -> dict[str, str]:
        """Say of each row that cannot be made why."""
        lacking: dict[str, str] = {}
        if self.run is None:
            lacking |= dict.fromkeys(
                ("last", "tail"), "the ledger here has no run that trained the best checkpoint"
            )
        elif len(self.tail) < 2:
            lacking["tail"] = "its run has fewer than two checkpoints in its second half"
        if not self.stem.sha256 or record.place(self.stem.sha256) is None:
            why = f"the stem, sha256 {self.stem.sha256 or 'unknown'}, is not here"
            lacking |= dict.fromkeys(("stem", "line", "stock"), why)
        elif len(self.champions) < 2:
            lacking["stock"] = "the pool is of one run, and the angle is between runs"
        if len(self.taken) < 2:
            lacking["all"] = "the soup is a single checkpoint"
        return lacking

    def made(self, key: str, load: Mapping[Member, Load]) -> list[Entrant]:
        """Make the entrants of a row, from what reads its checkpoints."""
        single = [load[self.best]]
        if key == "stem":
            return [Entrant(key, "stem", [load[self.stem]], sha256=self.stem.sha256, alpha=0.0)]
        if key == BEST:
            name, sha256 = self.best.name, self.best.sha256
            return [Entrant(key, "best single:", single, name, sha256, alpha=1.0)]
        if key == "last":
            (last,) = self.last
            averaged = ", of averaged weights" if self.run and self.run.averaged else ""
            kind = f"last checkpoint of its run{averaged}:"
            return [Entrant(key, kind, [load[last]], last.name, last.sha256)]
        if key == "tail":
            kind, count = "average of its run's second half,", str(len(self.tail))
            return [Entrant(key, kind, [_mean(self.tail, load)], count)]
        if key == "uniform":
            count = str(len(self.pool))
            return [Entrant(key, "uniform soup of all", [_mean(self.pool, load)], count)]
        if key == SOUP:
            count = str(len(self.taken))
            return [Entrant(key, "greedy soup of", [load[self.soup]], count, self.soup.sha256)]
        if key == "line":
            ends = (load[self.stem], load[self.best])
            return [
                Entrant(key, f"line from stem to best, {a:g}", [partial(_line, *ends, a)], alpha=a)
                for a in ALPHAS
            ]
        if key == "stock":
            kind, count = "Model Stock of the best of each run,", str(len(self.champions))
            tuned = [load[member] for member in self.champions]
            return [Entrant(key, kind, [partial(_stock, load[self.stem], tuned)], count)]
        if key == "flip":
            return [Entrant(key, "best single and its mirrored view", single, views=FLIP)]
        if key == "scales":
            return [Entrant(key, f"best single and a view {LARGER:g}x", single, views=SCALES)]
        kind, count = "ensemble of the soup's", str(len(self.taken))
        return [Entrant(key, kind, [load[member] for member in self.taken], count)]


def _score_of(
    member: Member, runs: Mapping[str, Run], known: Callable[[str], float | None]
) -> float | None:
    score = known(member.sha256)
    if score is not None or member.sha256 not in runs:
        return score
    events = runs[member.sha256].checkpoints
    return next((e.scores.get("jf") for e in events if e.sha256 == member.sha256), None)


def _settled(entrant: Entrant, settle: Settle | None) -> Entrant:
    if settle is None or entrant.key not in MEANS:
        return entrant
    return replace(entrant, loads=[partial(_apply, settle, load) for load in entrant.loads])


def _apply(settle: Settle, load: Load) -> Weights:
    return settle(load())


def _mean(members: Sequence[Member], load: Mapping[Member, Load]) -> Load:
    return partial(average_of, [load[m] for m in members], [m.name for m in members])


def _line(stem: Load, best: Load, alpha: float) -> Weights:
    return wise_ft(stem(), best(), alpha)


def _stock(stem: Load, tuned: Sequence[Load]) -> Weights:
    return model_stock(stem(), [load() for load in tuned])
