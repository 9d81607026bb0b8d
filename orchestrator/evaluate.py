"""Score a checkpoint, or masks on disk: `python -m orchestrator.evaluate`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.config.arguments import TORCH, add_checkpoint, add_runtime, check_runtime
from orchestrator.config.data import DataConfig
from orchestrator.config.sections import EXPERIMENT, MODEL, REFERENCES
from vosmodels import demo
from vosmodels.export.formats import FORMATS
from vosmodels.support import cli
from vosmodels.support.outputs import check_output
from vosmodels.support.paths import expanded

MODULE = "orchestrator.evaluate"
SPLIT = "val"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = cli.parser(
        MODULE,
        "Score a checkpoint on videos at full size, or masks on disk, with J and F by the protocol "
        "of DAVIS or YouTube-VOS.",
        f"python -m {MODULE} --checkpoint mlflow:omega --data /data/DAVIS --split val --out masks",
        tracking=True,
    )
    add_checkpoint(parser, required=False)
    parser.add_argument(
        "--data", metavar="ROOT", help="a DAVIS or YouTube-VOS folder, or: generated"
    )
    parser.add_argument(
        "--split",
        help=f"the videos: a name, or a FILE.txt of names; default: {SPLIT}, and of --masks the "
        "listed split whose videos they are, or else every annotated video",
    )
    parser.add_argument(
        "--height",
        metavar="ROWS",
        type=int,
        help="rows the network sees, 16 or more; scores and masks stay at full size; default: all",
    )
    cli.add_memory(parser)
    cli.add_device(parser)
    add_runtime(parser)
    parser.add_argument(
        "--leave-out",
        metavar="NAME",
        action="append",
        default=[],
        help="a video of the split that is not scored; as often as needed",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=cli.path,
        help="write masks as palette PNG, in the layout of the benchmark",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="write masks also among those that --out holds"
    )
    parser.add_argument("--masks", metavar="DIR", type=cli.path, help="masks to score")
    parser.add_argument("--annotations", metavar="DIR", type=cli.path, help="true masks")

    return cli.run(parser, argv, _work)


def _work(args: argparse.Namespace) -> Mapping[str, Any]:
    _check(args)
    if args.masks:
        within = args.masks / "Annotations"  # as --out writes for YouTube-VOS
        masks = within if within.is_dir() else args.masks
        origin = str(masks)
    elif args.runtime != TORCH:
        origin = f"{args.checkpoint}, by {FORMATS[args.runtime].runtime}"
    else:
        from orchestrator.tracking.checkpoint_refs import find

        source = find(args.checkpoint, args.tracking_uri)
        origin = source.origin
    told = {"source": origin, **({} if args.masks else {"device": args.device})}
    from orchestrator.reporting.score_table import show_scores
    from vosmodels.evaluation.scores import ON_THE_SERVER, PartialScores
    from vosmodels.evaluation.strata import as_dict

    try:
        if args.masks:
            from vosmodels.evaluation.runner import score_folders

            scores = score_folders(masks, args.annotations, split=args.split)
        else:
            from orchestrator.execution import folder_scores

            if args.runtime != TORCH:
                network = partial(folder_scores.exported_segmenters, Path(args.checkpoint))
            else:
                network = partial(
                    folder_scores.checkpoint_segmenters,
                    source.path,
                    rows=args.height,
                    memory=args.memory,
                    device=args.device,
                )
            data = DataConfig(root=args.data, leave_out=tuple(args.leave_out))
            scores = folder_scores.score_videos(network, data, args.split or SPLIT, out=args.out)
    except PartialScores as some:
        if some.scores.sequences and not args.json:
            show_scores(some.scores, origin, wanted=some.wanted, device=args.device)
        print(f"error: {' '.join(str(some).split())}", file=sys.stderr)
        rest = {"mean": None, "partial": str(some), "wanted": some.wanted, **told}
        result = some.scores.as_dict() | rest
        result.pop("seen_unseen", None)
        raise cli.CommandFailed(result) from None
    if not args.json:
        show_scores(scores, origin, device=args.device)
    note = {} if scores.sequences else {"note": ON_THE_SERVER}
    return {**scores.as_dict(), "strata": as_dict(scores), **told, **note}


def _check(args: argparse.Namespace) -> None:
    """Raise UsageError or InputError that lists every problem of the arguments.

    Nothing is loaded for it, as libraries take seconds.
    """
    of_masks = args.masks and args.annotations and not (args.checkpoint or args.data)
    of_model = args.checkpoint and args.data and not (args.masks or args.annotations)
    usage = []
    if not (of_masks or of_model):
        usage.append(
            "give --checkpoint and --data (and --height, --out if needed), or --masks and "
            "--annotations, but not parts of both"
        )
    if of_masks:
        usage += [
            f"--{name.replace('_', '-')} {value}: only with --checkpoint, as the masks are there"
            for name in ("height", "memory", "out", "leave_out")
            if (value := getattr(args, name))
        ]
        if args.device != cli.CPU:
            usage.append(f"--device {args.device}: only with --checkpoint, as the masks are there")
        if args.runtime != TORCH:
            usage.append(
                f"--runtime {args.runtime}: only with --checkpoint, as the masks are there"
            )
    if args.overwrite and args.out is None:
        usage.append("--overwrite: replaces what lies in --out; give that folder")
    checks = [partial(cli.refuse, problem) for problem in usage]
    checks.append(partial(cli.check_rows, args.height))
    checks.append(partial(cli.check_device, args.device))
    for folder in filter(None, (args.masks, args.annotations)):
        remedy = "give one with a folder of PNG for each video"
        checks.append(partial(cli.check_exists, folder, "folder", remedy))
    inputs = {}
    if args.data and not DataConfig(root=args.data).generated:
        inputs["--data"] = expanded(args.data)
        remedy = "give the root of a dataset, or: generated"
        checks.append(partial(cli.check_exists, inputs["--data"], "folder", remedy))
    if args.checkpoint and args.runtime != TORCH:
        inputs["--checkpoint"] = expanded(args.checkpoint)
        checks.append(partial(check_runtime, args))
    elif args.checkpoint and not args.checkpoint.startswith((EXPERIMENT, MODEL)):
        inputs["--checkpoint"] = demo.file_of(args.checkpoint)
        remedy = f"give {REFERENCES}"
        checks.append(partial(cli.check_exists, inputs["--checkpoint"], "file", remedy))
    if args.out is not None and of_model:
        checks.append(
            partial(check_output, args.out, inputs, folder=True, overwrite=args.overwrite)
        )
    cli.check_all(*checks)


if __name__ == "__main__":
    sys.exit(main())
