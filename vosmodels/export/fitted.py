"""Run exported graphs, whose frames have one size, on a video of any size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vosmodels.errors import InputError
from vosmodels.export.runner import Runner
from vosmodels.inference.scaled import ScaledSegmenter
from vosmodels.types import FEWEST_ROWS


class FittedSegmenter:
    """A Segmenter of one video of any size, by a runner that it resets.

    Frames larger than the graphs' are scaled down, keeping the aspect. Raises InputError at the
    first frame where too few rows would be left, and on more objects than the graphs have slots.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._scaled: ScaledSegmenter | None = None

    @property
    def probabilities(self) -> Tensor:
        """Return the latest frame's probabilities (1 + objects, H, W), background first."""
        if self._scaled is None:
            raise ValueError("no frame yet: call step first")
        return self._scaled.probabilities

    def step(self, frame: Tensor, mask: Tensor | None = None) -> Tensor:
        """Segment a frame (3, H, W) in [0, 1] and return its ids (H, W) int64.

        mask: (H, W) integer ids, as `VideoSegmenter.step` takes them.
        """
        if self._scaled is None:
            rows = rows_seen(self._runner, (frame.shape[1], frame.shape[2]))
            self._runner.reset()
            self._scaled = ScaledSegmenter(_Padded(self._runner), rows)
        return self._scaled.step(frame, mask)


class _Padded:
    """A runner on frames (3, h, w) that are no larger than the graphs'.

    What lacks to the right and below is the mean colour, which the network takes for nothing.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._mean = torch.tensor(runner.sidecar["frame"]["mean"]).view(3, 1, 1)
        self._seen: tuple[int, int] = (0, 0)

    @property
    def ids(self) -> tuple[int, ...]:
        return self._runner.ids

    @property
    def probabilities(self) -> Tensor:
        height, width = self._seen
        return torch.from_numpy(self._runner.probabilities[:, :height, :width])

    def step(self, frame: Tensor, mask: Tensor | None = None) -> Tensor:
        height, width = frame.shape[1:]
        around = (0, self._runner.size[1] - width, 0, self._runner.size[0] - height)
        fitted = functional.pad(frame.cpu() - self._mean, around) + self._mean
        given = None if mask is None else functional.pad(mask.cpu(), around).numpy()
        objects = 0 if mask is None else len({0, *mask.unique().tolist()}) - 1
        if objects > self._runner.objects:
            raise InputError(
                f"{objects} objects in the mask, and the graphs of {self._runner.folder} take "
                f"{self._runner.objects} at most: export with --objects {objects}"
            )
        ids = self._runner.step(fitted.numpy(), given)
        self._seen = (height, width)
        return torch.from_numpy(ids[:height, :width])


def rows_seen(runner: Runner, size: tuple[int, int]) -> int:
    """Return how many rows the network sees of a video of `size` (H, W).

    Raises InputError where too few would be left.
    """
    height, width = size
    most = min(runner.size[0], height)
    rows = next(r for r in range(most, -1, -1) if round(width * r / height) <= runner.size[1])
    if rows < FEWEST_ROWS:
        raise InputError(
            f"a {height}x{width} video in graphs of {runner.size[0]}x{runner.size[1]}: {rows} rows "
            f"would be left, {FEWEST_ROWS} at least; export graphs of its shape"
        )
    return rows
