"""`python -m orchestrator.evaluate`: score a checkpoint on a folder of videos, or masks on disk."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator.config import ConfigError, DataConfig
from orchestrator.data import sequences
from orchestrator.evaluation import segmenters_of
from orchestrator.references import find
from vosmodels import checkpoint, console
from vosmodels.data.masks import write_palette
from vosmodels.evaluation.runner import evaluate, score_folders
from vosmodels.evaluation.scores import ON_THE_SERVER, Scores
from vosmodels.types import U8

MODULE = "orchestrator.evaluate"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = console.parser(
        MODULE,
        "J and F by the protocol of DAVIS or YouTube-VOS: of a checkpoint on videos at full size, "
        "or of masks on disk.",
        f"python -m {MODULE} --checkpoint mlflow:omega --data /data/DAVIS --split val --out masks",
        tracking=True,
    )
    parser.add_argument("--checkpoint", metavar="REF", help="a file, models:/ID, mlflow:EXPERIMENT")
    parser.add_argument(
        "--data", metavar="ROOT", help="a DAVIS or YouTube-VOS folder, or: generated"
    )
    parser.add_argument("--split", default="val", help="default: val")
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
    parser.add_argument("--masks", metavar="DIR", type=Path, help="score these masks")
    parser.add_argument("--annotations", metavar="DIR", type=Path, help="against these")

    def work(args: argparse.Namespace) -> Mapping[str, Any]:
        if args.masks and args.annotations and not (args.checkpoint or args.height):
            within = args.masks / "Annotations"  # as --out writes for YouTube-VOS
            masks = within if within.is_dir() else args.masks
            scores, told = score_folders(masks, args.annotations), str(masks)
        elif args.checkpoint and args.data and not args.masks:
            scores, told = _run(args)
        else:
            raise ConfigError(
                [
                    "give --checkpoint and --data, and --height if you like, or --masks and "
                    "--annotations, not parts of both"
                ]
            )
        if not args.json:
            _print(scores, told)
        note = {} if scores.sequences else {"note": ON_THE_SERVER}
        return {**scores.as_dict(), "source": told, **note}

    return console.run(parser, argv, work)


def _run(args: argparse.Namespace) -> tuple[Scores, str]:
    found = find(args.checkpoint, args.tracking_uri)
    segmenters = segmenters_of(checkpoint.load_model(found.path)[0], args.height)
    videos = sequences(DataConfig(root=args.data), args.split)
    by_name = {video.name: video for video in videos}

    def keep(name: str, number: int, ids: U8) -> None:
        answer = by_name[name].answer(number)
        if answer is not None:
            path = args.out / answer
            path.parent.mkdir(parents=True, exist_ok=True)
            write_palette(path, ids)

    return evaluate(segmenters, videos, on_mask=keep if args.out else None), found.told


def _print(scores: Scores, told: str) -> None:
    table = Table(box=None)
    for index, heading in enumerate(("video", "object", "J", "F", "J&F")):
        table.add_column(heading, justify="left" if index == 0 else "right")
    for video in scores.sequences:
        for number, one in video.objects.items():
            three = (f"{value:.3f}" for value in (one.j, one.f, (one.j + one.f) / 2))
            table.add_row(video.name, str(number), *three)
    out = Console(highlight=False, soft_wrap=True)  # paths stay whole
    out.print(told)
    if scores.sequences:
        table.add_row("mean", "", *(f"{value:.3f}" for value in (scores.j, scores.f, scores.jf)))
        if four := scores.seen_unseen:
            for kind in ("seen", "unseen"):
                j, f = four[f"j_{kind}"], four[f"f_{kind}"]
                table.add_row(kind, "", *(f"{value:.3f}" for value in (j, f, (j + f) / 2)))
            table.add_row("G, mean of the four", "", "", "", f"{four['g']:.3f}")
        out.print(table)
    else:
        out.print(ON_THE_SERVER)
    if scores.fps is not None:
        out.print(f"{scores.fps:.1f} frames a second, one video at a time, on this machine's CPU")


if __name__ == "__main__":
    sys.exit(main())
