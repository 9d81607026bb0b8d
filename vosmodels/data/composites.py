"""Paste the objects of one clip into another, so that sets of one object give clips of several.

A mask says exactly which pixels are an object's, so a pasted object has an exact mask too, and
hides what lies behind it. AOT (arXiv:2106.02638, its code) joins two clips so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vosmodels.errors import InputError
from vosmodels.support.seeding import numpy_generator
from vosmodels.types import U8, Clip, ClipSource, ScoredVideo

U16 = NDArray[np.uint16]
ZOOM = (0.45, 0.75)  # of a guest's frames, where 1 fits them into the host's
PLACES = (1 / 6, 1 / 2, 5 / 6)  # of a guest's middle in the host's frame, along either edge
MOST_IDS = 255  # of a mask of eight bits


@dataclass(frozen=True)
class PastedClips:
    """A `ClipSource` of clips into which, at a share of the samples, a second one is pasted.

    hosts, guests: sources of clips of equal sizes, best of different seeds; the guest of a sample
    is the guests' clip of the same index. A clip without masks after its first frame stays alone.
    """

    hosts: ClipSource
    guests: ClipSource
    share: float
    seed: int

    def sample(self, index: int) -> Clip:
        """Make clip `index`, B = 1, from the seed and the index alone."""
        host = self.hosts.sample(index)
        if numpy_generator(self.seed, "paste", index).random() >= self.share:
            return host
        guest = self.guests.sample(index)
        return pasted(host, guest) if host.labelled and guest.labelled else host


def pasted(host: Clip, guest: Clip) -> Clip:
    """Lay the objects of `guest` over the frames of `host`; both of one clip, equal in shape.

    The host's objects keep the first slots, the guest's have the next. An object without a pixel
    in the first frame has no slot, and what has no slot is background. Raises ValueError on shapes
    that differ.
    """
    if host.frames.shape != guest.frames.shape or len(host.frames) != 1:
        raise ValueError(
            f"clips of {tuple(host.frames.shape)} and {tuple(guest.frames.shape)}: one clip is "
            "pasted into one of equal shape"
        )
    first = host.present.shape[1]  # ids of the host are 1..first, the guest's follow
    over = guest.masks > 0
    ids = torch.where(over, guest.masks + first, host.masks)  # (1, T, H, W)
    shown = [int(i) for i in ids[0, 0].unique() if i > 0][: host.present.shape[1]]
    slots = torch.zeros(first + guest.present.shape[1] + 1, dtype=torch.int64)
    slots[shown] = torch.arange(1, len(shown) + 1)
    return replace(
        host,
        frames=torch.where(over[:, :, None], guest.frames, host.frames),
        masks=slots[ids],
        present=(torch.arange(host.present.shape[1]) < len(shown))[None],
    )


@dataclass(frozen=True)
class CompositeVideo:
    """A `ScoredVideo`: a host video with the first frame's objects of other videos pasted in.

    Every video has a mask for each frame. A guest is shrunk and put where, in the first frame, it
    hides least of what is there and is cut least; it moves as in its own video, which runs back and
    forth where it is shorter than the host. Later guests lie over earlier ones. Ids are the host's
    in their order, then those of each guest, 1..K; an object without a pixel in the first frame has
    none, and like a host's object that begins later it is background. What is drawn depends on the
    names of the videos alone.
    """

    host: ScoredVideo
    guests: tuple[ScoredVideo, ...]
    last_counts = False  # DAVIS's rule, as the predicted masks have DAVIS's layout
    unseen = None

    @property
    def name(self) -> str:
        """Return the names of all videos, joined by `+`."""
        return "+".join(video.name for video in (self.host, *self.guests))

    @cached_property
    def _warps(self) -> list[NDArray[np.float64]]:
        """One (2, 3) map per guest, from its frames to the host's."""
        ids, warps = self._numbered(self.host, 0, self.host.mask(0), 0), []
        for place, guest in enumerate(self.guests):
            mask = self._numbered(guest, 0, guest.mask(0), self._offsets[place])
            rng = numpy_generator("composite", self.name, place)
            warp = _least_hiding(rng, mask, ids)
            ids = _over(ids, _warped(mask, warp, ids.shape, cv2.INTER_NEAREST))
            warps.append(warp)
        return warps

    @cached_property
    def _offsets(self) -> list[int]:
        """Objects of the host and of the guests before each guest."""
        counts = [len(video.ids) for video in (self.host, *self.guests)]
        if sum(counts) > MOST_IDS:
            raise InputError(
                f"{self.name}: {sum(counts)} objects together; a mask has up to {MOST_IDS}; "
                "lower data.composites"
            )
        return [sum(counts[: place + 1]) for place in range(len(self.guests))]

    @staticmethod
    def _numbered(video: ScoredVideo, index: int, mask: U8, offset: int) -> U16:
        """Number the objects of a video's first frame from offset + 1; others are background."""
        table = np.zeros(256, np.uint16)
        table[list(video.ids)] = np.arange(1, len(video.ids) + 1) + offset
        numbered: U16 = table[mask]
        return numbered

    def _ids(self, index: int) -> tuple[U16, list[tuple[int, NDArray[np.bool_]]]]:
        """Compose a frame's ids before objects are left out; per guest, its frame and pixels."""
        ids, parts = self._numbered(self.host, index, self.host.mask(index), 0), []
        for guest, warp, offset in zip(self.guests, self._warps, self._offsets, strict=True):
            there = _back_and_forth(index, len(guest))
            mask = self._numbered(guest, there, guest.mask(there), offset)
            laid = _warped(mask, warp, ids.shape, cv2.INTER_NEAREST)
            ids = _over(ids, laid)
            parts.append((there, laid > 0))
        return ids, parts

    @cached_property
    def _table(self) -> U8:
        """Final ids by the numbers of `_ids`: those that the first frame shows, from 1 on."""
        shown = [int(i) for i in np.unique(self._ids(0)[0]) if i]
        table = np.zeros(MOST_IDS + 1, np.uint8)
        table[shown] = np.arange(1, len(shown) + 1)
        return table

    @property
    def ids(self) -> Sequence[int]:
        """Return the object ids, 1..K."""
        return range(1, int(self._table.max()) + 1)

    @cached_property
    def begins(self) -> dict[int, int]:
        """Map every object id to frame 0, which shows all of them."""
        return dict.fromkeys(self.ids, 0)

    @property
    def judged(self) -> range:
        """Return all frames, as every frame has a whole mask."""
        return range(len(self))

    def __len__(self) -> int:
        return len(self.host)

    def answer(self, index: int) -> Path:
        """Return the path of the frame's predicted mask below the output folder."""
        return Path(self.name) / f"{index:05d}.png"

    def frame(self, index: int) -> U8:
        """Draw frame `index`, (H, W, 3) uint8 RGB."""
        frame = self.host.frame(index).copy()
        _, parts = self._ids(index)
        for guest, warp, (there, pixels) in zip(self.guests, self._warps, parts, strict=True):
            laid = _warped(guest.frame(there), warp, pixels.shape, cv2.INTER_LINEAR)
            frame[pixels] = laid[pixels]
        return frame

    def mask(self, index: int) -> U8:
        """Return the ids of frame `index`, (H, W) uint8, 0 = background."""
        mask: U8 = self._table[self._ids(index)[0]]
        return mask


def composites(videos: Sequence[ScoredVideo], count: int) -> list[CompositeVideo]:
    """Paste the objects of `count` other videos into each video; its guests are drawn by its name.

    Raises InputError where there are too few videos, or one lacks the mask of a frame.
    """
    if len(videos) <= count:
        raise InputError(
            f"data.composites {count}: wanted {count} videos beside each; the split has "
            f"{len(videos)}; take fewer composites, or another split"
        )
    sparse = [video.name for video in videos if len(video.judged) < len(video)]
    if sparse:
        raise InputError(
            f"data.composites {count}: an object can be pasted where every frame has a mask, which "
            f"is not so of {', '.join(sparse[:5])}{', ...' if len(sparse) > 5 else ''}; take "
            "another dataset, or leave it out"
        )
    by_name = sorted(videos, key=lambda video: video.name)
    made = []
    for video in videos:
        others = [other for other in by_name if other.name != video.name]
        order = numpy_generator("guests", video.name).permutation(len(others))[:count]
        made.append(CompositeVideo(video, tuple(others[place] for place in order)))
    return made


def _back_and_forth(index: int, length: int) -> int:
    """Return the frame at `index` of a video of `length` frames that turns at its ends."""
    period = max(1, 2 * (length - 1))
    return min(index % period, -index % period)


def _over(below: U16, above: U16) -> U16:
    laid: U16 = np.where(above > 0, above, below)
    return laid


def _warped(picture: Any, warp: NDArray[np.float64], size: tuple[int, ...], flags: int) -> Any:
    """Warp a picture or ids to (height, width, ...); 0 outside."""
    return cv2.warpAffine(picture, warp, (size[1], size[0]), flags=flags)


def _least_hiding(rng: np.random.Generator, guest: U16, ids: U16) -> NDArray[np.float64]:
    """Choose the (2, 3) map by which a guest's first mask hides least of `ids` and is cut least."""
    height, width = ids.shape
    zoom = min(height / guest.shape[0], width / guest.shape[1]) * rng.uniform(*ZOOM)
    rows, columns = np.nonzero(guest)
    if not rows.size:  # no object in its first frame: nothing to paste
        return np.eye(2, 3)
    middle = ((columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2)
    whole = np.count_nonzero(guest) * zoom**2
    best: tuple[float, NDArray[np.float64]] | None = None
    for place in rng.permutation(len(PLACES) ** 2):
        x, y = width * PLACES[place % len(PLACES)], height * PLACES[place // len(PLACES)]
        warp = np.array([[zoom, 0, x - zoom * middle[0]], [0, zoom, y - zoom * middle[1]]])
        laid = _warped(guest, warp, ids.shape, cv2.INTER_NEAREST) > 0
        lost = np.count_nonzero(laid & (ids > 0)) + max(0.0, whole - np.count_nonzero(laid))
        if best is None or lost < best[0]:
            best = lost, warp
    assert best is not None
    return best[1]
