"""Segment objects through a video: `python -m orchestrator.segment`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from vosmodels.support import cli

MODULE = "orchestrator.segment"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = cli.parser(
        MODULE,
        "Follow the objects of a first mask through a video, in constant memory.",
        f"python -m {MODULE} --checkpoint mlflow:omega --video clip.mp4 --mask first.png "
        "--out clip-masked.mp4",
        tracking=True,
    )
    parser.add_argument("--checkpoint", metavar="REF", required=True)
    parser.add_argument("--video", metavar="FILE|DIR", type=cli.path, required=True)
    parser.add_argument("--mask", metavar="FIRST.png", type=cli.path, required=True)
    parser.add_argument(
        "--out",
        type=cli.path,
        help="a folder for palette PNG, or a .mp4 film; default: VIDEO-masks",
    )
    parser.add_argument(
        "--height", type=int, default=480, help="rows the network sees, 16 or more; default 480"
    )
    return cli.run(parser, argv, _work)


def _work(args: argparse.Namespace) -> Mapping[str, Any]:
    cli.check_rows(args.height)
    cli.check_exists(args.video, "file or folder", "give a film or a folder of pictures")
    cli.check_exists(args.mask, "file", "give the mask of the first frame, a palette PNG")
    from orchestrator.tracking.checkpoint_refs import find

    source = find(args.checkpoint, args.tracking_uri)

    from vosmodels.checkpoint import load_model
    from vosmodels.inference.film import segment_video
    from vosmodels.support.memory import keep_freed_memory

    keep_freed_memory()
    out = args.out or args.video.with_name(f"{args.video.stem}-masks")
    model = load_model(source.path)
    count, seconds = segment_video(model, args.video, args.mask, out, args.height)
    if not args.json:
        print(source.origin)
        print(
            f"{count} frames to {out}: {count / seconds:.1f} frames a second at "
            f"{args.height} rows, on the CPU"
        )
    return {
        "out": str(out),
        "frames": count,
        "fps": count / seconds,
        "height": args.height,
        "device": "cpu",
        "checkpoint": source.origin,
    }


if __name__ == "__main__":
    sys.exit(main())
