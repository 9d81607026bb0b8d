"""Segment a video with several networks, or several views of its frames, as one network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vosmodels.inference.segmenter import HasPropagator
from vosmodels.types import Prediction, Propagator


@dataclass(frozen=True)
class View:
    """A way to look at a frame. flipped: left to right; scale: of its sides, 1 or more.

    A smaller scale could leave an object without a pixel. Raises ValueError on one.
    """

    flipped: bool = False
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.scale < 1:
            raise ValueError(f"scale {self.scale:g}: 1 or more, so that no object vanishes")

    def frame(self, frame: Tensor) -> Tensor:
        """Return a frame (3, H, W) or soft masks (K+1, H, W) as this view shows them."""
        if self.scale != 1:
            frame = _resized(frame, self._size(frame))
        return frame.flip(-1) if self.flipped else frame

    def ids(self, ids: Tensor) -> Tensor:
        """Return ids (H, W) as this view shows them, by nearest neighbour."""
        if self.scale != 1:
            size = self._size(ids)
            large = functional.interpolate(
                ids[None, None].double(), size=size, mode="nearest-exact"
            )
            ids = large[0, 0].to(ids.dtype)
        return ids.flip(-1) if self.flipped else ids

    def back(self, probabilities: Tensor, size: tuple[int, int]) -> Tensor:
        """Return probabilities (K+1, H', W') of this view as those of the frame, (K+1, H, W)."""
        if self.flipped:
            probabilities = probabilities.flip(-1)
        return probabilities if self.scale == 1 else _resized(probabilities, size)

    def _size(self, picture: Tensor) -> tuple[int, int]:
        return round(picture.shape[-2] * self.scale), round(picture.shape[-1] * self.scale)


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(maps[None].float(), size=size, mode="bilinear", antialias=True)[0]


class Ensemble:
    """Networks that segment a video together, each in every view; a VideoSegmenter runs it.

    p = mean over networks and views of their probabilities. Each keeps a memory of its own, into
    which goes p in place of its own prediction, so that what one of them lost the others give back.
    """

    def __init__(self, models: Sequence[HasPropagator], views: Sequence[View] = (View(),)) -> None:
        if not models or not views:
            raise ValueError(f"{len(models)} networks and {len(views)} views: at least 1 of each")
        self.models, self.views = models, views

    def propagator(self, **options: Any) -> Propagator:
        """Return a propagator; options: of each network's own."""
        parts = [(m.propagator(**options), view) for m in self.models for view in self.views]
        return EnsemblePropagator(parts)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of all networks."""
        for model in self.models:
            yield from model.parameters()

    def eval(self) -> Ensemble:
        """Set every network to eval mode."""
        for model in self.models:
            model.eval()
        return self


@dataclass(frozen=True)
class EnsemblePropagator:
    """A types.Propagator of several, whose state holds one of each."""

    parts: Sequence[tuple[Propagator, View]]

    def begin(self, frame: Tensor, ids: Tensor) -> Any:
        """Return the states after the first frame, as types.Propagator."""
        return tuple(part.begin(view.frame(frame), view.ids(ids)) for part, view in self.parts)

    def predict(self, state: Any, frame: Tensor) -> Prediction:
        """Predict the mean of the parts' probabilities, as types.Propagator."""
        predictions = tuple(
            part.predict(own, view.frame(frame))
            for own, (part, view) in zip(state, self.parts, strict=True)
        )
        size = (frame.shape[1], frame.shape[2])
        maps = [
            view.back(prediction.probabilities, size)
            for prediction, (_, view) in zip(predictions, self.parts, strict=True)
        ]
        return Prediction(torch.stack(maps).mean(0), predictions)

    def commit(self, state: Any, prediction: Prediction, mask: Tensor | None = None) -> Any:
        """Write the mean, or `mask`, to every memory, as types.Propagator."""
        written = prediction.probabilities if mask is None else mask
        return tuple(
            part.commit(own, seen, view.ids(written) if written.ndim == 2 else view.frame(written))
            for own, seen, (part, view) in zip(state, prediction.features, self.parts, strict=True)
        )

    def add(self, state: Any, frame: Tensor, ids: Tensor) -> Any:
        """Return the states with the additional objects of `ids`, as types.Propagator."""
        return tuple(
            part.add(own, view.frame(frame), view.ids(ids))
            for own, (part, view) in zip(state, self.parts, strict=True)
        )
