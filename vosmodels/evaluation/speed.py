"""`python -m vosmodels.evaluation.speed`: how fast a model follows objects, and in what memory."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from vosmodels import address, checkpoint, console, registry
from vosmodels.evaluation.speed_tables import (
    FIGURES,
    LONG,
    OBJECTS,
    SHORT,
    duration_cells,
    fill,
    model,
    queue_cells,
    rows,
    title,
)
from vosmodels.evaluation.timing import PRECISIONS, device_name, measure, parameters
from vosmodels.spacetime import SpaceTimeNetwork
from vosmodels.types import InputError, UsageError

MODULE = "vosmodels.evaluation.speed"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = console.parser(
        MODULE,
        "Time a model on random video; prints JSON.",
        f"python -m {MODULE} --model mobilevos_resnet18 --size 480x910 --frames 50",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", metavar="NAME", help="random weights of a registered model")
    which.add_argument("--checkpoint", metavar="FILE")
    parser.add_argument("--size", default="480x910", help="HEIGHTxWIDTH; default 480x910")
    parser.add_argument("--frames", type=int, help="default 50")
    parser.add_argument("--objects", type=int, help="default 1; with --durations 1 to 5, or only N")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU; default: torch's own")
    parser.add_argument("--graph", action="store_true", help="steps as a CUDA graph (students)")
    tables = parser.add_mutually_exclusive_group()
    tables.add_argument(
        "--durations", action="store_true", help="50 and 500 frames, one to five objects: Table 4"
    )
    tables.add_argument(
        "--queues", action="store_true", help="queues of 1 to 20 frames and all: Figure 4"
    )
    parser.add_argument(
        "--out",
        metavar="FILE.json",
        type=Path,
        help="keep a table's runs as they are done; the same command again goes on",
    )

    def work(args: argparse.Namespace) -> Mapping[str, Any]:
        size = _checked(args)
        if args.threads:
            torch.set_num_threads(args.threads)
        network = _model(args)
        run = partial(measure, network, size=size, device=args.device, precision=args.precision)
        if args.graph:
            if network.queue is None:
                raise UsageError(
                    f"--graph: the memory of {network.name} grows; a student's does not"
                )
            run = partial(run, graph=True)
        if not (args.durations or args.queues):
            args.json = True
            return asdict(run(frames=args.frames or SHORT, objects=args.objects or 1))
        if args.queues:
            run = partial(run, mem_every=1)
        made = fill(_head(args, network, sys.argv[1:] if argv is None else argv), run, args.out)
        if not args.json:
            _print(made)
        return {**made, "rows": rows(made)}

    return console.run(parser, argv, work, resume="with --out the same command goes on from there")


def _head(
    args: argparse.Namespace, network: SpaceTimeNetwork, typed: Sequence[str]
) -> Mapping[str, Any]:
    """What a table is of, and where it is made."""
    if args.durations:
        cells = duration_cells([args.objects] if args.objects else OBJECTS)
    else:
        cells = queue_cells(args.objects or 1, args.frames or SHORT)
    return {
        "table": "durations" if args.durations else "queues",
        "model": args.model or args.checkpoint,
        "parameters": parameters(network),
        "size": args.size,
        "precision": args.precision,
        "graph": args.graph,
        "device": device_name(args.device),
        "cells": cells,
        "command": address.command_line(MODULE, typed),
        "commit": address.commit(),
        "machine": address.machine(),
        "date": address.today(),
    }


def _checked(args: argparse.Namespace) -> tuple[int, int]:
    """The size. Raises UsageError with all that is wrong, InputError where the device is absent."""
    problems = []
    found = re.fullmatch(r"(\d+)x(\d+)", args.size)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    objects = max(OBJECTS) if args.durations and args.objects is None else args.objects
    if min(size) < 16:
        problems.append(f"--size {args.size}: HEIGHTxWIDTH, 16 or more each, such as 480x910")
    for option in ("frames", "threads"):
        value = getattr(args, option)
        if value is not None and value < 1:
            problems.append(f"--{option} {value}: 1 or more")
    if objects is not None and (not 1 <= objects <= 255 or 2 * objects > size[1]):
        problems.append(f"--objects {objects}: 1 or more, and two columns of pixels for each")
    if args.durations and args.frames is not None:
        problems.append(f"--frames {args.frames}: --durations has {SHORT} and {LONG}")
    if args.out and not (args.durations or args.queues):
        problems.append(f"--out {args.out}: keeps a table; give --durations or --queues")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", args.device):
        problems.append(f"--device {args.device}: cpu, cuda or cuda:N")
    if args.graph and (args.device == "cpu" or args.queues):
        problems.append("--graph: wants --device cuda, and no --queues: one of them has no end")
    if problems:
        raise UsageError("\n".join(problems))
    number = int(args.device.partition(":")[2] or 0)
    if args.device != "cpu" and number >= torch.cuda.device_count():
        raise InputError(
            f"--device {args.device}: no CUDA device of that number here; use --device cpu"
        )
    return size


def _model(args: argparse.Namespace) -> SpaceTimeNetwork:
    if args.model:
        return registry.build(args.model, seed=0)
    if args.checkpoint.startswith(("models:/", "mlflow:")):
        raise UsageError(
            f"--checkpoint {args.checkpoint}: a file is wanted; get it with: "
            f"python -m orchestrator.fetch {args.checkpoint} student.safetensors"
        )
    return checkpoint.load_model(Path(args.checkpoint))[0]


def _print(made: Mapping[str, Any]) -> None:
    table = Table(
        title=f"{model(made)}: {made['parameters'] / 1e6:.1f} M parameters. {title(made)}",
        title_justify="left",
    )
    found = rows(made)
    varied = [key for key in ("queue", "objects", "frames") if key in found[0]]
    for column in (*varied, *FIGURES):
        table.add_column(column, justify="right")
    for row in found:
        table.add_row(*(str(row[key]) for key in varied), *(f"{row[key]:.1f}" for key in FIGURES))
    Console(highlight=False, soft_wrap=True, width=100).print(table)


if __name__ == "__main__":
    sys.exit(main())
