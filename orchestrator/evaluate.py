"""Score a checkpoint, or masks on disk: `python -m orchestrator.evaluate`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.config import ConfigError
from vosmodels.support import cli

if TYPE_CHECKING:
    from vosmodels.evaluation.scores import Scores
    from vosmodels.types import U8

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

    def work(args: argparse.Namespace) -> Mapping[str, Any]:
        cli.check_rows(args.height)
        if args.masks and args.annotations and not (args.checkpoint or args.height):
            for folder in (args.masks, args.annotations):
                cli.check_exists(folder, "folder", "give one with a folder of PNG for each video")
            from vosmodels.evaluation.runner import score_folders

            within = args.masks / "Annotations"  # as --out writes for YouTube-VOS
            masks = within if within.is_dir() else args.masks
            scores, origin = score_folders(masks, args.annotations), str(masks)
        elif args.checkpoint and args.data and not args.masks:
            scores, origin = _run(args)
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

    return cli.run(parser, argv, work)


def _run(args: argparse.Namespace) -> tuple[Scores, str]:
    from orchestrator.config.sections import DataConfig
    from orchestrator.tracking.checkpoint_refs import find

    data = DataConfig(root=args.data)
    if not data.generated:
        cli.check_exists(Path(data.root), "folder", "give the root of a dataset, or: generated")
    source = find(args.checkpoint, args.tracking_uri)

    from orchestrator.execution.scoring import segmenters_of
    from orchestrator.planning.datasets import sequences
    from vosmodels import checkpoint
    from vosmodels.data.masks import write_palette
    from vosmodels.evaluation.runner import evaluate
    from vosmodels.support.memory import keep_freed_memory

    keep_freed_memory()
    segmenters = segmenters_of(checkpoint.load_model(source.path), args.height)
    videos = sequences(data, args.split)
    by_name = {video.name: video for video in videos}

    def write(name: str, number: int, ids: U8) -> None:
        answer = by_name[name].answer(number)
        if answer is not None:
            path = args.out / answer
            path.parent.mkdir(parents=True, exist_ok=True)
            write_palette(path, ids)

    return evaluate(segmenters, videos, on_mask=write if args.out else None), source.origin


if __name__ == "__main__":
    sys.exit(main())
