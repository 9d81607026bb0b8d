"""Run `python -m vosmodels.evaluation.speed`: time a model and measure its memory."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vosmodels import demo, registry
from vosmodels.errors import InputError, UsageError
from vosmodels.evaluation.speed.tables import (
    GRAPH_FRAMES,
    LONG,
    OBJECTS,
    PRECISIONS,
    SHORT,
    duration_cells,
    fill,
    graph_cells,
    grid,
    queue_cells,
    rows,
)
from vosmodels.memory_rule import MemoryRule
from vosmodels.support import cli

if TYPE_CHECKING:
    from vosmodels.evaluation.speed.tables import Table
    from vosmodels.model import VideoModel

MODULE = "vosmodels.evaluation.speed"
GRAPHS = "onnx"
DEVICES = ("cpu", "cuda")  # whose steps can be waited for and whose memory has a peak


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = cli.parser(
        MODULE,
        "Time a model on random video; prints JSON.",
        f"python -m {MODULE} --model mobilevos_resnet18 --size 480x910 --frames 50",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", metavar="NAME", help="random weights of a registered model")
    which.add_argument("--checkpoint", metavar="FILE", help=demo.FILE_OR_DEMO)
    which.add_argument(
        "--exported", metavar="DIR", type=cli.path, help="graphs that vosmodels.export wrote"
    )
    parser.add_argument("--size", default="480x910", help="HEIGHTxWIDTH; default 480x910")
    parser.add_argument("--frames", metavar="N", type=int, help="frames to time; default 50")
    parser.add_argument(
        "--objects",
        metavar="N",
        type=int,
        help="default 1; with --durations or --runtime 1 to 5, or only N",
    )
    cli.add_device(parser, DEVICES)
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="of the model; default fp32"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU; default: torch's own")
    parser.add_argument("--graph", action="store_true", help="steps as a CUDA graph (students)")
    parser.add_argument(
        "--runtime",
        choices=(GRAPHS,),
        help="with --queues: time exported graphs in place of torch, an export for each queue and "
        "number of objects",
    )
    cli.add_memory(parser)
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
        type=cli.path,
        help="keep a table's runs as they are done; the same command again goes on",
    )

    def work(args: argparse.Namespace) -> Mapping[str, Any]:
        if args.exported:
            return _exported(args, parser)
        size = _checked(args)
        if args.runtime:
            return _graphs(args, size, sys.argv[1:] if argv is None else argv)
        import torch

        from vosmodels.evaluation.speed import timing
        from vosmodels.support.memory import keep_freed_memory

        keep_freed_memory()

        if args.threads:
            torch.set_num_threads(args.threads)
        network = _model(args)
        memory: MemoryRule | None = args.memory
        if memory:
            network.check_memory(memory)
        _check_memory(args, network, size, MemoryRule.of("all") if args.queues else memory)
        run = partial(
            timing.measure, network, size=size, device=args.device, precision=args.precision
        )
        if memory:
            run = partial(run, memory=memory)
        timing.warn_of_other_work(torch.get_num_threads())
        if args.graph:
            if (memory or network.memory).frames is None:
                raise UsageError(
                    f"--graph: the memory of {network.name} grows; a student's does not"
                )
            run = partial(run, graph=True)
        if not (args.durations or args.queues):
            args.json = True
            return asdict(run(frames=args.frames or SHORT, objects=args.objects or 1))
        if args.queues:
            run = partial(run, mem_every=1)
        table = fill(_head(args, network, sys.argv[1:] if argv is None else argv), run, args.out)
        return _shown(args, table)

    return cli.run(parser, argv, work, resume="with --out the same command goes on from there")


def _exported(args: argparse.Namespace, parser: argparse.ArgumentParser) -> Mapping[str, Any]:
    """Time exported graphs, whose size, memory and precision are their own."""
    own = (
        "size",
        "device",
        "precision",
        "graph",
        "memory",
        "durations",
        "queues",
        "out",
        "runtime",
    )
    given = [f"--{name}" for name in own if getattr(args, name) != parser.get_default(name)]
    if given:
        raise UsageError(f"{', '.join(given)} with --exported: graphs have their own; export again")
    low = [name for name in ("frames", "objects", "threads") if (getattr(args, name) or 1) < 1]
    if low:
        raise UsageError("\n".join(f"--{name} {getattr(args, name)}: 1 or more" for name in low))
    cli.check_exists(args.exported, "folder", "give a folder of python -m vosmodels.export")
    from vosmodels.export.sidecar import read

    read(args.exported)
    import torch

    from vosmodels.evaluation.speed import timing

    timing.warn_of_other_work(args.threads or torch.get_num_threads())
    args.json = True
    speed = timing.measure_exported(
        args.exported,
        frames=args.frames or SHORT,
        objects=args.objects or 1,
        threads=args.threads,
    )
    return asdict(speed)


def _graphs(
    args: argparse.Namespace, size: tuple[int, int], typed: Sequence[str]
) -> Mapping[str, Any]:
    """Export and time a table of graphs."""
    from vosmodels.export.formats import check_writable

    check_writable("onnx")
    import tempfile

    import torch

    from vosmodels.evaluation.speed import graphs, timing
    from vosmodels.support.memory import keep_freed_memory

    keep_freed_memory()
    threads = args.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    network = _model(args)
    timing.warn_of_other_work(threads)
    with tempfile.TemporaryDirectory() as place:
        file = demo.file_of(args.checkpoint) if args.checkpoint else _saved(network, Path(place))
        run = partial(graphs.measure_graphs, file, size=size, threads=threads)
        table = fill(_head(args, network, typed), run, args.out)
    return _shown(args, table)


def _saved(network: VideoModel, folder: Path) -> Path:
    from vosmodels import checkpoint

    info = checkpoint.CheckpointInfo.of(network, ancestor=None, step=0)
    return checkpoint.write(folder, network.state_dict(), info)[0]


def _shown(args: argparse.Namespace, table: Table) -> Mapping[str, Any]:
    if not args.json:
        from vosmodels.support.grid import screen

        screen(columns=100).print(grid(table).terminal(ruled=True))
    return {**table, "rows": rows(table)}


def _head(args: argparse.Namespace, network: VideoModel, typed: Sequence[str]) -> Mapping[str, Any]:
    """Return a table's header: model, cells to time, command, commit, machine, date."""
    from vosmodels.evaluation.speed import timing
    from vosmodels.support import provenance

    several = [args.objects] if args.objects else OBJECTS
    device = timing.device_name(args.device)
    if args.durations:
        cells = duration_cells(several)
    elif args.runtime:
        cells = graph_cells(several, args.frames or GRAPH_FRAMES)
        device = f"{device}, {args.runtime}"
    else:
        cells = queue_cells(args.objects or 1, args.frames or SHORT)
    return {
        "table": "durations" if args.durations else "graphs" if args.runtime else "queues",
        "model": args.model or args.checkpoint,
        "parameters": timing.parameters(network),
        "size": args.size,
        "precision": args.precision,
        "graph": args.graph,
        "device": device,
        "cells": cells,
        "command": provenance.command_line(MODULE, typed),
        "commit": provenance.commit(),
        "machine": provenance.machine(),
        "date": provenance.today(),
    }


def _checked(args: argparse.Namespace) -> tuple[int, int]:
    """Return --size as (H, W). Raises UsageError listing all problems of the options."""
    problems = []
    size = cli.size_of(args.size)
    objects = max(OBJECTS) if args.durations and args.objects is None else args.objects
    if args.runtime and args.objects is None:
        objects = max(OBJECTS)
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
    if args.graph and (args.device == cli.CPU or args.queues):
        problems.append("--graph: wants --device cuda, and no --queues: one of them has no end")
    if args.memory and args.queues:
        problems.append(f"--memory {args.memory}: --queues times memories of its own")
    if args.runtime and not args.queues:
        problems.append(
            f"--runtime {args.runtime}: give --queues, or --exported DIR for one export"
        )
    taken = {"device": args.device != cli.CPU, "precision": args.precision != PRECISIONS[0]}
    if args.runtime and (given := [f"--{name}" for name, value in taken.items() if value]):
        problems.append(
            f"{', '.join(given)} with --runtime: graphs are of {PRECISIONS[0]} on a CPU"
        )
    stored = bool(args.checkpoint) and args.checkpoint.startswith(("models:/", "mlflow:"))
    if stored:
        problems.append(
            f"--checkpoint {args.checkpoint}: a file is wanted; get it with: "
            f"python -m orchestrator.fetch {args.checkpoint} student.safetensors"
        )
    if args.model:
        try:
            registry.config(args.model)
        except InputError as error:
            problems.append(f"--model: {error}")
    checks: list[Callable[[], None]] = [partial(cli.check_device, args.device, DEVICES)]
    if not args.model and not stored:
        file, remedy = demo.file_of(args.checkpoint), f"give {demo.FILE_OR_DEMO}"
        checks.append(partial(cli.check_exists, file, "file", remedy))
    absent = []
    for check in checks:
        try:
            check()
        except UsageError as error:
            problems.append(str(error))
        except InputError as error:
            absent.append(str(error))
    if problems:
        raise UsageError("\n".join(problems + absent))
    if absent:
        raise InputError("; ".join(absent))
    return size


def _check_memory(
    args: argparse.Namespace,
    network: VideoModel,
    size: tuple[int, int],
    memory: MemoryRule | None,
) -> None:
    """Raise InputError where a video of that size does not fit in the memory of the device."""
    import torch

    from vosmodels.evaluation.speed.timing import PICTURES
    from vosmodels.inference.video_need import video_need
    from vosmodels.support.memory import gib, machine_memory

    objects = args.objects or (max(OBJECTS) if args.durations else 1)
    frames = LONG if args.durations else args.frames or SHORT
    pixels = size[0] * size[1]
    pictures = 4 * 3 * PICTURES * pixels
    video = video_need(network, objects, memory).of(*size, frames)
    on_gpu = args.device != cli.CPU
    if on_gpu:
        there = float(torch.cuda.get_device_properties(args.device).total_memory)
    else:
        there = float(machine_memory().total)
    if pictures + video > there:
        raise InputError(
            f"--size {args.size}, objects {objects}, frames {frames}: {gib(pictures)} for "
            f"{PICTURES} pictures + {gib(video)} for the model; "
            f"{args.device if on_gpu else 'this machine'} has {gib(there)}: lower --size, "
            "--objects or --frames"
        )


def _model(args: argparse.Namespace) -> VideoModel:
    if args.model:
        return registry.build(args.model, seed=0)
    from vosmodels.checkpoint import load_model

    return load_model(demo.file_of(args.checkpoint))


if __name__ == "__main__":
    sys.exit(main())
