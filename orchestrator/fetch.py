"""Copy a checkpoint to a file, or write a sample clip: `python -m orchestrator.fetch`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.config.sections import REFERENCES
from vosmodels import demo
from vosmodels.support import cli
from vosmodels.support.outputs import check_output

MODULE = "orchestrator.fetch"
SAMPLE = "sample"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = cli.parser(
        MODULE,
        "Copy a checkpoint of any name to a file, or write a generated clip with its first mask "
        "into a folder.",
        f"python -m {MODULE} mlflow:omega best.safetensors",
        tracking=True,
    )
    parser.add_argument(
        "reference",
        metavar="REF",
        help=f"{REFERENCES} (its best by select J&F); or {SAMPLE}: a clip to try",
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        type=cli.path,
        help="file to write, with a name that ends in .safetensors; of the sample a folder, for "
        "frames/ and first.png. Folders are created",
    )
    parser.add_argument(
        "--half",
        action="store_true",
        help="round the weights to float16: half the bytes; they are read as float32 again",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")

    def work(args: argparse.Namespace) -> Mapping[str, Any]:
        if args.reference == SAMPLE:
            return _sample(args)
        from orchestrator.tracking.checkpoint_refs import check_name, copy, find

        file = args.file
        inputs = {"REF": demo.file_of(args.reference)}
        overwrite, sources = args.overwrite, []
        cli.check_all(
            lambda: check_name(file),
            lambda: check_output(file, inputs, folder=False, overwrite=overwrite, name="FILE"),
            lambda: sources.append(find(args.reference, args.tracking_uri)),
        )
        (source,) = sources
        copy(source, file, half=args.half)
        if not args.json:
            print(f"{source.origin}\nwritten to {file}{', in float16' if args.half else ''}")
        return {"file": str(file), "source": source.origin, "half": args.half}

    return cli.run(parser, argv, work)


def _sample(args: argparse.Namespace) -> Mapping[str, Any]:
    """Write the sample clip into the folder FILE, and say what to do with it."""
    folder = args.file

    def check_whole() -> None:
        if args.half:
            cli.refuse(f"--half: rounds the weights of a checkpoint, and {SAMPLE} has none")

    cli.check_all(
        check_whole,
        lambda: check_output(folder, {}, folder=True, overwrite=args.overwrite, name="FILE"),
    )
    from vosmodels.data.sample import write_sample

    frames, mask, objects = write_sample(folder)
    if not args.json:
        print(f"{frames}: {objects} objects; their first mask: {mask}")
        print(
            f"next: python -m orchestrator.segment --checkpoint {demo.DEMO} "
            f"--video {shlex.quote(str(frames))} --mask {shlex.quote(str(mask))} "
            f"--out {shlex.quote(str(folder / 'out.mp4'))}"
        )
    return {"video": str(frames), "mask": str(mask), "objects": objects}


if __name__ == "__main__":
    sys.exit(main())
