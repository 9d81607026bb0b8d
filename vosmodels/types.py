"""Define the types that all rooms share: clips, features, propagators, videos.

Axis letters, here and everywhere:
    B  clip (sample of a batch)        T  frame of a clip
    N  object slot                     K  objects of one video (ids 1..K)
    C  channel                         H, W  pixel rows and columns of the input

Frames are float in [0, 1], RGB; models normalise inside, by buffers. Masks are int64 ids,
0 = background. A feature at stride s has H/s x W/s positions and is named `s4`, `s8`, `s16`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:  # a wrong command line is refused without importing numpy or torch
    import numpy as np
    from torch import Tensor

U8: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"


@dataclass(frozen=True)
class Features:
    """A frame's feature pyramid, each map (B, C_s, H/s, W/s)."""

    s4: Tensor
    s8: Tensor
    s16: Tensor


REFERENCE_LOGITS = "reference.logits"  # in `StepOutput.named`: logits of frame 0
IGNORED = -1  # the id of a clip's pixel without a label; no term compares it

HIDDEN = -1e4  # added to what a graph of fixed shape may not read or show: e to it is 0
FEWEST_ROWS = 16  # least rows and columns of a frame: one position of the stride-16 features

# Choices that a YAML file names.
Labels = Literal["truth", "teacher", "none"]  # of a video's frames after its first mask
Targets = Literal["hard", "soft"]  # a teacher's ids, or its probabilities
TeacherView = Literal["video", "clip"]  # what a teacher segments to make labels
Augmentation = Literal["light", "stcn"]
Sampling = Literal["boundary", "random", "all"]  # pixels the distillation losses compare
# Those whose pixels, or their number, depend on the labels of every frame.
LABEL_SAMPLING: frozenset[Sampling] = frozenset({"boundary", "random"})
LogitPixels = Literal["same", "boundary", "all"]  # same: as Sampling says, random: all
Direction = Literal["forward", "reverse"]  # of the KL divergence
FeatureSide = Literal["pre_relu", "post_relu"]  # z before or after the mask head's ReLU
CorrelationMethod = Literal["auto", "dense", "tiled", "classwise"]
CorrelationNorm = Literal["n", "none"]
AttentionKind = Literal["self", "long"]  # within a frame, or from it to the memory
AttentionPart = Literal["id", "visual", "output", "weights"]
AttentionLoss = Literal["cka", "kl", "projectors"]


@dataclass(frozen=True)
class AttentionPair:
    """A teacher's intermediate, the student's that follows it, and a_kl, the pair's weight.

    Names as in `StepOutput.named`, whose layers may count from the end: `self.id.-1`.
    """

    teacher: str
    student: str
    weight: float = 1.0

    @property
    def projected(self) -> str:
        """Name of the student's intermediate once it is mapped to the teacher's width."""
        return f"{self.student} to {self.teacher}"


@dataclass(frozen=True)
class Clip:
    """A batch of training clips.

    frames (B, T, 3, H, W) float in [0, 1]; masks (B, T, H, W) int64, ids 1..N are object slots;
    present (B, N) bool: which slots hold an object in that clip; samples: B global sample indices,
    the seeds of everything random that concerns a clip; labelled: False where pixels of frames
    1..T-1 are IGNORED, such as all of them where a dataset gives only first masks; soft
    (B, T-1, N+1, H, W) float: probabilities of background and slots in frames 1..T-1, in place of
    the ids as targets, or None; IGNORED pixels are ignored there too.
    """

    frames: Tensor
    masks: Tensor
    present: Tensor
    samples: tuple[int, ...]
    labelled: bool = True
    soft: Tensor | None = None

    def to(self, device: Any) -> Clip:
        """Copy the clip to `device`."""
        return replace(
            self,
            frames=self.frames.to(device, non_blocking=True),
            masks=self.masks.to(device, non_blocking=True),
            present=self.present.to(device, non_blocking=True),
            soft=None if self.soft is None else self.soft.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Clip:
        """Copy the clip to page-locked memory, which a GPU reads without the CPU."""
        return replace(
            self,
            frames=self.frames.pin_memory(),
            masks=self.masks.pin_memory(),
            present=self.present.pin_memory(),
            soft=None if self.soft is None else self.soft.pin_memory(),
        )


@dataclass(frozen=True)
class StepOutput:
    """A model's output for a whole clip, of the predicted frames 1..T-1.

    logits (B, T-1, N+1, H, W): soft-aggregated, channel 0 is background;
    z (B, T-1, N, C, H/4, W/4): decoder output before the prediction convolution, None for a model
    without a feature map per object.
    named: the intermediates that were asked for (`VideoModel.forward`, watch), for other losses.
    ATTENTION.PART.LAYER names an attention (long: over the memory, self: within the frame), its
    part (visual, id: halves of the output of a model with two streams; output: all of it; weights:
    after the softmax; offsets: of the keys of a deformable attention) and its layer, from 1:
    (B, T-1, HW, d), rows at stride 16; weights (B, T-1, HW, keys), or with heads
    (B, T-1, heads HW, keys); offsets (B, T-1, HW, 2 S), x and y of each of S groups, in rows and
    columns of the features.
    """

    logits: Tensor
    z: Tensor | None
    named: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Watched:
    """The intermediates of a frame, of one pass over some of the video's objects.

    named: as `StepOutput.named` without the axes of clip and frame: (HW, d), and weights
    (heads HW, keys). size (H, W): of the frame's positions; slots: the objects that the pass
    segments; held: the frames whose positions are the keys of the long-term attention, in the order
    of the keys. Frames count from 0, the first that the propagator got.
    """

    named: Mapping[str, Tensor]
    size: tuple[int, int]
    slots: range
    held: tuple[int, ...]


@dataclass(frozen=True)
class Prediction:
    """The prediction of a frame.

    probabilities: (K+1, H, W) at input size, summing to 1 over channels; features: opaque encodings
    with which `Propagator.commit` avoids encoding the frame again; watched: what a
    `WatchedPropagator` was asked for, of each of its passes.
    """

    probabilities: Tensor
    features: Any
    watched: Sequence[Watched] = ()


class Propagator(Protocol):
    """The interface of a model on one video, frame by frame, for every family.

    Frames are (3, H, W) float in [0, 1] of any size; ids are (H, W) int64 with objects 1..K. The
    state is a frozen dataclass of tensors, and every call returns a new state. Padding, resizing,
    memory banks and engines are internal to an implementation.
    """

    def begin(self, frame: Tensor, ids: Tensor) -> Any:
        """Return the state after the first frame, whose mask `ids` is given."""
        ...

    def predict(self, state: Any, frame: Tensor) -> Prediction:
        """Predict the probabilities of the next frame; `state` is not changed."""
        ...

    def commit(self, state: Any, prediction: Prediction, mask: Tensor | None = None) -> Any:
        """Return the state after the predicted frame, written to the memory if it is due.

        mask: soft (K+1, H, W) or ids (H, W), written in place of the prediction. Encodes the memory
        value alone, not the frame again.
        """
        ...

    def add(self, state: Any, frame: Tensor, ids: Tensor) -> Any:
        """Return a state with the additional objects K+1..K' of `ids`.

        ids: the mask of the whole frame, old objects included.
        """
        ...


class WatchedPropagator(Propagator, Protocol):
    """A propagator that hands out intermediates: that of a model which is `watchable`."""

    def predict(self, state: Any, frame: Tensor, *, watch: Collection[str] = ()) -> Prediction:
        """Predict as a Propagator does.

        watch: names of the intermediates to return in `Prediction.watched`.
        """
        ...


class Segmenter(Protocol):
    """A segmenter of one video, frame by frame."""

    def step(self, frame: Tensor, mask: Tensor | None = None) -> Tensor:
        """Segment a frame (3, H, W) float in [0, 1] and return its ids (H, W) int64.

        mask (H, W) int64 ids: of all objects on the first frame, of new objects on later frames.
        """
        ...


class VideoSequence(Protocol):
    """A video with its masks, read frame by frame."""

    @property
    def name(self) -> str:
        """Return the video's name, unique in its split."""
        ...

    @property
    def ids(self) -> Sequence[int]:
        """Return the object ids of the first frame, ascending."""
        ...

    def __len__(self) -> int: ...

    def frame(self, index: int) -> U8:
        """Read frame `index`, (H, W, 3) uint8 RGB."""
        ...

    def mask(self, index: int) -> U8:
        """Read the ids of frame `index`, (H, W) uint8, 0 = background."""
        ...


class ScoredVideo(VideoSequence, Protocol):
    """A benchmark's video: where objects begin, which frames are scored, output paths.

    Only the frames in `begins` and `judged` need a mask.
    """

    @property
    def begins(self) -> Mapping[int, int]:
        """Map object ids to the frame whose mask gives the object; some begin in frame 0."""
        ...

    @property
    def judged(self) -> Sequence[int]:
        """Return the frames with a whole mask, ascending.

        An object is scored on those after the frame in which the object begins.
        """
        ...

    @property
    def last_counts(self) -> bool:
        """Return False if the protocol does not score a video's last frame."""
        ...

    @property
    def unseen(self) -> frozenset[int] | None:
        """Return the objects of categories not in training; None if unknown."""
        ...

    def answer(self, index: int) -> Path | None:
        """Return the path of the frame's predicted mask below the output folder.

        The path follows the benchmark's layout; None if the benchmark wants no mask of the frame.
        """
        ...


class ClipSource(Protocol):
    """A source of training clips by global sample index.

    An index gives the same clip in every process.
    """

    def sample(self, index: int) -> Clip:
        """Make clip `index`, B = 1."""
        ...
