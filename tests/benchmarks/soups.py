"""Time the search of a soup on several workers against that of one, and count scores it saves.

`python -m tests.benchmarks.soups`. First with a scorer that sleeps: 71 candidates, 4 of them
accepted. Then with real scoring of a pool of checkpoints on generated videos, if `--pool FOLDER`
names one, on the 2 cores of a machine that does nothing else: two processes of one thread against
one of two threads, and one of one. The two are started before, and how long that takes is printed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from orchestrator.execution.worker_pool import worker_pool
from orchestrator.tracking.storage import Storage
from soups.recipe import make_soup
from soups.search import Ingredient, Soup, greedy
from soups.sources import Pool, config_of_folder, from_folder
from soups.speculative import Executor
from tests.benchmarks.rounds import Claim, Timing, parsed, report, rounds
from vosmodels.support import provenance
from vosmodels.support.atomic_files import read_json
from vosmodels.support.memory import keep_freed_memory

MODULE = "tests.benchmarks.soups"
CANDIDATES, WINNERS = 71, (3, 11, 24, 40)  # places of those that are accepted
WORKERS = (1, 2, 4, 8, 16)
SLEEP_S = 0.05
PROCESSES = 2  # of one thread each
AT_LEAST = 6.0  # times as fast, 16 workers as one


class Sleeping:
    """Scores weights by a count of winners in their mean, and sleeps a while before."""

    def __init__(self) -> None:
        self.scored = 0

    def __call__(self, weights: Mapping[str, Tensor]) -> float:
        self.scored += 1
        time.sleep(SLEEP_S)
        return float(weights["w"].count_nonzero()) if weights["odd"] == 0 else -1.0


def sleeping_pool() -> list[Ingredient]:
    """Checkpoints of which each winner adds a weight, and each other makes the mean worthless."""
    pool = []
    for place in range(CANDIDATES + 1):
        one = torch.zeros(CANDIDATES + 1)
        one[place] = 1.0
        odd = torch.tensor([float(place not in (0, *WINNERS))])
        weights = {"w": one, "odd": odd}
        pool.append(Ingredient(str(place), f"{place:03}", 1.0 - place / 1000, weights.copy))
    return pool


def sleeping(workers: int) -> Soup:
    """Search the sleeping pool on so many threads."""
    with ThreadPoolExecutor(workers) as threads:
        return greedy(sleeping_pool(), Sleeping(), workers, executor=threads)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def real(pool: Pool, folder: Path, count: int, executor: Executor | None = None) -> Made:
    """Make the soup of a folder's pool, whose checkpoints are scored once and for all."""
    config = config_of_folder(folder, pool, "generated", "val")
    known = folder / "scores"
    with tempfile.TemporaryDirectory() as place, threads(count):
        storage = Storage(Path(place))
        if known.is_dir():
            shutil.copytree(known, storage.scores)
        soup = make_soup(
            pool,
            config,
            storage=storage,
            workers=PROCESSES,
            executor=nullcontext(executor) if executor else None,
        )
        files = {path: read_json(path) for path in storage.scores.iterdir()}
        checkpoints = {path: values for path, values in files.items() if "mean" in values}
        videos = max(len(values["sequences"]) for values in checkpoints.values())
        scored = sum(len(values) for path, values in files.items() if path not in checkpoints)
        known.mkdir(exist_ok=True)
        for path in checkpoints:
            shutil.copy(path, known)
        return Made(soup.sha256, soup.decisions, scored, len(pool.ingredients) * videos)


@dataclass(frozen=True)
class Made:
    """A soup: its file, its decisions, and the videos that sets were scored on, of so many."""

    sha256: str
    decisions: Sequence[Mapping[str, object]]
    scored: int
    of: int


def make_ready(folder: Path) -> None:
    """Import in a process what scoring takes, as its first video does."""
    from_folder(folder)


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 where every claim holds, else 1."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--pool", type=Path, metavar="FOLDER")
    own, rest = parser.parse_known_args(arguments)
    args = parsed(MODULE, rest, count=3)
    args.command = provenance.command_line(MODULE, arguments)
    keep_freed_memory()
    soups = {workers: sleeping(workers) for workers in WORKERS}
    for workers, soup in soups.items():
        assert soup.decisions == soups[1].decisions, f"{workers} workers decide otherwise"
    assert len(soups[1].ingredients) == 1 + len(WINNERS)
    candidates: dict[str, Callable[[], object]] = {
        f"sleeping, {workers} workers": partial(sleeping, workers) for workers in WORKERS
    }
    timings: dict[str, Timing] = dict(rounds(candidates, args.rounds, warm=False))
    one = timings["sleeping, 1 workers"].median("wall")
    gains = {w: one / timings[f"sleeping, {w} workers"].median("wall") for w in WORKERS}
    print("times as fast as one worker: " + ", ".join(f"{w}: {g:.1f}" for w, g in gains.items()))
    claims = [Claim("16 workers, times as fast as one", gains[16], AT_LEAST)]
    if own.pool is not None:
        claims += real_claims(own.pool, args.rounds, timings)
    held = report("soups", args.command, timings, claims, out=args.out)
    return 0 if held else 1


def real_claims(folder: Path, count: int, timings: dict[str, Timing]) -> list[Claim]:
    """Time the real searches, add their timings, and tell how many videos they left out."""
    pool, began = from_folder(folder), time.perf_counter()
    with worker_pool(PROCESSES, threads=1) as executor:
        wait([executor.submit(make_ready, folder) for _ in range(PROCESSES)])
        print(
            f"starting {PROCESSES} processes takes {time.perf_counter() - began:.1f} s, not timed"
        )
        kinds = {
            "two processes": partial(real, pool, folder, 1, executor),
            "one of two threads": partial(real, pool, folder, 2),
            "one of one thread": partial(real, pool, folder, 1),
        }
        made = {name: run() for name, run in kinds.items()}
        first = made["one of one thread"]
        for name, each in made.items():
            alike = (each.sha256, each.decisions) == (first.sha256, first.decisions)
            found = "the soup of one thread, bit for bit" if alike else "another soup"
            print(f"{name}: {found}; {each.scored} of {each.of} videos of sets scored")
        timings |= rounds(kinds, count, warm=False)
    two, *ones = (timings[name].median("wall") for name in kinds)
    names = "times as fast as one process of two threads", "times as fast as one of one thread"
    return [
        Claim(f"two processes, {name}", one / two, least)
        for name, one, least in zip(names, ones, (0.95, 1.6), strict=True)
    ]


if __name__ == "__main__":
    raise SystemExit(main())
