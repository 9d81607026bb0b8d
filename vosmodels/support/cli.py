"""Run a command: exit code, one-line error, --json, --debug, logging, interrupt."""

from __future__ import annotations

import argparse
import json
import logging
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from vosmodels.errors import InputError, UsageError
from vosmodels.memory_rule import GRAMMAR, MemoryRule
from vosmodels.support.paths import expanded
from vosmodels.types import FEWEST_ROWS

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
OURS = ("orchestrator", "vosmodels", "soups")
# Libraries whose messages at INFO and WARNING are of no use to the person running a command.
QUIET = ("mlflow", "alembic")
CPU = "cpu"
DEVICES = {CPU: CPU, "cuda": "cuda(:(0|[1-9][0-9]*))?", "mps": "mps"}  # how each kind is written
EXISTS = {"file": Path.is_file, "folder": Path.is_dir, "file or folder": Path.exists}

Result = Mapping[str, Any] | None
Work = Callable[[argparse.Namespace], Result]


class CommandFailed(Exception):
    """A failure that the command has reported itself; `result` still goes to --json."""

    def __init__(self, result: Result = None) -> None:
        super().__init__("failed")
        self.result = result


def parser(
    module: str, description: str, example: str, *, tracking: bool = False
) -> argparse.ArgumentParser:
    """Build a parser with the options of all commands; its help ends with an example.

    module: as in `python -m module`; tracking: add --tracking-uri, for a command that reads or
    writes MLflow.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    if tracking:
        parser.add_argument(
            "--tracking-uri",
            metavar="URI",
            help="MLflow store; default: $MLFLOW_TRACKING_URI, else results/mlflow.db",
        )
    return parser


def path(text: str) -> Path:
    """Read a path of the command line, with `~` expanded: the `type` of such an argument."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is an empty path")
    try:
        return expanded(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_memory(parser: argparse.ArgumentParser) -> None:
    """Add --memory, the rule by which a model remembers the frames of a video."""
    parser.add_argument(
        "--memory",
        metavar="RULE",
        type=memory_rule,
        help=f"frames that the network remembers: {GRAMMAR}; default: the checkpoint's own rule",
    )


def memory_rule(text: str) -> MemoryRule:
    """Read a memory rule from the command line."""
    try:
        return MemoryRule.of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def size_of(text: str | None) -> tuple[int, int]:
    """Read HEIGHTxWIDTH as (H, W); (0, 0) where it is something else."""
    match = re.fullmatch(r"(\d+)x(\d+)", text or "")
    return (int(match[1]), int(match[2])) if match else (0, 0)


def add_device(parser: argparse.ArgumentParser, kinds: Sequence[str] = tuple(DEVICES)) -> None:
    """Add --device, where the network runs; kinds: those of DEVICES that the command can use."""
    parser.add_argument(
        "--device",
        default=CPU,
        help=f"where the network runs: {_devices_text(kinds)}; default {CPU}",
    )


def check_device(device: str, kinds: Sequence[str] = tuple(DEVICES)) -> None:
    """Raise UsageError on a --device that is none of `kinds`, InputError on one not here.

    Loads torch, which knows the devices, unless it is the CPU.
    """
    if not any(re.fullmatch(DEVICES[kind], device) for kind in kinds):
        raise UsageError(f"--device {device}: {_devices_text(kinds)}")
    if device == CPU:
        return
    import torch

    if device == "mps":
        if not torch.backends.mps.is_available():
            raise InputError("--device mps: torch finds no Metal device here; use --device cpu")
    elif int(device.partition(":")[2] or 0) >= (count := torch.cuda.device_count()):
        raise InputError(
            f"--device {device}: torch finds {count or 'no'} CUDA device{'s' * (count != 1)} here; "
            f"use --device {f'cuda:{count - 1}' if count else CPU}"
        )


def _devices_text(kinds: Sequence[str]) -> str:
    words = [word for kind in kinds for word in (["cuda", "cuda:N"] if kind == "cuda" else [kind])]
    return f"{', '.join(words[:-1])} or {words[-1]}"


def place_of(device: str) -> str:
    """Say where a network ran, in words that follow `on`."""
    return "the CPU" if device == CPU else device


def check_rows(rows: int | None) -> None:
    """Raise UsageError if --height is below the fewest rows a network can take."""
    if rows is not None and rows < FEWEST_ROWS:
        raise UsageError(f"--height {rows}: rows for the network to see, {FEWEST_ROWS} or more")


def check_exists(place: Path, kind: str, remedy: str) -> None:
    """Raise InputError where no `kind` of EXISTS lies at `place`.

    A command asks before it loads the libraries that read the path, which takes seconds.
    """
    if not EXISTS[kind](expanded(place)):
        raise InputError(f"{place}: no such {kind}; {remedy}")


def run(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    work: Work,
    *,
    resume: str = "run the same command again to start over",
) -> int:
    """Parse the arguments, call `work`, print its result and return the exit code.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, by Ctrl-C or by SIGTERM.

    work     performs the command and returns the object that --json prints; without --json it
             prints its tables on stdout itself; progress goes to stderr, and with --json
             whatever it prints
    resume   advice printed after an interrupt
    """
    try:
        args = parser.parse_intermixed_args(argv)  # options may stand between key=value
    except SystemExit as ended:  # argparse has printed its help or its error
        return int(ended.code or 0)
    with _logging(args.debug), _terminated_as_interrupted():
        try:
            # What a library prints, as Ray does of a worker that died, is no part of the object.
            with redirect_stdout(sys.stderr) if args.json else nullcontext():
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
        except Exception as error:  # the outermost boundary: one line, the traceback with --debug
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


class _Stderr(logging.StreamHandler[TextIO]):
    """Write to what sys.stderr is now: a live table puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        self.setStream(sys.stderr)
        super().emit(record)


@contextmanager
def _logging(debug: bool) -> Iterator[None]:
    """Send our loggers to stderr during the command, leaving the root logger alone."""
    handler = _Stderr()
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


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, as on Ctrl-C: `kill` and batch systems send it.

    In another thread than the main one, where Python has no signal handlers, it changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def refuse(problem: str) -> None:
    """Raise a UsageError, as one of the checks of `check_all`."""
    raise UsageError(problem)


def check_all(*checks: Callable[[], object]) -> None:
    """Call every check, and raise the errors of all as one.

    It is a UsageError if any of them is, else an InputError; the messages are joined.
    """
    errors: list[InputError | UsageError] = []
    for check in checks:
        try:
            check()
        except (InputError, UsageError) as error:
            errors.append(error)
    if errors:
        usage = any(isinstance(error, UsageError) for error in errors)
        raise (UsageError if usage else InputError)("; ".join(map(str, errors)))
