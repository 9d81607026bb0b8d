"""Run `python -m vosmodels.export`: write a student as graphs for phones, or as a web page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vosmodels import demo
from vosmodels.errors import UsageError
from vosmodels.export.formats import FORMATS, NAMES, PRECISIONS, check_writable
from vosmodels.export.web_runtime import check_runtime
from vosmodels.support import cli
from vosmodels.support.outputs import check_output
from vosmodels.types import FEWEST_ROWS

if TYPE_CHECKING:
    from vosmodels.export.folder import Request

MODULE = "vosmodels.export"
PAGE = "onnx"  # the format of a page's graphs
MOST_OBJECTS = 255
PLAIN = {"size": "", "objects": 1, "precision": "fp32"}  # of graphs alone
OF_PAGE = {"format": PAGE, "size": "240x432", "objects": 3, "precision": "fp16"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = cli.parser(
        MODULE,
        "Export a student as graphs of fixed shape, with a runner and a clip to check them by; "
        "with --web also the page that runs them in a browser.",
        f"python -m {MODULE} demo --format onnx --size 240x432 --objects 2 --out exported\n"
        f"  python -m {MODULE} --web page demo",
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help=demo.FILE_OR_DEMO)
    parser.add_argument("--format", choices=NAMES, help="of the graphs; of a page onnx")
    parser.add_argument(
        "--web",
        metavar="DIR",
        type=cli.path,
        help="write graphs and their web page into a new folder, for any static server",
    )
    parser.add_argument("--size", help="HEIGHTxWIDTH of the frames; of a page 240x432")
    parser.add_argument(
        "--objects", metavar="N", type=int, help="slots for objects; default 1, of a page 3"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="in which weights are stored; they are computed with in float32; default fp32, "
        "of a page fp16",
    )
    parser.add_argument(
        "--licence",
        metavar="TEXT",
        action="append",
        default=[],
        help="of the data that the weights were trained on, for the description; repeatable",
    )
    cli.add_memory(parser)
    parser.add_argument("--out", metavar="DIR", type=cli.path, help="a new folder")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    parser.add_argument(
        "--check", metavar="DIR", type=cli.path, help="run an exported folder on its own clip"
    )
    return cli.run(parser, argv, _work)


def _work(args: argparse.Namespace) -> Mapping[str, Any]:
    if args.check:
        return _check(args)
    for name, value in (OF_PAGE if args.web else PLAIN).items():
        setattr(args, name, value if getattr(args, name) is None else getattr(args, name))
    height, width = _checked(args)
    file = demo.file_of(args.file)
    out = (
        args.web
        or args.out
        or Path(f"{file.stem if args.file != demo.DEMO else demo.DEMO}-{args.format}")
    )
    cli.check_all(
        partial(cli.check_exists, file, "file", f"give {demo.FILE_OR_DEMO}"),
        partial(
            check_output,
            out,
            {"FILE": file},
            folder=True,
            overwrite=args.overwrite,
            name="--web" if args.web else "--out",
        ),
        *([check_runtime] if args.web else []),
    )
    check_writable(args.format)
    from vosmodels.export.folder import Request, export

    licences = args.licence or (demo.LICENCES if args.file == demo.DEMO else ())
    request = Request(
        height, width, args.objects, args.memory, args.precision, licences, args.format
    )
    if args.web:
        return _page(args, file, request)
    sidecar = export(file, request, out, _say)
    if not args.json:
        sizes = ", ".join(f"{g.file} {g.bytes / 2**20:.1f} MiB" for g in sidecar.graphs.values())
        print(f"{out}: {sizes}; {sidecar.memory.frames} frames of memory ({sidecar.memory.rule})")
        print(f"next:\n  python -m {MODULE} --check {out}")
    return sidecar.model_dump(mode="json")


def _page(args: argparse.Namespace, file: Path, request: Request) -> Mapping[str, Any]:
    from vosmodels.export.page import export_page

    page = export_page(file, request, args.web, _say)
    sizes = {"graphs": page.graphs, "wasm": page.wasm, "webgpu": page.webgpu, "page": page.scripts}
    if not args.json:
        shown = ", ".join(f"{name} {size / 2**20:.2f} MiB" for name, size in sizes.items())
        print(f"{args.web}: {shown}; {args.objects} objects, {args.size}")
        print(f"next:\n  python -m vosmodels.export.serve {args.web}")
    return {**page.sidecar.model_dump(mode="json"), "bytes": sizes}


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _check(args: argparse.Namespace) -> Mapping[str, Any]:
    if args.file:
        raise UsageError(f"{args.file}: --check takes an exported folder, and no FILE beside it")
    if args.web:
        raise UsageError(f"--web {args.web}: --check runs a folder and writes none")
    from vosmodels.export.check import LIMIT, check

    found = check(args.check)
    verdict = "as the model" if found.passed else f"NOT as the model; at most {LIMIT:.2%} may"
    line = f"{args.check}: {found.frames} frames, {found.differing:.4%} of pixels differ, {verdict}"
    if not args.json:
        print(f"{line}; {found.median_ms:.0f} ms a frame")
    result = {**asdict(found), "passed": found.passed}
    if not found.passed:
        print(f"error: {line}", file=sys.stderr)
        raise cli.CommandFailed(result)
    return result


def _checked(args: argparse.Namespace) -> tuple[int, int]:
    """Return --size as (H, W). Raises UsageError listing all problems of the options."""
    problems = []
    if not args.file:
        problems.append(f"FILE: give {demo.FILE_OR_DEMO}, or --check DIR")
    if args.web and args.out:
        problems.append(
            f"--out {args.out}: the graphs of a page lie in its folder; give --web alone"
        )
    if not args.format:
        problems.append(f"--format: one of {', '.join(NAMES)}")
    elif args.web and args.format != PAGE:
        problems.append(f"--format {args.format}: a page runs {PAGE} graphs; leave it out")
    elif args.precision not in (facts := FORMATS[args.format]).precisions:
        problems.append(f"--precision {args.precision}: {facts.refuses()}")
    size = cli.size_of(args.size)
    if min(size) < FEWEST_ROWS:
        given = f" {args.size}" if args.size else ""
        problems.append(f"--size{given}: HEIGHTxWIDTH, {FEWEST_ROWS} or more each")
    if not 1 <= args.objects <= MOST_OBJECTS:
        problems.append(f"--objects {args.objects}: 1 to {MOST_OBJECTS}")
    if args.file and args.file.startswith(("models:/", "mlflow:")):
        problems.append(
            f"{args.file}: a file is wanted; get it with: "
            f"python -m orchestrator.fetch {args.file} student.safetensors"
        )
    if problems:
        raise UsageError("\n".join(problems))
    return size


if __name__ == "__main__":
    sys.exit(main())
