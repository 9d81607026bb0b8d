"""Score a checkpoint, or masks on disk: `python -m orchestrator.evaluate`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.config import ConfigError
from orchestrator.config.sections import DataConfig
from vosmodels.support import cli

MODULE = "orchestrator.evaluate"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = cli.parser(
        MODULE,
        "Score a checkpoint on videos at full size, or masks on disk, with J and F by the protocol "
        "of DAVIS or YouTube-VOS.",
        f"python -m {MODULE} --checkpoint mlflow:omega --data /data/DAVIS --split val --out masks",
        tracking=True,
    )
    parser.add_argument("--checkpoint", metavar="REF", help="a file, models:/ID, mlflow:EXPERIMENT")
    parser.add_argument(
        "--data", metavar="ROOT", help="a DAVIS or YouTube-VOS folder, or: generated"
    )
    parser.add_argument(
        "--split", default="val", help="a name, or a FILE.txt of names; default: val"
    )
    parser.add_argument(
        "--height",
        metavar="ROWS",
        type=int,
        help="rows the network sees, 16 or more; scores and masks stay at full size; default: all",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="write masks as palette PNG, in the layout of the benchmark",
    )
    parser.add_argument("--masks", metavar="DIR", type=Path, help="masks to score")
    parser.add_argument("--annotations", metavar="DIR", type=Path, help="true masks")

    return cli.run(parser, argv, _work)


def _work(args: argparse.Namespace) -> Mapping[str, Any]:
    cli.check_rows(args.height)
    if args.masks and args.annotations and not (args.checkpoint or args.height):
        for folder in (args.masks, args.annotations):
            cli.check_exists(folder, "folder", "give one with a folder of PNG for each video")
        from vosmodels.evaluation.runner import score_folders

        within = args.masks / "Annotations"  # as --out writes for YouTube-VOS
        masks = within if within.is_dir() else args.masks
        scores, origin = score_folders(masks, args.annotations), str(masks)
    elif args.checkpoint and args.data and not args.masks:
        data = DataConfig(root=args.data)
        if not data.generated:
            cli.check_exists(Path(data.root), "folder", "give the root of a dataset, or: generated")
        from orchestrator.tracking.checkpoint_refs import find

        source = find(args.checkpoint, args.tracking_uri)
        from orchestrator.execution.folder_scores import score_checkpoint

        origin = source.origin
        scores = score_checkpoint(source.path, data, args.split, rows=args.height, out=args.out)
    else:
        raise ConfigError(
            [
                "give --checkpoint and --data (and --height if needed), or --masks and "
                "--annotations, but not parts of both"
            ]
        )
    from orchestrator.reporting.score_table import show_scores
    from vosmodels.evaluation.scores import ON_THE_SERVER

    if not args.json:
        show_scores(scores, origin)
    note = {} if scores.sequences else {"note": ON_THE_SERVER}
    return {**scores.as_dict(), "source": origin, **note}


if __name__ == "__main__":
    sys.exit(main())
