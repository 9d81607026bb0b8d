"""Read, write and resize masks of object ids: (H, W) uint8, 0 = background.

On disk a mask is a palette or grey PNG.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vosmodels.errors import InputError
from vosmodels.types import U8

MODES = ("P", "L", "1")  # Pillow's palette, grey, black and white: one number per pixel


def read_mask(path: Path, *, merge: bool = False) -> U8:
    """Read a mask file as ids (H, W) uint8.

    Palette indices (DAVIS-2017) and grey levels below 255 are taken as ids; a mask of nothing but
    0 and 255 (DAVIS-2016) becomes 0 and 1. `merge` turns all ids into the single object 1.
    Raises InputError if the file is missing or corrupt, if its colours are not ids (RGB), or if 255
    occurs beside other ids: the mask is then anti-aliased or marks a void area.
    """
    try:
        with Image.open(path) as image:
            mode = image.mode
            ids = np.array(image, dtype=np.uint8) if mode in MODES else None
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError on a broken PNG chunk
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: corrupt or missing mask ({reason})") from error
    if ids is None:
        raise InputError(
            f"{path}: mode {mode!r}; masks are palette ('P') or grey ('L') PNG "
            "whose numbers are object ids: save it indexed, without colours"
        )
    if ids.max(initial=0) == 255:
        full = ids == 255
        odd = ids[~full & (ids != 0)]
        if odd.size:
            raise InputError(
                f"{path}: value {int(odd[0])} beside 255; a mask holds 0 and 255, or 0 and ids "
                "below 255: threshold a smoothed mask, and set void areas to 0"
            )
        ids = full.astype(np.uint8)
    return (ids > 0).astype(np.uint8) if merge else ids


def write_palette(path: Path, ids: NDArray[Any]) -> None:
    """Write (H, W) ids in 0..255 as a PNG with the DAVIS palette.

    Raises ValueError if `ids` is empty, not two-dimensional or does not fit eight bits.
    """
    if ids.ndim != 2 or ids.size == 0 or ids.min() < 0 or ids.max() > 255:
        raise ValueError(f"ids of shape {ids.shape}: wanted (H, W) with values in 0..255")
    image = Image.fromarray(ids.astype(np.uint8))
    image.putpalette(palette().tobytes())
    image.save(path, format="PNG")


def palette() -> U8:
    """Return the PASCAL VOC colours, which DAVIS uses too: (256, 3) uint8 RGB.

    Bits 0, 1, 2 of an id go to red, green, blue, most significant colour bit first; then the next
    three bits go to the next colour bit.
    """
    ids = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for place in range(3):
        for channel in range(3):
            bit = (ids >> (3 * place + channel)) & 1
            colours[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return colours


def object_ids(ids: NDArray[Any]) -> tuple[int, ...]:
    """Return the object ids of a mask, ascending, without background."""
    return tuple(int(i) for i in np.unique(ids) if i)


def resize_ids(ids: U8, height: int, width: int) -> U8:
    """Resize ids (H, W) -> (height, width) by nearest pixel centre; adds no new id."""
    if ids.shape == (height, width):
        return ids
    resized = cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, dtype=np.uint8)
