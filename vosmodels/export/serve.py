"""Serve an exported page on this machine: `python -m vosmodels.export.serve`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from vosmodels.errors import InputError, UsageError
from vosmodels.export.page_server import HERE, is_local, page_server
from vosmodels.support import cli

MODULE = "vosmodels.export.serve"
PORT = 8000
LAST_PORT = 65535


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = cli.parser(
        MODULE,
        f"Serve a page of `python -m vosmodels.export --web` on {HERE} until Ctrl-C.",
        f"python -m {MODULE} page --port 8001",
    )
    parser.add_argument("folder", metavar="DIR", type=cli.path, help="an exported page")
    parser.add_argument("--port", type=int, default=PORT, help=f"default {PORT}; 0: any free one")
    parser.add_argument(
        "--host",
        default=HERE,
        help=f"address to serve at; default {HERE}; 0.0.0.0 lets every machine of the network in",
    )
    return cli.run(parser, argv, _work)


def _work(args: argparse.Namespace) -> Mapping[str, Any]:
    if not 0 <= args.port <= LAST_PORT:
        raise UsageError(f"--port {args.port}: 0 to {LAST_PORT}")
    for name in ("index.html", "student.json"):
        if not (args.folder / name).is_file():
            raise InputError(
                f"{args.folder}: holds no {name}; write a page there by: "
                f"python -m vosmodels.export --web {args.folder} demo"
            )
    with page_server(args.folder, args.host, args.port) as server:
        port = server.server_address[1]
        address = f"http://{args.host}:{port}"
        if not is_local(args.host):
            print(
                f"warning: --host {args.host}: every machine that reaches this one can load the "
                f"page, a phone by http://NAME:{port} with this machine's name or address; "
                "without https its browser gives no camera",
                file=sys.stderr,
            )
        print(address, flush=True)
        print("until Ctrl-C", file=sys.stderr)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    return {"address": address}


if __name__ == "__main__":
    sys.exit(main())
