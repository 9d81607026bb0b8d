"""Serve an exported page, so that a browser may load its scripts and graphs."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from vosmodels.errors import InputError

HERE = "127.0.0.1"


class _Files(SimpleHTTPRequestHandler):
    """Files of a folder; a browser asks again for each that has changed."""

    extensions_map: Mapping[str, str] = {  # type: ignore[assignment]
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".wasm": "application/wasm",
        ".png": "image/png",
        ".jpg": "image/jpeg",
        "": "application/octet-stream",
    }

    def end_headers(self) -> None:
        """Let no browser keep a file of an earlier export."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def list_directory(self, path: Any) -> None:
        """Show no folder."""
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        """Print no line for a request."""


def page_server(folder: Path, host: str, port: int) -> ThreadingHTTPServer:
    """Open a server of a folder; port 0 for any free one. Raises InputError where none opens."""
    handler = partial(_Files, directory=str(folder))
    try:
        return ThreadingHTTPServer((host, port), handler)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"--port {port}: in use already; give another") from error
        raise InputError(f"--host {host}: cannot be served at ({error.strerror})") from error


def is_local(host: str) -> bool:
    """Say whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
