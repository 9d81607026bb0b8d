"""Run `python -m vosmodels.export.install_web`: fetch ONNX Runtime Web for the page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from vosmodels.errors import InputError
from vosmodels.export.web_runtime import (
    FOLDER,
    MEMBERS,
    PACKAGE,
    VERSION,
    check_runtime,
    fetch_runtime,
)
from vosmodels.support import cli

MODULE = "vosmodels.export.install_web"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = cli.parser(
        MODULE,
        f"Fetch {PACKAGE} {VERSION} by npm for the page of vosmodels.export, unless it is there.",
        f"python -m {MODULE}",
    )
    return cli.run(parser, argv, _work)


def _work(args: argparse.Namespace) -> Mapping[str, Any]:
    there = False
    with suppress(InputError):
        check_runtime()
        there = True
    if not there:
        fetch_runtime()
        check_runtime()
    if not args.json:
        print(f"{FOLDER}: {PACKAGE} {VERSION}{', as before' if there else ''}")
    return {"folder": str(FOLDER), "version": VERSION, "files": sorted(MEMBERS)}


if __name__ == "__main__":
    sys.exit(main())
