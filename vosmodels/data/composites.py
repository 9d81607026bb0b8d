"""Paste the objects of one clip into another, so that sets of one object give clips of several.

A mask says exactly which pixels are an object's, so a pasted object has an exact mask too, and
hides what lies behind it. AOT (arXiv:2106.02638, its code) joins two clips so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from vosmodels.support.seeding import numpy_generator
from vosmodels.types import Clip, ClipSource


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
