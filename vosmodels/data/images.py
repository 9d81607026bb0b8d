"""Read a picture file: its pixels as RGB, or its header alone."""

from __future__ import annotations

import io
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vosmodels.errors import InputError
from vosmodels.types import U8

UPRIGHT = 1  # EXIF's orientation of a picture that is stored as it is seen
_ORIENTATION = 0x0112  # EXIF tag
_ON_THEIR_SIDE = (5, 6, 7, 8)  # orientations whose rows are the columns that are seen
_JPEG_START, _PNG_START = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}  # by Pillow's name of the format
_TAIL = 8  # bytes of the longest end marker
# A marker of a JPEG. In the coded data FF00 is the value FF, and FFD0 to FFD7 restart the decoder.
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")
_END, _WITHOUT_LENGTH = 0xD9, (0x01, 0xD8)


def read_frame(path: Path) -> U8:
    """Read a picture as (H, W, 3) uint8 RGB, turned as its orientation tag says.

    Bytes after the end of a JPEG or PNG, as phones and editors write them, are ignored. Raises
    InputError if the file is missing, is not a picture, or is cut off (the decoder would fill the
    rest with grey, silently).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    whole = _is_whole(data)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if whole and data else None
    except cv2.error:  # the header promises more pixels than the decoder allows
        frame = None
    if frame is None:
        what = "cannot be decoded" if whole else "are cut off"
        raise InputError(
            f"{path}: corrupt picture, {len(data)} bytes that {what}; restore the file from its "
            "source"
        )
    return np.ascontiguousarray(turn(frame, _stored_orientation(data)), dtype=np.uint8)


def _is_whole(data: bytes) -> bool:
    """Return False for a JPEG or PNG whose end is missing; True for any other bytes."""
    if data.startswith(_JPEG_START):
        return data.endswith(_ENDS["JPEG"]) or _jpeg_ends(data)
    if data.startswith(_PNG_START):
        return data.endswith(_ENDS["PNG"]) or _png_ends(data)
    return True


def _jpeg_ends(data: bytes) -> bool:
    """Walk the segments of a JPEG, over thumbnails inside them; return True if it has an end."""
    place = len(_JPEG_START)
    while match := _MARKER.search(data, place):
        marker, place = match[1][0], match.end()
        if marker == _END:
            return True
        if marker not in _WITHOUT_LENGTH:
            place += int.from_bytes(data[place : place + 2], "big")
    return False


def _png_ends(data: bytes) -> bool:
    """Walk the chunks of a PNG; return True if the last one is there."""
    place = len(_PNG_START)
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] == b"IEND":
            return True
        place += 12 + length
    return False


def turn(picture: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror an array (H, W, ...) as EXIF's orientation 1 to 8 says.

    2, 4, 5, 7 are mirrored; 3 is upside down; 5 to 8 lie on their side. Other values, which EXIF
    does not define, leave the picture as it is.
    """
    if orientation in _ON_THEIR_SIDE:
        picture = picture.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    return picture


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened picture, UPRIGHT without a tag or a broken one."""
    stored = image.info.get("exif")
    if not stored:
        return UPRIGHT
    exif = Image.Exif()
    try:
        exif.load(stored)
        value = exif.get(_ORIENTATION, UPRIGHT)
    except (SyntaxError, ValueError, KeyError, TypeError, OSError, OverflowError):
        return UPRIGHT
    return value if isinstance(value, int) and 1 <= value <= 8 else UPRIGHT


def _stored_orientation(data: bytes) -> int:
    if b"Exif" not in data and b"eXIf" not in data:
        return UPRIGHT
    with warnings.catch_warnings(action="ignore"):
        try:
            with Image.open(io.BytesIO(data)) as image:
                return orientation_of(image)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return UPRIGHT  # cv2 has decoded the picture, so it is one


@dataclass(frozen=True)
class Header:
    """A picture file's header and end marker, read without decoding.

    size: (H, W) as `read_frame` returns the picture; mode: Pillow's; ends: the file ends with its
    format's end marker (a file without the marker may be cut off; only reading it whole tells);
    orientation: EXIF's.
    """

    size: tuple[int, int]
    mode: str
    ends: bool
    orientation: int = UPRIGHT


def header(path: Path) -> Header:
    """Read a picture file's header and last bytes, decoding nothing.

    Raises InputError if the file cannot be read, is not a picture, or has more pixels than Pillow
    decodes.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with path.open("rb") as file, Image.open(file) as image:
                orientation = orientation_of(image)
                size = (image.height, image.width)
                size = size[::-1] if orientation in _ON_THEIR_SIDE else size
                file.seek(-min(_TAIL, path.stat().st_size), os.SEEK_END)
                ends = file.read().endswith(_ENDS.get(image.format or "", b""))
                return Header(size, image.mode, ends, orientation)
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not a picture (its header is unknown)") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path}: too many pixels ({error}); scale the picture down") from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's errors on a broken PNG chunk
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason})") from error


def image_size(path: Path) -> tuple[int, int]:
    """Read a picture's size (H, W) from its header. Raises InputError as `header`."""
    return header(path).size
