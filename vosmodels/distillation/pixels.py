"""Select the pixels that the distillation losses compare.

A sampling strategy is a function in SAMPLERS, whose name stands in `vosmodels.types.Sampling`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vosmodels.support.seeding import generator
from vosmodels.types import IGNORED, LABEL_SAMPLING, Clip, LogitPixels, Sampling

Z_STRIDE = 4  # stride of the map z, whose pixels are compared


def boundary_band(mask: Tensor, width: int) -> Tensor:
    """Mark the pixels where a mask's Sobel magnitude is not zero, dilated by `width`.

    MobileVOS, arXiv:2303.07815, section 4.1: pixels "around or near" the boundary found by a Sobel
    edge detector on the ground truth. The paper does not give the radius, hence the argument
    `width`, in pixels. mask (..., H, W) bool -> (..., H, W) bool. The picture's border is no
    boundary.
    """
    lead, (height, width_px) = mask.shape[:-2], mask.shape[-2:]
    plane = mask.reshape(-1, 1, height, width_px).float()
    # Sobel filter and dilation are separable: two 1-D passes take under a third of a 2-D pass.
    padded = F.pad(plane, (1, 1, 1, 1), mode="replicate")
    by_row = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]  # (M, 1, H, W + 2)
    by_column = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]  # (M, 1, H + 2, W)
    across = by_row[..., 2:] != by_row[..., :-2]
    along = by_column[:, :, 2:] != by_column[:, :, :-2]
    band = (across | along).float()
    if width:
        band = F.max_pool2d(band, (2 * width + 1, 1), stride=1, padding=(width, 0))
        band = F.max_pool2d(band, (1, 2 * width + 1), stride=1, padding=(0, width))
    return band.reshape(*lead, height, width_px) > 0


def object_masks(masks: Tensor, slots: int) -> Tensor:
    """Convert ids (..., H, W) -> bool (..., N, H, W), a plane per object slot 1..N."""
    ids = torch.arange(1, slots + 1, device=masks.device)
    return masks.unsqueeze(-3) == ids[:, None, None]


@dataclass(frozen=True)
class Selection:
    """The pixels that a training step compares, item by item.

    The selection is computed on the CPU ahead of the step, so that the step never waits for it.
    An item is one (clip, predicted frame, object) with at least two selected pixels.
    rows: (M,) flat indices into z laid out as (B, T-1, N, H/4, W/4);
    labels: (M,) int64, 1 on the item's object and 0 elsewhere; counts: rows per item, sum M;
    logit_pixels: (B, T-1, H, W) bool, the pixels of the logit loss; logit_items: number of the
    B (T-1) planes of logit_pixels with at least one pixel.
    """

    rows: Tensor
    labels: Tensor
    counts: tuple[int, ...]
    logit_pixels: Tensor
    logit_items: int

    def to(self, device: Any) -> Selection:
        """Copy the selection to `device`."""
        return replace(
            self,
            rows=self.rows.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            logit_pixels=self.logit_pixels.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Selection:
        """Copy the selection to page-locked memory, which a GPU reads without the CPU."""
        return replace(
            self,
            rows=self.rows.pin_memory(),
            labels=self.labels.pin_memory(),
            logit_pixels=self.logit_pixels.pin_memory(),
        )


def select_pixels(
    clip: Clip,
    sampling: Sampling,
    *,
    width: int,
    max_pixels: int,
    seed: int,
    logit_pixels: LogitPixels = "same",
    labels_read: bool = False,
) -> Selection:
    """Select the pixels of a step from the clip's labels (frames 1..T-1).

    sampling  a strategy of SAMPLERS: `sample_boundary`, `sample_random` or `sample_all`, applied
              to each object's band of `width` pixels at stride 4.
    Above `max_pixels` boundary and random keep a random subset. Every draw is seeded by
    (seed, sample, frame, slot). Labels at stride 4 are those of the nearest pixel, so they are 0 or
    1 at the boundary too, where area averages would be fractions.

    logit_pixels, of the logit loss: boundary, the band at full resolution, 4 * width pixels wide,
    around any object; all; same, the band if `sampling` is boundary, else all.

    An IGNORED pixel shows no object, and is never among those that labels choose: boundary and
    random. All takes it too, unless the loss reads the labels of what it compares (`labels_read`).
    """
    frames, slots = clip.masks.shape[1], clip.present.shape[1]
    truth = clip.masks[:, 1:]
    full = object_masks(truth, slots)  # (B, T-1, N, H, W)
    small = full[..., ::Z_STRIDE, ::Z_STRIDE]  # (B, T-1, N, H/4, W/4)
    plane = small.shape[-2] * small.shape[-1]
    band = boundary_band(small, width).flatten(3)  # (B, T-1, N, hw)
    flat = small.flatten(3)
    known = None if clip.labelled else (truth != IGNORED)[..., ::Z_STRIDE, ::Z_STRIDE].flatten(2)
    if known is not None:
        band &= known[:, :, None]
    rows: list[Tensor] = []
    labels: list[Tensor] = []
    for b, sample in enumerate(clip.samples):
        for t in range(frames - 1):
            for n in range(slots):
                if not clip.present[b, n]:
                    continue
                rng = generator(seed, "pixels", sample, t, n)
                chosen = SAMPLERS[sampling](band[b, t, n], max_pixels, rng)
                if known is not None and (labels_read or sampling in LABEL_SAMPLING):
                    chosen = chosen[known[b, t][chosen]]
                if len(chosen) < 2:  # no pair to compare: the object is out of sight
                    continue
                rows.append(chosen + ((b * (frames - 1) + t) * slots + n) * plane)
                labels.append(flat[b, t, n][chosen].long())
    if (sampling if logit_pixels == "same" else logit_pixels) == "boundary":
        compared = boundary_band(full, Z_STRIDE * width).any(2) & (truth != IGNORED)
    else:
        compared = torch.ones_like(truth, dtype=torch.bool)
    return Selection(
        rows=torch.cat(rows) if rows else torch.zeros(0, dtype=torch.int64),
        labels=torch.cat(labels) if labels else torch.zeros(0, dtype=torch.int64),
        counts=tuple(len(r) for r in rows),
        logit_pixels=compared,
        logit_items=int(compared.flatten(2).any(2).sum()),
    )


def sample_boundary(band: Tensor, cap: int, rng: torch.Generator) -> Tensor:
    """Return the band's pixels, at most `cap`: band (hw,) bool -> (n,) ascending."""
    on_band = band.nonzero().squeeze(1)
    if len(on_band) <= cap:
        return on_band
    return on_band[torch.randperm(len(on_band), generator=rng)[:cap]].sort().values


def sample_random(band: Tensor, cap: int, rng: torch.Generator) -> Tensor:
    """Return as many pixels as `sample_boundary`, anywhere in the plane, ascending.

    The paper's ablation, MobileVOS, arXiv:2303.07815, section 5, "Boundary sampling".
    """
    count = min(int(band.count_nonzero()), cap)
    return torch.randperm(band.numel(), generator=rng)[:count].sort().values


def sample_all(band: Tensor, cap: int, rng: torch.Generator) -> Tensor:
    """Return every pixel of the plane: (hw,) bool -> (hw,) ascending."""
    return torch.arange(band.numel())


Sampler = Callable[[Tensor, int, torch.Generator], Tensor]  # (band, cap, rng) -> flat indices
SAMPLERS: Mapping[Sampling, Sampler] = {
    "boundary": sample_boundary,
    "random": sample_random,
    "all": sample_all,
}
