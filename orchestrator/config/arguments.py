"""Add the arguments that name a configuration: a YAML file, overrides, overlays."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_config_arguments(parser: argparse.ArgumentParser, file: str) -> None:
    """Add `args.file` and `args.overrides`. file: name of the YAML in the help text."""
    parser.add_argument("file", metavar=file, type=Path)
    parser.add_argument(
        "overrides",
        metavar="key=value|OVERLAY.yaml",
        nargs="*",
        help="set keys as in the YAML; later values win",
    )


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """Add the flag `args.dry_run`."""
    parser.add_argument(
        "--dry-run", action="store_true", help="start nothing; print jobs, resources, forecast"
    )
