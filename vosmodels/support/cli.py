"""What every command shares: exit codes, one-line errors, --json, --debug, logging, interrupts."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vosmodels.errors import InputError, UsageError
from vosmodels.types import FEWEST_ROWS

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
OURS = ("orchestrator", "vosmodels", "soups")
# Libraries that tell at INFO or WARNING what a person running a command need not know.
QUIET = ("mlflow", "alembic")
EXISTS = {"file": Path.is_file, "folder": Path.is_dir, "file or folder": Path.exists}

Result = Mapping[str, Any] | None
Work = Callable[[argparse.Namespace], Result]


class CommandFailed(Exception):
    """The command has said what went wrong; `result` still goes to --json."""

    def __init__(self, result: Result = None) -> None:
        super().__init__("failed")
        self.result = result


def parser(
    module: str, description: str, example: str, *, tracking: bool = False
) -> argparse.ArgumentParser:
    """A parser with the options that all commands have; its help ends with a real example.

    module: as in `python -m module`; tracking: whether the command reads or writes MLflow.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    made.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    if tracking:
        made.add_argument(
            "--tracking-uri",
            metavar="URI",
            help="MLflow store; default: $MLFLOW_TRACKING_URI, else results/mlflow.db",
        )
    return made


def check_rows(rows: int | None) -> None:
    """Raise UsageError for a --height that a network cannot see."""
    if rows is not None and rows < FEWEST_ROWS:
        raise UsageError(f"--height {rows}: rows for the network to see, {FEWEST_ROWS} or more")


def check_exists(path: Path, kind: str, remedy: str) -> None:
    """Raise InputError where no `kind` of EXISTS lies at `path`.

    A command asks before it loads the libraries that read the path, which takes seconds.
    """
    if not EXISTS[kind](path):
        raise InputError(f"{path}: no such {kind}; {remedy}")


def run(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    work: Work,
    *,
    resume: str = "run the same command again to start over",
) -> int:
    """Parse, work, print; the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    work     does the command and returns what --json prints; it prints its own tables, if not
             args.json, on stdout, and progress on stderr
    resume   what to do after Ctrl-C
    """
    try:
        args = parser.parse_intermixed_args(argv)  # options may stand between key=value
    except SystemExit as ended:  # argparse has printed its help or its complaint
        return int(ended.code or 0)
    with _logging(args.debug):
        try:
            result = work(args)
        except CommandFailed as failed:
            _print(args, failed.result)
            return FAILED
        except UsageError as error:
            return _complain(args, error, USAGE)
        except InputError as error:
            return _complain(args, error, FAILED)
        except KeyboardInterrupt:
            print(f"interrupted; what is done is kept: {resume}", file=sys.stderr)
            return INTERRUPTED
        except Exception as error:  # the boundary: a person gets a line, --debug the rest
            return _complain(args, f"{type(error).__name__}: {error}", FAILED, hint=True)
    _print(args, result)
    return DONE


def _complain(
    args: argparse.Namespace, error: Exception | str, code: int, hint: bool = False
) -> int:
    if args.debug:
        traceback.print_exc()
    text = str(error) if code == USAGE else " ".join(str(error).split())
    tail = "; --debug shows where" if hint and not args.debug else ""
    print(f"error: {text}{tail}", file=sys.stderr)
    return code


def _print(args: argparse.Namespace, result: Result) -> None:
    if args.json and result is not None:
        print(json.dumps(result, indent=1, sort_keys=True))


@contextmanager
def _logging(debug: bool) -> Iterator[None]:
    """Our own loggers write to stderr while the command runs; the root logger stays as it is."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    before = {name: logging.getLogger(name).level for name in (*OURS, *QUIET)}
    for name in OURS:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
        logging.getLogger(name).addHandler(handler)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.NOTSET if debug else logging.ERROR)
    try:
        yield
    finally:
        for name in OURS:
            logging.getLogger(name).removeHandler(handler)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
