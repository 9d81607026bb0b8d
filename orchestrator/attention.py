"""Show where a model's attention looks: `python -m orchestrator.attention`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.config.arguments import add_checkpoint
from vosmodels.support import cli
from vosmodels.support.outputs import check_output

MODULE = "orchestrator.attention"
KINDS = ("self", "long")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = cli.parser(
        MODULE,
        "Follow the objects of a first mask to one frame, and write pictures of where the\n"
        "attentions of AOT or DeAOT look there: what has more than half of the most attention, "
        "key\npoints, the top 200 keys of a query and, if deformable, where those are sampled.",
        f"python -m {MODULE} --checkpoint mlflow:omega --video clip --mask first.png "
        "--frame 20 --query 310,120 --out attention",
        tracking=True,
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--video",
        metavar="FILE|DIR",
        type=cli.path,
        required=True,
        help="a film, or a folder of pictures: its frames in the order of their names",
    )
    parser.add_argument(
        "--mask",
        metavar="FIRST.png",
        type=cli.path,
        required=True,
        help="ids of the first frame's objects, 0 = background: a palette or grey PNG of its size",
    )
    parser.add_argument(
        "--frame", metavar="N", type=int, help="the frame to show, from 1; default 10, or the last"
    )
    parser.add_argument(
        "--query", metavar="X,Y", type=_place, help="in px of the video; default: a key point"
    )
    parser.add_argument(
        "--object", metavar="ID", type=int, help="default: the one with the largest mask there"
    )
    parser.add_argument("--attention", choices=KINDS, help="self, or long: of the memory; both")
    parser.add_argument(
        "--layer", metavar="N", type=int, default=-1, help="from 1, or -1 for the last: default"
    )
    parser.add_argument(
        "--height",
        metavar="ROWS",
        type=int,
        default=480,
        help="rows the network sees, 16 or more; default 480; never more than the video has",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=cli.path, required=True, help="folder for the pictures, PNG"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="write among the files that --out holds"
    )
    return cli.run(parser, argv, _work)


def _place(text: str) -> tuple[float, float]:
    words = text.split(",")
    try:
        x, y = (float(word) for word in words)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: two numbers X,Y, such as 310,120") from None
    return x, y


def _work(args: argparse.Namespace) -> Mapping[str, Any]:
    inputs = {"--video": args.video, "--mask": args.mask}
    film = "give a film or a folder of pictures"

    def check_frame() -> None:
        if args.frame is not None and args.frame < 1:
            cli.refuse(f"--frame {args.frame}: 1 or more, as the mask of frame 0 is given")

    cli.check_all(
        lambda: cli.check_rows(args.height),
        check_frame,
        lambda: cli.check_exists(args.video, "file or folder", film),
        lambda: cli.check_exists(args.mask, "file", "give the mask of the first frame, a PNG"),
        lambda: check_output(args.out, inputs, folder=True, overwrite=args.overwrite),
    )
    from orchestrator.tracking.checkpoint_refs import find

    source = find(args.checkpoint, args.tracking_uri)
    from vosmodels.checkpoint import load_model
    from vosmodels.evaluation.attention_video import Asked, show_attention
    from vosmodels.inference.film import prepare

    asked = Asked(
        args.frame,
        args.height,
        args.query,
        args.object,
        (args.attention,) if args.attention else None,
        args.layer,
    )
    task = prepare(args.video, args.mask)
    shown = show_attention(load_model(source.path), task, args.video, args.out, asked)
    if not args.json:
        print(f"{source.origin}, frame {shown['frame']}, object {shown['object']}")
        for name in shown["files"]:
            print(args.out / name)
    return {**shown, "out": str(args.out), "checkpoint": source.origin}


if __name__ == "__main__":
    sys.exit(main())
