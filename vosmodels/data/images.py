"""Read a picture file: its pixels as RGB, or its header alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from vosmodels.errors import InputError
from vosmodels.types import U8

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_ENDS = {"JPEG": _JPEG_END, "PNG": b"IEND\xaeB`\x82"}  # by Pillow's name of the format
_TAIL = 8  # bytes of the longest end marker


def read_frame(path: Path) -> U8:
    """Read a picture as (H, W, 3) uint8 RGB.

    An orientation tag is ignored, because masks have none. Raises InputError if the file is
    missing, is not a picture, or is cut off (the decoder would fill the rest with grey, silently).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    cut = data.startswith(_JPEG_START) and not data.rstrip(b"\0").endswith(_JPEG_END)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        frame = None if cut or not data else cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # the header promises more pixels than the decoder allows
        frame = None
    if frame is None:
        what = "is cut off" if cut else "cannot be decoded"
        raise InputError(
            f"{path}: corrupt picture, {len(data)} bytes that {what}; "
            "restore the file from its source, or take it, or its video, out of the set"
        )
    return np.asarray(frame, dtype=np.uint8)


@dataclass(frozen=True)
class Header:
    """A picture file's size (H, W), Pillow mode and end marker, read without decoding.

    ends: the file ends with its format's end marker. A file without the marker may be cut off;
    only decoding tells.
    """

    size: tuple[int, int]
    mode: str
    ends: bool


def header(path: Path) -> Header:
    """Read a picture file's header and last bytes, decoding nothing.

    Raises InputError if the file cannot be read or is not a picture.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            size = image.height, image.width
            file.seek(-min(_TAIL, path.stat().st_size), os.SEEK_END)
            tail = file.read()
            return Header(size, image.mode, tail.endswith(_ENDS.get(image.format or "", b"")))
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not a picture (its header is unknown)") from error
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError on a broken PNG chunk
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason})") from error


def image_size(path: Path) -> tuple[int, int]:
    """Read a picture's size (H, W) from its header. Raises InputError as `header`."""
    return header(path).size
