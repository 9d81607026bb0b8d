"""Define command-line arguments: a configuration with overrides; a checkpoint; a runtime."""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.config.sections import REFERENCES
from vosmodels.errors import InputError, UsageError
from vosmodels.export.formats import FORMATS, NAMES, check_runnable
from vosmodels.support import cli

TORCH = "torch"
RUNTIMES = (TORCH, *NAMES)


def config_parser(module: str, does: str, file: str, example: str) -> argparse.ArgumentParser:
    """Make the parser of a command that takes a configuration and can run dry.

    It gives `args.file`, `args.overrides`, `args.dry_run`, `args.rerun_changed` and what all
    commands have. file: what the help calls the YAML; example: what follows `python -m MODULE`.
    """
    parser = cli.parser(module, does, f"python -m {module} {example}", tracking=True)
    parser.add_argument("file", metavar=file, type=cli.path)
    parser.add_argument(
        "overrides",
        metavar="key=value|OVERLAY.yaml",
        nargs="*",
        help="as in the YAML; later ones win",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="start nothing; print jobs, resources, forecast"
    )
    parser.add_argument(
        "--rerun-changed",
        action="store_true",
        help="train again what other code trained; what there was is kept under a dated name",
    )
    return parser


def add_checkpoint(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add --checkpoint, which `tracking.checkpoint_refs.find` finds."""
    parser.add_argument("--checkpoint", metavar="REF", required=required, help=REFERENCES)


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Add --runtime, which `check_runtime` checks."""
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default=TORCH,
        help=f"other than {TORCH}, the default: run the graphs that vosmodels.export wrote in "
        "that format, whose folder --checkpoint names",
    )


def check_runtime(args: argparse.Namespace) -> None:
    """Raise an error unless --checkpoint, --memory, --height and --device suit the runtime."""
    if args.runtime == TORCH:
        return
    taken = {"--memory": args.memory, "--height": args.height, "--device": args.device != cli.CPU}
    if given := [option for option, value in taken.items() if value]:
        raise UsageError(
            f"{', '.join(given)} with --runtime {args.runtime}: the graphs have their own; export "
            "again for others"
        )
    remedy = (
        f"give one of: python -m vosmodels.export FILE --format {args.runtime} --size 240x432 "
        "--out DIR"
    )
    folder = Path(args.checkpoint or "")
    cli.check_exists(folder, "folder", remedy)
    from vosmodels.export.sidecar import read

    runtime = read(folder).runtime
    if runtime != args.runtime:
        raise InputError(
            f"{folder}: its graphs are for {FORMATS[runtime].runtime}, not for "
            f"{FORMATS[args.runtime].runtime}; give --runtime {runtime}"
        )
    check_runnable(runtime)


def words_of(args: argparse.Namespace) -> list[str]:
    """Return the words that name a command's configuration and store to another command."""
    uri = ["--tracking-uri", args.tracking_uri] if args.tracking_uri else []
    return [str(args.file), *args.overrides, *uri]
