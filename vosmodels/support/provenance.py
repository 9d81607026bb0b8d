"""What a figure needs beside it: which code made it, on which machine, by which command, when."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

RESULTS = "sweeps/results"  # figures are no code: a new one changes no commit


def commit() -> str:
    """Short hash of the code that runs, with + where files differ from it; unknown outside git."""
    here = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        head = git("rev-parse", "--short=7", "HEAD")
        tracked = ("--untracked-files=no", "--", ".", f":(exclude){RESULTS}")
        changed = git("status", "--porcelain", *tracked)
    except FileNotFoundError:  # no git here
        return "unknown"
    return f"{head}{'+' if changed else ''}" if head else "unknown"


def machine() -> str:
    """Cores this process may use, processor, GPUs, and torch."""
    import torch  # here: results are read and printed without it

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    cores = f"{len(os.sched_getaffinity(0))} cores of {processor()}"
    return ", ".join([cores, *gpus, f"torch {torch.__version__}"])


def processor() -> str:
    """The processor's name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text() if info.is_file() else "")
    return found[1].strip() if found else platform.processor() or platform.machine()


def command_line(module: str, arguments: Sequence[str]) -> str:
    """The command as it would be typed again."""
    return shlex.join(["python", "-m", module, *arguments])


def today() -> str:
    """The date, as 2026-01-31."""
    return datetime.now(UTC).strftime("%Y-%m-%d")
