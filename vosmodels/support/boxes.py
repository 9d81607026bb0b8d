"""Read boxes around objects as users write them; loads no library."""

from __future__ import annotations

import re
from typing import NamedTuple

SMALLEST = 4  # px, a box's shorter side


class Box(NamedTuple):
    """A box in pixels of the first frame: columns x0..x1 - 1, rows y0..y1 - 1."""

    x0: int
    y0: int
    x1: int
    y1: int

    @classmethod
    def of(cls, text: str) -> Box:
        """Read `x0,y0,x1,y1`. Raises ValueError on anything else, or on an empty box."""
        match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*", text)
        box = cls(*(int(part[:9]) for part in match.groups())) if match else cls(0, 0, 0, 0)
        if min(box.x1 - box.x0, box.y1 - box.y0) < SMALLEST:
            raise ValueError(
                f"{text!r}: pixels of the first frame, left,top,right,bottom, such as "
                f"40,60,200,180; at least {SMALLEST} apart"
            )
        return box

    def __str__(self) -> str:
        return ",".join(map(str, self))
