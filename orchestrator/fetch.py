"""Copy a checkpoint by reference to a file: `python -m orchestrator.fetch`."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from vosmodels.support import cli

MODULE = "orchestrator.fetch"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = cli.parser(
        MODULE,
        "Copy the checkpoint behind models:/ID or mlflow:EXPERIMENT (its best) to a file.",
        f"python -m {MODULE} mlflow:omega best.safetensors",
        tracking=True,
    )
    parser.add_argument("reference", metavar="REF")
    parser.add_argument("file", metavar="FILE", type=cli.path)

    def work(args: argparse.Namespace) -> Mapping[str, Any]:
        from orchestrator.tracking.checkpoint_refs import find

        source = find(args.reference, args.tracking_uri)
        args.file.parent.mkdir(parents=True, exist_ok=True)
        scratch = args.file.with_name(f".{args.file.name}.part")
        shutil.copyfile(source.path, scratch)
        scratch.replace(args.file)
        if not args.json:
            print(f"{source.origin}\nwritten to {args.file}")
        return {"file": str(args.file), "source": source.origin}

    return cli.run(parser, argv, work)


if __name__ == "__main__":
    sys.exit(main())
