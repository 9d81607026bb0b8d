"""Pictures on disk: a frame as RGB, and the size a file's header declares."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from vosmodels.types import U8, InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


def read_frame(path: Path) -> U8:
    """(H, W, 3) uint8 RGB as stored; an orientation tag is ignored, because masks have none.

    Raises InputError where the file is missing, is not a picture, or ends too early (the decoder
    would fill the lost part with grey and say nothing).
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
            "restore the file from its source, or take its sequence out of the split"
        )
    return np.asarray(frame, dtype=np.uint8)


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) by the file's header alone; nothing is decoded. Raises InputError."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not a picture (its header is unknown)") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
