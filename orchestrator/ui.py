"""Show a store's runs, checkpoints and masks in the browser: `python -m orchestrator.ui`."""

from __future__ import annotations

import argparse
import os
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.config.sections import PORT, STORAGE
from vosmodels.support import cli

MODULE = "orchestrator.ui"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = cli.parser(
        MODULE,
        "Serve MLflow's pages on 127.0.0.1 until Ctrl-C, print the page of each experiment, and "
        "open the newest where there is a display.",
        f"python -m {MODULE} --port 5001",
        tracking=True,
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}")

    def work(args: argparse.Namespace) -> Mapping[str, Any]:
        from orchestrator.tracking.mlflow_pages import pages_of, served
        from orchestrator.tracking.mlflow_store import locate

        store = locate(args.tracking_uri, Path(STORAGE))
        pages = pages_of(store, args.port)
        print(f"{store.uri}: starting MLflow, which takes a while", file=sys.stderr)
        with served(store, args.port) as server, suppress(KeyboardInterrupt):
            for name, page in pages.items():
                print(f"{name}: {page}", flush=True)
            print("until Ctrl-C", file=sys.stderr)
            if pages and has_display(os.environ, sys.platform):
                webbrowser.open(next(iter(pages.values())))
            server.wait()
        return {"pages": dict(pages)}

    return cli.run(parser, argv, work)


def has_display(environment: Mapping[str, str], platform: str) -> bool:
    """Tell whether a browser that is opened here is seen by a person."""
    return platform == "darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & environment.keys())


if __name__ == "__main__":
    sys.exit(main())
