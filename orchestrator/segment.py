"""Segment objects through a video: `python -m orchestrator.segment`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.config.arguments import TORCH, add_checkpoint, add_runtime, check_runtime
from vosmodels.export.formats import FORMATS
from vosmodels.support import cli
from vosmodels.support.boxes import Box
from vosmodels.support.outputs import check_output, is_film

if TYPE_CHECKING:
    from orchestrator.tracking.checkpoint_refs import CheckpointFile
    from vosmodels.types import Segmenter

    Opener = Callable[[tuple[int, int]], tuple[Segmenter, int, str]]

MODULE = "orchestrator.segment"
ROWS = 480


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = cli.parser(
        MODULE,
        "Follow the objects of a first mask through a video, in constant memory.",
        f"python -m {MODULE} --checkpoint mlflow:omega --video clip.mp4 --mask first.png "
        "--out clip-masked.mp4",
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
        help="ids of the first frame's objects, 0 = background: a palette or grey PNG of its size",
    )
    parser.add_argument(
        "--box",
        metavar="X0,Y0,X1,Y1",
        action="append",
        default=[],
        help="in place of --mask: left, top, right, bottom of an object in the first frame, in "
        "pixels; as often as there are objects. The mask cut out of it is kept beside --out",
    )
    parser.add_argument(
        "--out",
        type=cli.path,
        help="a folder for palette PNG, each named as its frame, or an overlay film (.mp4, .mov, "
        ".avi); default: VIDEO-masks",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what an earlier run wrote to --out"
    )
    parser.add_argument(
        "--height",
        metavar="ROWS",
        type=int,
        help=f"rows the network sees, 16 or more; default {ROWS}; never more than the video has",
    )
    add_runtime(parser)
    cli.add_memory(parser)
    cli.add_device(parser)
    return cli.run(
        parser, argv, _work, resume="run the same command again with --overwrite to start over"
    )


def _work(args: argparse.Namespace) -> Mapping[str, Any]:
    video = args.video
    out = args.out if args.out else _beside(video)
    mask = args.mask if args.mask else out.with_name(f"{out.stem}-first-mask.png")
    cli.check_all(
        lambda: _check_first(args),
        lambda: check_runtime(args),
        lambda: cli.check_rows(args.height),
        lambda: cli.check_device(args.device),
        lambda: cli.check_exists(video, "file or folder", "give a film or a folder of pictures"),
        *_checks_of_mask(args, mask),
        lambda: _check_out(args, out, {"--video": video, "--mask": args.mask or video}),
    )
    source, opened = _opener(args)
    _check_out(args, out, {"--checkpoint": source.path})

    from vosmodels.inference.film import keep_first, prepare, prepare_boxes, segment_video
    from vosmodels.support.memory import keep_freed_memory

    keep_freed_memory()
    if args.box:
        task = prepare_boxes(video, [Box.of(text) for text in args.box], mask)
    else:
        task = prepare(video, mask)
    early = [*task.report.warnings, *task.video.notes]
    _say(f"{mask}: {task.report}", *early)
    segmenter, rows, memory = opened(task.video.size)
    if args.box:
        keep_first(task, mask)
        _say(f"{mask}: made of --box; where it is wrong, correct it and give it as --mask")
    followed = segment_video(segmenter, task, out)
    frames, speed = followed.frames, followed.frames / followed.seconds
    _say(*followed.notes)
    if not args.json:
        seen = f"all {rows} rows" if rows == task.video.size[0] else f"{rows} rows"
        print(source.origin)
        count = f"{frames} frame{'s' if frames > 1 else ''}"
        where = cli.place_of(args.device)
        print(f"{count} to {out}: {speed:.1f} frames a second at {seen}, on {where}")
    result = {
        "out": str(out),
        "frames": frames,
        "fps": speed,
        "height": rows,
        "first_mask": str(mask),
        "memory": memory,
        "runtime": args.runtime,
        "device": args.device,
        "checkpoint": source.origin,
        "objects": {str(i): share for i, share in task.report.shares.items()},
        "notes": [*early, *followed.notes],
    }
    if followed.shortage:
        print(f"error: {followed.shortage}; {out} holds what could be read", file=sys.stderr)
        raise cli.CommandFailed({**result, "error": followed.shortage})
    return result


def _opener(args: argparse.Namespace) -> tuple[CheckpointFile, Opener]:
    """Find the network: where it lies, and what opens it for a video of a size (H, W).

    The opener returns the segmenter, the rows that the network sees, and its memory rule.
    """
    from orchestrator.tracking.checkpoint_refs import CheckpointFile, find

    if args.runtime != TORCH:
        from vosmodels.export.fitted import FittedSegmenter, rows_seen
        from vosmodels.export.sidecar import open_folder

        folder = Path(args.checkpoint)
        sidecar, runner = open_folder(folder)
        origin = f"{folder}: graphs of {sidecar.name}, by {FORMATS[args.runtime].runtime}"
        rule = sidecar.memory.rule
        graphs = FittedSegmenter(runner)
        return CheckpointFile(folder, origin), lambda size: (graphs, rows_seen(runner, size), rule)
    source = find(args.checkpoint, args.tracking_uri)

    def opened(size: tuple[int, int]) -> tuple[Segmenter, int, str]:
        from vosmodels.checkpoint import load_model
        from vosmodels.inference.film import scaled_segmenter

        model = load_model(source.path).to(args.device)
        if args.memory:
            model.check_memory(args.memory)
        rows = min(args.height or ROWS, size[0])
        return scaled_segmenter(model, rows, args.memory), rows, str(args.memory or model.memory)

    return source, opened


def _check_first(args: argparse.Namespace) -> None:
    """Raise UsageError unless the objects are given once, by a mask or by sound boxes."""
    if bool(args.mask) == bool(args.box):
        cli.refuse("give the objects of the first frame by --mask or by --box, one of the two")
    for text in args.box:
        try:
            Box.of(text)
        except ValueError as error:
            cli.refuse(f"--box {error}")


def _checks_of_mask(args: argparse.Namespace, mask: Path) -> list[Callable[[], None]]:
    """List the checks of a mask that is read, or of the place of one that is made."""
    if args.mask:
        remedy = "give the mask of the first frame, a palette PNG"
        return [lambda: cli.check_exists(mask, "file", remedy)]
    if not args.box:
        return []
    inputs = {"--video": args.video}
    return [
        lambda: check_output(mask, inputs, folder=False, overwrite=args.overwrite, name="the mask")
    ]


def _beside(video: Path) -> Path:
    """Return the default of --out: a folder beside the video."""
    whole = video.resolve() if video.name in ("", "..") else video
    return whole.with_name(f"{whole.name if whole.is_dir() else whole.stem}-masks")


def _check_out(args: argparse.Namespace, out: Path, inputs: Mapping[str, Path]) -> None:
    check_output(out, inputs, folder=not is_film(out), overwrite=args.overwrite)


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
