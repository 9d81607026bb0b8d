"""Read, write and resize masks of object ids: (H, W) uint8, 0 = background.

On disk a mask is a palette or grey PNG.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vosmodels.data.images import orientation_of, turn
from vosmodels.errors import InputError
from vosmodels.types import U8

PLAIN_MODES = ("P", "L", "1")  # Pillow's palette, grey, black and white: one number per pixel
NO_LABEL = 255  # in uint8 ids: a pixel without a label; `read_mask` never returns it
_OPAQUE = {"LA": "L", "PA": "P", "RGBA": "RGB"}  # modes with alpha, and the same without
_FULL = {"I;16": 65535}  # the level of white where it is not 255


def read_mask(path: Path, *, merge: bool = False) -> U8:
    """Read a mask file as ids (H, W) uint8, turned as its orientation tag says, if it has one.

    Palette indices (DAVIS-2017) and grey levels below 255 are taken as ids; a mask of nothing but
    0 and 255 (DAVIS-2016) becomes 0 and 1. Grey levels may be stored with an alpha channel that is
    opaque everywhere, as equal red, green and blue, or in 16 bits. `merge` turns all ids into the
    single object 1.
    Raises InputError if the file is missing or corrupt, if its pixels are no ids (colours,
    transparency, values above 255), or if 255 occurs beside other ids: the mask is then
    anti-aliased or marks a void area.
    """
    levels = _levels(path)
    if levels.max(initial=0) == 255:
        full = levels == 255
        odd = levels[~full & (levels != 0)]
        if odd.size:
            raise InputError(
                f"{path}: value {int(odd[0])} beside 255; a mask holds 0 and 255, or 0 and ids "
                "below 255: threshold a smoothed mask, and set void areas to 0"
            )
        levels = full.astype(np.uint8)
    return (levels > 0).astype(np.uint8) if merge else levels


def _levels(path: Path) -> U8:
    """Read a mask's palette indices or grey levels (H, W). Raises InputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                mode, values = image.mode, np.array(image)
                values = turn(values, orientation_of(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path}: too many pixels ({error}); scale the mask down") from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's errors on a broken PNG chunk
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: corrupt or missing mask ({reason})") from error
    stored = mode
    if mode in _OPAQUE:
        alpha = values[..., -1]
        if alpha.min(initial=255) < 255:
            raise _unclear(path, stored, f"alpha down to {int(alpha.min())}", "without alpha")
        mode = _OPAQUE[mode]
        values = values[..., :-1] if mode == "RGB" else values[..., 0]
    if mode == "RGB":
        coloured = (values != values[..., :1]).any(axis=2)
        if coloured.any():
            colour = tuple(map(int, values[coloured][0]))
            raise _unclear(path, stored, f"colour {colour}", "indexed, without colours")
        values, mode = values[..., 0], "L"
    if mode in _FULL:
        white = values == _FULL[mode]
        if white.any() and not values[~white].any():  # black and white
            values = np.where(white, 255, 0)
        if values.max(initial=0) > 255:
            odd = int(values[values > 255][0])
            raise _unclear(path, stored, f"value {odd}", "in 8 bits, with ids below 255")
    elif mode not in PLAIN_MODES:
        raise _unclear(path, stored, f"pixels of mode {mode!r}", "indexed, without colours")
    return np.ascontiguousarray(values, dtype=np.uint8)


def _unclear(path: Path, mode: str, value: str, remedy: str) -> InputError:
    return InputError(
        f"{path}: mode {mode!r} with {value}; masks are palette ('P') or grey ('L') PNG whose "
        f"numbers are object ids: save it {remedy}"
    )


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
