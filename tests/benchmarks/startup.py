"""Time until a command prints its help or refuses a wrong command line.

`python -m tests.benchmarks.startup` starts every command in a process of its own, on every command
line of tests/misuse.py. The seconds are user and system time of that process, which a busy machine
stretches less than its wall time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests import misuse
from tests.benchmarks.rounds import Claim, Timing, parsed, report

MODULE = "tests.benchmarks.startup"
TARGET = 0.7  # s of CPU at most, the median of the rounds
TREE = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 where every command line is answered soon and rightly, else 1."""
    args = parsed(MODULE, argv, count=3)
    cases = misuse.cases()
    timings = {case.name: Timing([], []) for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        misuse.write_files(Path(folder))
        for _ in range(args.rounds):
            for case in cases:
                code, cpu, wall = answer(case, Path(folder))
                if code != case.code:
                    print(f"{case.name}: exit code {code}, not {case.code}")
                    return 1
                timings[case.name].cpu.append(cpu)
                timings[case.name].wall.append(wall)
    claims = []
    for command in misuse.COMMANDS:
        names = [case.name for case in cases if case.module == command]
        slowest = max(names, key=lambda name: timings[name].median())
        median = timings[slowest].median()
        claims.append(Claim(f"CPU s of {slowest}, its slowest", median, TARGET, at_most=True))
    return 0 if report("startup", args.command, timings, claims, out=args.out) else 1


def answer(case: misuse.Misuse, folder: Path) -> tuple[int, float, float]:
    """Exit code, CPU seconds and wall seconds of one command line in a new process."""
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", case.module, *case.words],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(TREE)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait for it again
    return child.returncode, usage.ru_utime + usage.ru_stime, wall


if __name__ == "__main__":
    sys.exit(main())
