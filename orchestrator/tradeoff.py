"""Export a student in several ways, score and time each: `python -m orchestrator.tradeoff`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from orchestrator.config.arguments import add_checkpoint
from orchestrator.config.data import DataConfig
from orchestrator.config.sections import EXPERIMENT, MODEL, REFERENCES
from vosmodels import demo
from vosmodels.export.formats import FORMATS, PRECISIONS, check_writable
from vosmodels.memory_rule import GRAMMAR
from vosmodels.support import cli
from vosmodels.support.paths import expanded
from vosmodels.types import FEWEST_ROWS

MODULE = "orchestrator.tradeoff"
FILE = "tradeoff.json"
MEMORIES = ("first", "first,last", "first,last,2x5", "first,last,allx5")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = cli.parser(
        MODULE,
        "Export a student with several memories, and with its own in several precisions; "
        "score each on videos and time it. Writes the exports, a table and a figure.",
        f"python -m {MODULE} --checkpoint demo --data /data/DAVIS --split val --size 240x432 "
        "--out exports",
        tracking=True,
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--data", metavar="ROOT", required=True, help="a DAVIS or YouTube-VOS folder, or: generated"
    )
    parser.add_argument("--split", required=True, help="the videos: a name, or a FILE.txt of names")
    parser.add_argument("--size", required=True, help="HEIGHTxWIDTH of the graphs' frames")
    parser.add_argument("--objects", metavar="N", type=int, default=1, help="slots; default 1")
    parser.add_argument(
        "--memory",
        metavar="RULE",
        type=cli.memory_rule,
        nargs="+",
        help=f"{GRAMMAR}; a memory that grows gets room for the longest video; default: "
        f"{' '.join(MEMORIES)} and the student's own",
    )
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="default onnx")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        nargs="+",
        help="of the weights, with the last memory; the others have the first of these; "
        "default: all that the format has",
    )
    parser.add_argument("--frames", metavar="N", type=int, default=100, help="timed; default 100")
    parser.add_argument("--threads", metavar="N", type=int, default=1, help="default 1")
    parser.add_argument(
        "--out", metavar="DIR", type=cli.path, required=True, help="the same again goes on"
    )
    typed = sys.argv[1:] if argv is None else argv
    work = partial(_work, typed=typed)
    return cli.run(parser, argv, work, resume="the same command goes on from there")


def _work(args: argparse.Namespace, *, typed: Sequence[str]) -> Mapping[str, Any]:
    size = _checked(args)
    from orchestrator.execution.export_rows import ExportRow, choices, export_rows
    from orchestrator.reporting import tradeoff, tradeoff_figure
    from orchestrator.tracking.checkpoint_refs import find
    from vosmodels import checkpoint
    from vosmodels.export.folder import Request
    from vosmodels.memory_rule import MemoryRule
    from vosmodels.support import provenance
    from vosmodels.support.atomic_files import write_json
    from vosmodels.support.digests import sha256_of

    check_writable(args.format)
    source = find(args.checkpoint, args.tracking_uri)
    own = checkpoint.load_model(source.path).memory
    rules = args.memory or [*(MemoryRule.of(text) for text in MEMORIES), own]
    head = {
        "model": args.checkpoint,
        "sha256": sha256_of(source.path),
        "data": args.data,
        "split": args.split,
        "size": args.size,
        "objects": args.objects,
        "frames": args.frames,
        "threads": args.threads,
        "runtime": args.format,
        "command": provenance.command_line(MODULE, typed),
        "commit": provenance.commit(),
        "machine": provenance.machine(),
        "date": provenance.today(),
    }
    path = args.out / FILE
    done = []
    if path.exists():
        tradeoff.check_same(path, head)
        done = [ExportRow(**row) for row in tradeoff.read(path)["rows"]]
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[ExportRow] = []
    for row in export_rows(
        source.path,
        Request(*size, args.objects, format=args.format),
        choices(list(dict.fromkeys(rules)), args.precision or FORMATS[args.format].precisions),
        DataConfig(root=args.data),
        args.split,
        args.out,
        frames=args.frames,
        threads=args.threads,
        done=done,
        say=partial(print, file=sys.stderr),
    ):
        rows.append(row)
        kept = rows if len(rows) >= len(done) else done
        write_json(path, {**head, "rows": [asdict(each) for each in kept]})
    values = {**head, "rows": [asdict(row) for row in rows]}
    tradeoff_figure.draw(values, path.with_suffix(".png"))
    if not args.json:
        from vosmodels.support.grid import screen

        screen(columns=110).print(tradeoff.grid(values).terminal())
        print(f"figure {path.with_suffix('.png')}")
    return values


def _checked(args: argparse.Namespace) -> tuple[int, int]:
    """Return --size as (H, W). Raises UsageError or InputError listing all problems."""
    size = cli.size_of(args.size)
    usage = []
    if min(size) < FEWEST_ROWS:
        usage.append(f"--size {args.size}: HEIGHTxWIDTH, {FEWEST_ROWS} or more each")
    usage += [
        f"--{name} {getattr(args, name)}: 1 or more"
        for name in ("objects", "frames", "threads")
        if getattr(args, name) < 1
    ]
    precisions, facts = args.precision or PRECISIONS[:1], FORMATS[args.format]
    if precisions[0] != PRECISIONS[0]:
        usage.append(
            f"--precision {precisions[0]}: {PRECISIONS[0]} comes first, as the others are "
            "compared with it"
        )
    usage += [
        f"--precision {precision}: {facts.refuses()}"
        for precision in precisions
        if precision not in facts.precisions
    ]
    checks = [partial(cli.refuse, problem) for problem in usage]
    if not DataConfig(root=args.data).generated:
        remedy = "give the root of a dataset, or: generated"
        checks.append(partial(cli.check_exists, expanded(args.data), "folder", remedy))
    if args.checkpoint and not args.checkpoint.startswith((EXPERIMENT, MODEL)):
        file = demo.file_of(args.checkpoint)
        checks.append(partial(cli.check_exists, file, "file", f"give {REFERENCES}"))
    if args.out.is_dir() and any(args.out.iterdir()) and not (args.out / FILE).exists():
        problem = f"--out {args.out}: holds files of something else; give a new folder"
        checks.append(partial(cli.refuse, problem))
    cli.check_all(*checks)
    return size


if __name__ == "__main__":
    sys.exit(main())
