"""The words every file shares: axis letters, clips, features, outputs, the propagator seam.

Axis letters, here and everywhere:
    B  clip (sample of a batch)        T  frame of a clip
    N  object slot                     K  objects of one video (ids 1..K)
    C  channel                         H, W  pixel rows and columns of the input

Frames are float in [0, 1], RGB; models normalise inside, by buffers. Masks are int64 ids,
0 = background. A feature at stride s has H/s x W/s positions and is named `s4`, `s8`, `s16`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:  # a command line that is wrong is answered without loading either
    import numpy as np
    from torch import Tensor

U8: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"


@dataclass(frozen=True)
class Features:
    """One frame's feature pyramid, each (B, C_s, H/s, W/s)."""

    s4: Tensor
    s8: Tensor
    s16: Tensor


FEWEST_ROWS = 16  # rows and columns a network can see: one place of its coarsest features

# Choices that a YAML file names and the code below takes.
Augmentation = Literal["light", "stcn"]
Sampling = Literal["boundary", "random", "all"]  # pixels the distillation losses compare
LogitPixels = Literal["same", "boundary", "all"]  # same: as Sampling says, random: all
Direction = Literal["forward", "reverse"]  # of the KL divergence
FeatureSide = Literal["pre_relu", "post_relu"]  # z before or behind the ReLU of the mask head
CorrelationMethod = Literal["auto", "dense", "tiled", "classwise"]
CorrelationNorm = Literal["n", "none"]


@dataclass(frozen=True)
class Clip:
    """A batch of training clips.

    frames (B, T, 3, H, W) float in [0, 1]; masks (B, T, H, W) int64, ids 1..N are object slots;
    present (B, N) bool: which slots hold an object in that clip; samples: B global sample indices,
    the seeds of everything random that concerns a clip; labelled: False where frames 1..T-1 have
    no truth (their masks are 0), as when a dataset gives only first masks.
    """

    frames: Tensor
    masks: Tensor
    present: Tensor
    samples: tuple[int, ...]
    labelled: bool = True

    def to(self, device: Any) -> Clip:
        """The same clip on `device`."""
        return replace(
            self,
            frames=self.frames.to(device, non_blocking=True),
            masks=self.masks.to(device, non_blocking=True),
            present=self.present.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Clip:
        """The same clip in page-locked memory, from which a GPU copies without the CPU."""
        return replace(
            self,
            frames=self.frames.pin_memory(),
            masks=self.masks.pin_memory(),
            present=self.present.pin_memory(),
        )


@dataclass(frozen=True)
class StepOutput:
    """A model's output for a whole clip, of the predicted frames 1..T-1.

    logits (B, T-1, N+1, H, W): soft-aggregated, channel 0 is background;
    z (B, T-1, N, C, H/4, W/4): decoder output before the prediction convolution, None for a model
    without a feature map per object; named: further intermediates by name, for other losses.
    """

    logits: Tensor
    z: Tensor | None
    named: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """One frame's answer: probabilities (K+1, H, W) at input size that sum to 1 over channels.

    features: what `Propagator.commit` needs so as not to encode the frame again; opaque.
    """

    probabilities: Tensor
    features: Any


class Propagator(Protocol):
    """One video, frame by frame; the seam both model families implement.

    Frames are (3, H, W) float in [0, 1] of any size; ids are (H, W) int64 with objects numbered
    1..K, or a soft (K+1, H, W) map where that is said. The state is a frozen dataclass of tensors:
    every call returns a new one. Padding, resizing, memory banks and engines are its own business.
    """

    def begin(self, frame: Tensor, ids: Tensor) -> Any:
        """State after the first frame, whose mask is given."""
        ...

    def predict(self, state: Any, frame: Tensor) -> Prediction:
        """Probabilities of the next frame; the state is not changed."""
        ...

    def commit(self, state: Any, prediction: Prediction, mask: Tensor | None = None) -> Any:
        """State after that frame; remembers `mask` ((K+1, H, W) soft, or ids) where it is given,
        the prediction otherwise. Encodes the value only, never the frame again."""
        ...

    def add(self, state: Any, frame: Tensor, ids: Tensor) -> Any:
        """State in which objects K+1..K' of `ids` exist too; `ids` is the whole frame's mask."""
        ...


class Segmenter(Protocol):
    """One video, frame by frame."""

    def step(self, frame: Tensor, mask: Tensor | None = None) -> Tensor:
        """frame (3, H, W) float in [0, 1] -> (H, W) int64.

        mask (H, W) int64 ids: on the first frame, and of new objects where they begin.
        """
        ...


class VideoSequence(Protocol):
    """One video with its masks, read frame by frame."""

    @property
    def name(self) -> str: ...

    @property
    def ids(self) -> Sequence[int]:
        """Object ids of the first frame, ascending."""
        ...

    def __len__(self) -> int: ...

    def frame(self, index: int) -> U8:
        """(H, W, 3) uint8 RGB."""
        ...

    def mask(self, index: int) -> U8:
        """(H, W) uint8 ids, 0 = background."""
        ...


class ScoredVideo(VideoSequence, Protocol):
    """A video of a benchmark: when its objects are given, what counts, where answers go.

    Only the frames in `begins` and `judged` need a mask.
    """

    @property
    def begins(self) -> Mapping[int, int]:
        """By object id the frame whose mask gives the object; some begin in frame 0."""
        ...

    @property
    def judged(self) -> Sequence[int]:
        """Frames with a whole mask, ascending: an object's scores are of those after it begins."""
        ...

    @property
    def last_counts(self) -> bool:
        """False where the protocol leaves a video's last frame out."""
        ...

    @property
    def unseen(self) -> frozenset[int] | None:
        """Objects of categories that training leaves out; None where nothing is known of that."""
        ...

    def answer(self, index: int) -> Path | None:
        """Where the official layout has the frame's predicted mask, below the answers' folder.

        None where the frame is not asked for.
        """
        ...


class WholeMasks(ABC):
    """What a ScoredVideo adds where every frame has a whole mask: a base for those."""

    @property
    @abstractmethod
    def ids(self) -> Sequence[int]:
        """Object ids of the first frame, ascending."""

    @abstractmethod
    def __len__(self) -> int: ...

    @cached_property
    def begins(self) -> dict[int, int]:
        """Frame 0 by object id: objects that appear later are not followed."""
        return dict.fromkeys(self.ids, 0)

    @property
    def unseen(self) -> None:
        """Nothing is known of categories."""
        return None

    @property
    def judged(self) -> range:
        """Every frame has a whole mask."""
        return range(len(self))


class ClipSource(Protocol):
    """Training clips by global sample index: the same index is the same clip, whoever asks."""

    def sample(self, index: int) -> Clip:
        """One clip, B = 1."""
        ...
