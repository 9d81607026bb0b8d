"""Note an interrupt while Ray works, and raise it where no library can lose it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

HEARD = b"interrupted: the jobs are being stopped; once more ends at once\n"
SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and what `kill` and batch systems send


@contextmanager
def noted() -> Iterator[Callable[[], None]]:
    """Note SIGINT and SIGTERM in this block; yield a function that raises after one.

    Raised inside a library, KeyboardInterrupt can be caught or ignored there, and the run goes on.
    The function that is yielded raises it where it is called. The end of the block raises it too,
    also in place of an error. A second signal raises at once. The first one says that it was heard.
    Works in the main thread alone, as Python's signal handlers do.
    """
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True
        os.write(sys.stderr.fileno(), HEARD)  # a handler may stand within another print

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield check
    except Exception:  # workers that the signal reached too may have failed of it
        check()
        raise
    finally:
        for number, handler in before.items():
            if handler is not None:  # of Python; a handler of C cannot be put back
                signal.signal(number, handler)
    check()
