"""Read from an MP4 or MOV file how much of its video is shown.

A film that a phone has trimmed still counts all its frames; its edit list says which part of them
a player shows (ISO/IEC 14496-12, 8.6.6).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

MOST_BYTES = 1 << 26  # of the box without pictures; a film of hours has a few MiB there


def shown_part(path: Path) -> float:
    """Return the part of the video's time that the edit list shows; 1 if all, or if unknown."""
    try:
        movie = list(_boxes(_movie(path)))
        clock, _ = _times(dict(movie)[b"mvhd"])
        for name, track in movie:
            boxes = dict(_boxes(track)) if name == b"trak" else {}
            media = dict(_boxes(boxes.get(b"mdia", b"")))
            edits = dict(_boxes(boxes.get(b"edts", b""))).get(b"elst")
            if edits and media[b"hdlr"][8:12] == b"vide":
                media_clock, duration = _times(media[b"mdhd"])
                return min(1.0, _shown(edits) / clock * media_clock / duration)
    except (KeyError, struct.error, ZeroDivisionError, OSError):  # no such format
        pass
    return 1.0


def _movie(path: Path) -> bytes:
    """Return what the file's moov box holds; nothing if there is none."""
    whole = path.stat().st_size
    with path.open("rb") as file:
        while len(head := file.read(8)) == 8:
            size, name = struct.unpack(">I4s", head)
            start = 8
            if size == 1:
                (size,), start = struct.unpack(">Q", file.read(8)), 16
            if not start <= size <= whole:  # up to the end of the file, or broken
                break
            if name == b"moov":
                return file.read(min(size - start, MOST_BYTES))
            file.seek(size - start, os.SEEK_CUR)
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and the content of each box in `data`."""
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if size < 8:
            return
        yield name, data[at + 8 : at + size]
        at += size


def _times(box: bytes) -> tuple[int, int]:
    """Return the ticks a second and the duration in ticks of an mvhd or mdhd box."""
    wide = box[:1] == b"\1"  # dates and durations of 64 bits
    clock, duration = struct.unpack_from(">IQ" if wide else ">II", box, 20 if wide else 12)
    return clock, duration


def _shown(box: bytes) -> int:
    """Return the ticks of the movie's clock in which an elst box shows the media."""
    (count,) = struct.unpack_from(">I", box, 4)
    layout = struct.Struct(">QqI" if box[:1] == b"\1" else ">IiI")
    entries = (layout.unpack_from(box, 8 + layout.size * i) for i in range(count))
    return sum(duration for duration, start, _ in entries if start >= 0)
