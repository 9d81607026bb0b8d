"""Define a network and clips small enough for tests of their surroundings."""

from dataclasses import dataclass

import torch
from torch import nn

from vosmodels.distillation.pixels import object_masks
from vosmodels.types import Clip, StepOutput


class TinyModel(nn.Module):
    """Logits and z of every frame from its pixels and the first mask; one convolution each."""

    def __init__(self, channels=4, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.z = nn.Conv2d(4, channels, 4, stride=4)
            self.logit = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, clip):
        slots = clip.present.shape[1]
        first = object_masks(clip.masks[:, :1], slots).float()  # (B, 1, N, H, W)
        frames = clip.frames[:, 1:, None].expand(-1, -1, slots, -1, -1, -1)
        mask = first.expand(-1, frames.shape[1], -1, -1, -1)
        x = torch.cat([frames, mask[:, :, :, None]], 3)  # (B, T-1, N, 4, H, W)
        lead = x.shape[:3]
        flat = x.flatten(0, 2)
        logits = self.logit(flat)[:, 0].unflatten(0, lead)  # (B, T-1, N, H, W)
        background = torch.zeros_like(logits[:, :, :1])
        return StepOutput(
            logits=torch.cat([background, logits], 2), z=self.z(flat).unflatten(0, lead)
        )


@dataclass(frozen=True)
class SquareClips:
    """A bright square that moves by one pixel a frame; with two objects a dark one beside it."""

    objects: int = 1
    size: int = 32

    def sample(self, index):
        rng = torch.Generator().manual_seed(index)
        frames = torch.rand(1, 3, 3, self.size, self.size, generator=rng) * 0.2
        masks = torch.zeros(1, 3, self.size, self.size, dtype=torch.int64)
        for t in range(3):
            masks[0, t, 4 + t : 14 + t, 4:14] = 1
            frames[0, t, :, 4 + t : 14 + t, 4:14] += 0.7
            if self.objects > 1:
                masks[0, t, 18:28, 16 + t : 26 + t] = 2
                frames[0, t, 0, 18:28, 16 + t : 26 + t] += 0.4
        return Clip(frames, masks, torch.ones(1, self.objects, dtype=torch.bool), (index,))
