"""Time candidates against each other in interleaved rounds, and report them."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from vosmodels.evaluation.speed.timing import ProcessPeak
from vosmodels.support import provenance
from vosmodels.support.atomic_files import write_json

Clock = Literal["cpu", "wall"]


@dataclass(frozen=True)
class Timing:
    """Seconds of each round. cpu: of this process, all threads, no children; wall: by the clock."""

    cpu: list[float]
    wall: list[float]

    def median(self, clock: Clock = "cpu") -> float:
        return float(median(getattr(self, clock)))

    def spread(self, clock: Clock = "cpu") -> tuple[float, float]:
        """The fastest and the slowest round."""
        return min(getattr(self, clock)), max(getattr(self, clock))

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: every round, and of both clocks median_s, min_s and max_s."""
        made: dict[str, Any] = {"cpu": self.cpu, "wall": self.wall}
        for clock in ("cpu", "wall"):
            low, high = self.spread(clock)
            made |= {f"{clock}_median_s": self.median(clock)}
            made |= {f"{clock}_min_s": low, f"{clock}_max_s": high}
        return made


def rounds(
    candidates: Mapping[str, Callable[[], object]], count: int = 5, *, warm: bool = True
) -> Mapping[str, Timing]:
    """Call every candidate once a round, `count` times; a slow spell of the machine meets all.

    The order turns by one place each round, so that none always follows the same neighbour.
    warm: call each once before, untimed.
    Raises ValueError where there is nothing to time.
    """
    if not candidates or count < 1:
        raise ValueError(f"{len(candidates)} candidates, {count} rounds: at least 1 of each")
    names = list(candidates)
    timings = {name: Timing([], []) for name in names}
    for name in names if warm else ():
        candidates[name]()
    for turn in range(count):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            wall, cpu = time.perf_counter(), time.process_time()
            candidates[name]()
            timings[name].cpu.append(time.process_time() - cpu)
            timings[name].wall.append(time.perf_counter() - wall)
    return timings


def parsed(
    module: str, argv: Sequence[str] | None, *, count: int, peaks: Collection[str] = ()
) -> argparse.Namespace:
    """Parse the arguments of a benchmark: rounds (default `count`), out and peak.

    Adds `command`, the command line to type again. peaks: candidates that `--peak` may name.
    """
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("--rounds", type=int, default=count, metavar="N", help=f"default: {count}")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.set_defaults(peak=None)
    if peaks:
        parser.add_argument("--peak", choices=[*peaks], help="print the MiB one candidate takes")
    args = parser.parse_args(arguments)
    args.command = provenance.command_line(module, arguments)
    return args


def print_peak(run: Callable[[], object]) -> int:
    """Print the MiB that one call takes, for `--peak`; return the exit code."""
    with ProcessPeak() as memory:
        run()
    print(memory.peak / 2**20)
    return 0


def fresh_peak(module: str, name: str) -> float:
    """Measure the MiB of a benchmark's candidate in a new process, by `--peak`.

    In a process that has worked before, freed memory would hide the peak.
    """
    command = [sys.executable, "-m", module, "--peak", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@dataclass(frozen=True)
class Claim:
    """A promise of a benchmark: `value` is at least `target`, or at most if `at_most`."""

    name: str
    value: float
    target: float
    at_most: bool = False

    @property
    def holds(self) -> bool:
        return self.value <= self.target if self.at_most else self.value >= self.target


def report(
    benchmark: str,
    command: str,
    timings: Mapping[str, Timing],
    claims: Sequence[Claim],
    *,
    out: Path | None = None,
) -> bool:
    """Print rounds and claims; write the same as JSON to `out`. True where every claim holds."""
    made = {
        "benchmark": benchmark,
        "command": command,
        "commit": provenance.commit(),
        "machine": provenance.machine(),
        "date": provenance.today(),
        "rows": [{"name": name, **timing.as_dict()} for name, timing in timings.items()],
        "claims": [asdict(claim) | {"holds": claim.holds} for claim in claims],
    }
    print(f"{command} · commit {made['commit']} · {made['machine']} · {made['date']}")
    for name, timing in timings.items():
        print(f"{name}: {_told(timing, 'cpu')}; {_told(timing, 'wall')}; {len(timing.cpu)} rounds")
    for claim in claims:
        bound = "at most" if claim.at_most else "at least"
        verdict = "holds" if claim.holds else "MISSED"
        print(f"{claim.name}: {claim.value:.2f}, {bound} {claim.target:g}: {verdict}")
    if out is not None:
        write_json(out, made)
    return all(claim.holds for claim in claims)


def _told(timing: Timing, clock: Clock) -> str:
    low, high = timing.spread(clock)
    return f"{clock} {timing.median(clock):.4g} s ({low:.4g}..{high:.4g})"
