"""Draw where an attention looks: maps, key points, keys of a query, offsets."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from vosmodels.data.overlay import GAP, overlay
from vosmodels.evaluation.attention_maps import KEY_POINT, SHOWN, TOP_KEYS, Look
from vosmodels.support.atomic_files import write_whole
from vosmodels.types import U8

LIMIT = 300_000  # bytes of a picture's file
COLOURS = (256, 96, 48)  # numbers of colours of a file, until it is small enough
GROUPS = ((255, 90, 60), (60, 200, 90), (70, 140, 255), (250, 210, 60))  # of offsets, in turn
POINT, STAR, QUERY_EDGE = (255, 210, 0), (255, 40, 160), (255, 255, 255)
PAINTS = (*GROUPS, POINT, STAR, QUERY_EDGE, (0, 0, 0))  # colours that every file keeps
CAPTION = 18  # px, the height of a caption
SHIFT = 4  # binary digits behind the point of what OpenCV draws

Points = Iterable[tuple[float, float, float]]


def panels(
    look: Look, frame: U8, seen: U8, *, query: tuple[int, int] | None = None
) -> dict[str, U8]:
    """Draw an attention as pictures by name, each with a caption below.

    frame (H, W, 3): the frame of the queries; seen: the frame `look.seen_frame` of the keys; query
    (x, y): a position, None for `look.chosen`. mask: the predicted mask, and the query as a star;
    attention: what has more than SHOWN of the maximum, bright; keypoints: more than KEY_POINT, of a
    radius in proportion to the value; keys: the top TOP_KEYS of the query, of a radius in
    proportion to the weight; offsets, of a deformable attention: the places at which these keys
    are sampled, a colour for each group of channels, on lines from where the keys stand.
    """
    query = query or look.chosen
    whose = f"object {look.obj}" if look.obj is not None else "all positions"
    at = look.pixel(*query)
    keys = look.top_keys(query)
    stride = look.pixel(1, 1)
    radius = max(stride) / 2
    largest = max((weight for _, weight in keys), default=1.0)
    own = look.kind == "self"
    means = look.places.mean(0)
    count = min(TOP_KEYS, look.weights[0].size)
    key_points = ((*look.pixel(x, y), radius * value) for x, y, value in look.key_points)
    key_places = ((*look.pixel(*means[k]), radius * weight / largest) for k, weight in keys)
    with_keys = points(dimmed(seen), key_places, POINT)
    place = f"{look.kind} {look.layer}, frame {look.seen_frame}"
    pictures = {
        "mask": captioned(
            star(overlay(frame, look.ids), at), f"frame {look.frame}, predicted; a star: the query"
        ),
        "attention": captioned(
            bright(seen, look), f"{place}: more than {SHOWN:g} of the most, of {whose}"
        ),
        "keypoints": captioned(
            points(dimmed(seen), key_points, POINT),
            f"{place}: key points, more than {KEY_POINT:g}, of {whose}",
        ),
        "keys": captioned(
            star(with_keys, at) if own else with_keys,
            f"{place}: {len(keys)} of the query's top {count} keys",
        ),
    }
    if look.deformable:
        drawn = offsets(dimmed(seen), look, [key for key, _ in keys])
        pictures["offsets"] = captioned(
            star(drawn, at) if own else drawn, f"{place}: where these keys are sampled, by group"
        )
    return pictures


def dimmed(frame: U8) -> U8:
    """Return a frame (H, W, 3) in grey at half its brightness, a ground for points."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) // 2
    return np.repeat(grey[..., None], 3, axis=2)


def bright(frame: U8, look: Look) -> U8:
    """Return the frame in its own colours where the map is above SHOWN, dimmed elsewhere.

    The map is enlarged bilinearly, with the corners of its positions on those of the frame.
    """
    h, w = frame.shape[:2]
    rows, columns = look.size
    x, y = np.meshgrid(
        np.linspace(0, columns - 1, w, dtype=np.float32),
        np.linspace(0, rows - 1, h, dtype=np.float32),
    )
    shown = cv2.remap(look.map, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) > SHOWN
    edge = shown & (cv2.erode(shown.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0)
    picture = np.where(shown[..., None], frame, dimmed(frame))
    return np.where(edge[..., None], np.array(POINT, dtype=np.uint8), picture)


def points(picture: U8, xyr: Points, colour: tuple[int, int, int]) -> U8:
    """Return a picture with discs (x, y, radius) in px on it; the largest are drawn first."""
    drawn = picture.copy()
    for x, y, radius in sorted(xyr, key=lambda point: -point[2]):
        cv2.circle(drawn, _fixed(x, y), round(radius * 2**SHIFT), colour, -1, cv2.LINE_AA, SHIFT)
    return drawn


def star(picture: U8, at: tuple[float, float]) -> U8:
    """Return a picture with a five-pointed star at the pixel (x, y)."""
    drawn, radius = picture.copy(), max(5.0, picture.shape[0] / 40)
    turns = -np.pi / 2 + np.arange(10) * np.pi / 5
    lengths = np.where(np.arange(10) % 2 == 0, radius, 0.4 * radius)
    corners = np.stack([np.cos(turns), np.sin(turns)], 1) * lengths[:, None] + at
    polygon = np.round(corners * 2**SHIFT).astype(np.int32)[None]
    cv2.fillPoly(drawn, polygon, STAR, cv2.LINE_AA, SHIFT)
    cv2.polylines(drawn, polygon, True, QUERY_EDGE, 1, cv2.LINE_AA, SHIFT)
    return drawn


def offsets(picture: U8, look: Look, keys: Sequence[int]) -> U8:
    """Return a picture with the sampled places of keys, a colour a group, and lines to them."""
    drawn = picture.copy()
    for number, places in enumerate(look.places):
        colour = GROUPS[number % len(GROUPS)]
        for key in keys:
            stands = look.pixel(key % look.size[1], key // look.size[1])
            ends = _fixed(*stands), _fixed(*look.pixel(*places[key]))
            cv2.line(drawn, *ends, tuple(c // 2 for c in colour), 1, cv2.LINE_AA, SHIFT)
    for number, places in enumerate(look.places):
        dots = ((*look.pixel(*places[key]), 2.0) for key in keys)
        drawn = points(drawn, dots, GROUPS[number % len(GROUPS)])
    return drawn


def _fixed(x: float, y: float) -> tuple[int, int]:
    """Return a pixel in OpenCV's fixed point."""
    return round(float(x) * 2**SHIFT), round(float(y) * 2**SHIFT)


def captioned(picture: U8, text: str) -> U8:
    """Return a picture with a line of text below it, in a bar of CAPTION px."""
    width = picture.shape[1]
    bar = np.full((CAPTION, width, 3), 255, dtype=np.uint8)
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    (needed, _), _ = cv2.getTextSize(text, font, scale, 1)
    scale *= min(1.0, (width - 8) / needed)
    cv2.putText(bar, text, (4, CAPTION - 6), font, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([picture, bar])


def sheet(rows: Sequence[Mapping[str, U8]]) -> U8:
    """Lay pictures of one size out, a row for each mapping; shorter rows end in white."""
    height, width = next(iter(rows[0].values())).shape[:2]
    columns = max(map(len, rows))
    whole = np.full(
        (len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, dtype=np.uint8
    )
    for i, row in enumerate(rows):
        for j, picture in enumerate(row.values()):
            top, left = i * (height + GAP), j * (width + GAP)
            whole[top : top + height, left : left + width] = picture
    return whole


def write_small(path: Path, picture: U8, limit: int = LIMIT) -> None:
    """Write a picture as a palette PNG of at most `limit` bytes.

    Colours are fewer and then the picture smaller until it is; the folder is created if absent.
    """
    data = _palette_png(picture, COLOURS[0])
    colours = 1
    while len(data) > limit and min(picture.shape[:2]) > 16:
        if colours < len(COLOURS):
            data, colours = _palette_png(picture, COLOURS[colours]), colours + 1
            continue
        h, w = picture.shape[:2]
        small = cv2.resize(picture, (w * 4 // 5, h * 4 // 5), interpolation=cv2.INTER_AREA)
        picture = np.asarray(small, dtype=np.uint8)
        data = _palette_png(picture, COLOURS[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)


def _palette_png(picture: U8, colours: int) -> bytes:
    """Encode with so many colours, of which all PAINTS stay as they are."""
    image, palette, file = Image.fromarray(picture), Image.new("P", (1, 1)), io.BytesIO()
    chosen = image.quantize(colours - len(PAINTS), dither=Image.Dither.NONE).getpalette() or []
    palette.putpalette([*(value for paint in PAINTS for value in paint), *chosen])
    image.quantize(palette=palette, dither=Image.Dither.NONE).save(file, format="PNG")
    return file.getvalue()
