"""Run `python -m vosmodels.data.check`: list a dataset folder and its problems."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from vosmodels.errors import UsageError
from vosmodels.support import cli

MODULE = "vosmodels.data.check"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = cli.parser(
        MODULE,
        "What a folder of DAVIS, YouTube-VOS, BL30K or still images (DUTS, ECSSD, FSS-1000, HRSOD, "
        "BIG, or several) holds, its licence, and every problem with it: exit 1 where there is "
        "any. Looks at headers and at the masks that give a video's objects.",
        f"python -m {MODULE} /data/DAVIS --decode",
    )
    parser.add_argument("root", metavar="ROOT", type=cli.path)
    parser.add_argument("--decode", action="store_true", help="read every picture and mask whole")
    parser.add_argument(
        "--workers", metavar="N", type=int, help="processes; default: 1, with --decode every core"
    )

    def work(args: argparse.Namespace) -> Mapping[str, Any]:
        if args.workers is not None and args.workers < 1:
            raise UsageError(f"--workers {args.workers}: 1 or more")
        cli.check_exists(args.root, "folder", "give the root of a dataset")
        from vosmodels.data.check.inventory import open_folder
        from vosmodels.data.check.summary import look_at, show, summarise

        workers = args.workers or (len(os.sched_getaffinity(0)) if args.decode else 1)
        folder = open_folder(args.root)
        result = summarise(args.root, folder, look_at(folder, args.decode, workers))
        result["decoded"] = args.decode
        if not args.json:
            show(result)
        if result["problems"]:
            raise cli.CommandFailed(result)
        return result

    return cli.run(parser, argv, work)


if __name__ == "__main__":
    sys.exit(main())
