"""Draw small frames and masks, and save or damage them in the ways of the world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.fuzz.draw import Draw
from vosmodels.data.masks import palette, write_palette
from vosmodels.types import U8

SIZES = ((24, 32), (32, 32), (48, 64), (33, 47), (36, 64))  # height and width in px
PICTURES = (".jpg", ".jpeg", ".png")


def ids(height: int, width: int, step: int = 0, objects: int = 2) -> U8:
    """Draw (H, W) ids: a square that moves right by a pixel a step, a second one at rest."""
    mask = np.zeros((height, width), dtype=np.uint8)
    side = height // 3
    mask[2 : 2 + side, 2 + step : 2 + step + side] = 1
    if objects > 1:
        mask[height - side - 2 : height - 2, width - side - 2 : width - 2] = 2
    return mask


def frame(draw: Draw, mask: U8) -> U8:
    """Draw (H, W, 3) RGB noise in which the objects are brighter."""
    noise = draw.rng.integers(0, 60, (*mask.shape, 3))
    return (noise + 90 * mask[..., None].astype(np.int64)).astype(np.uint8)


def _grey(path: Path, mask: U8) -> None:
    Image.fromarray(mask).save(path)


def _converted(mode: str) -> Callable[[Path, U8], None]:
    return lambda path, mask: Image.fromarray(mask).convert(mode).save(path)


def _beside_255(path: Path, mask: U8) -> None:
    odd = mask.copy()
    odd[-1, :3] = 255
    odd[0, 0] = 1
    Image.fromarray(odd).save(path)


def _blurred(path: Path, mask: U8) -> None:
    smooth = cv2.GaussianBlur((mask > 0).astype(np.uint8) * 200, (7, 7), 2)
    Image.fromarray(np.asarray(smooth, dtype=np.uint8)).save(path)


def _sixteen_bits(path: Path, mask: U8) -> None:
    Image.fromarray(mask.astype(np.uint16) * 257).save(path)


def _coloured(path: Path, mask: U8) -> None:
    Image.fromarray(palette()[mask]).save(path)


def _photograph(path: Path, mask: U8) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (*mask.shape, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


# How a mask can be saved: most are read or refused, as the reader decides.
SAVED: Mapping[str, Callable[[Path, U8], None]] = {
    "palette": write_palette,
    "grey": _grey,
    "0 and 255": lambda path, mask: _grey(path, ((mask > 0) * 255).astype(np.uint8)),
    "one bit": lambda path, mask: Image.fromarray(mask > 0).save(path),
    "grey with alpha": _converted("LA"),
    "RGB of equal numbers": _converted("RGB"),
    "RGBA": _converted("RGBA"),
    "palette colours as RGB": _coloured,
    "16 bits": _sixteen_bits,
    "palette from 1": lambda path, mask: write_palette(path, mask + 1),
}
# How a mask can be saved that no reader may take for ids.
REFUSED: Mapping[str, Callable[[Path, U8], None]] = {
    "255 beside ids": _beside_255,
    "blurred": _blurred,
    "a photograph": _photograph,
}
# How a mask can be a mask of nothing, or of another picture.
UNFIT: Mapping[str, Callable[[Path, U8], None]] = {
    "empty": lambda path, mask: write_palette(path, mask * 0),
    "other size": lambda path, mask: write_palette(path, np.repeat(mask, 2, axis=1)),
}


def cut(path: Path, draw: Draw) -> None:
    """Keep the first part of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: draw.whole(len(data) // 4, len(data) * 3 // 4)])


def emptied(path: Path, draw: Draw) -> None:
    """Leave nothing of a file."""
    path.write_bytes(b"")


def text(path: Path, draw: Draw) -> None:
    """Put words where a picture was."""
    path.write_text(
        draw.one(["<html>404 Not Found</html>", "version https://git-lfs\n", "\0" * 99])
    )


def flipped(path: Path, draw: Draw) -> None:
    """Flip a byte in the first 24, which hold the format and the size."""
    data = bytearray(path.read_bytes())
    data[draw.whole(0, min(23, len(data) - 1))] ^= 0xFF
    path.write_bytes(bytes(data))


def tail(path: Path, draw: Draw) -> None:
    """Add bytes behind the end, as some phones and downloads do."""
    path.write_bytes(path.read_bytes() + draw.one([b"\n", b"\0" * 16, b"SEFHe\0\0\0trailer"]))


def turned(path: Path, draw: Draw) -> None:
    """Save a frame with an orientation tag."""
    exif = Image.Exif()
    exif[0x0112] = draw.whole(1, 8)
    with Image.open(path) as image:
        image.convert("RGB").save(path, format="JPEG", exif=exif)


def enormous(path: Path, draw: Draw) -> None:
    """Write a PNG whose header promises 10^10 pixels."""
    data = bytearray(_png())
    data[16:24] = (100_000).to_bytes(4, "big") * 2
    path.write_bytes(bytes(data))


def _png() -> bytes:
    done, data = cv2.imencode(".png", np.zeros((4, 4, 3), dtype=np.uint8))
    assert done
    return bytes(data)


# How a picture file can be damaged so that its content is gone.
DAMAGED: Mapping[str, Callable[[Path, Draw], None]] = {
    "cut": cut,
    "zero bytes": emptied,
    "text in it": text,
    "enormous header": enormous,
}
# How a picture file can be odd and still whole, or not: the reader decides.
ODD: Mapping[str, Callable[[Path, Draw], None]] = {
    "bytes behind the end": tail,
    "flipped byte": flipped,
    "orientation tag": turned,
}
