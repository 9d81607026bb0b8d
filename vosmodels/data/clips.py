"""Cut training clips from videos, and collate clips of any source to batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vosmodels.data.affine import F64, warp_frame, warp_mask, warp_probability
from vosmodels.data.augment import augmenter
from vosmodels.data.masks import NO_LABEL
from vosmodels.data.teacher_masks import TaughtVideo
from vosmodels.errors import InputError
from vosmodels.support.seeding import numpy_generator
from vosmodels.types import IGNORED, Augmentation, Clip, ClipSource, VideoSequence

Stage = Literal["video", "bl30k"]  # STCN's stages on videos
Entry = TypeVar("Entry")

MAX_SKIP = 5  # widest gap between two frames of a clip
SMALLEST_CROP = {"video": 0.36, "bl30k": 0.25}  # share of the frame's area, by STCN's stage
_GAPS = (5, 10, 15, 20, 25, 5)
_GAPS_CHANGE = {"video": (0.1, 0.2, 0.3, 0.4, 0.9), "bl30k": (0.1, 0.2, 0.3, 0.4, 0.8)}


def frame_gap(progress: float, stage: Stage) -> int:
    """Return the widest frame gap of STCN's curriculum after a share of the stage.

    The gaps are 5, 10, 15, 20 and 25 frames, and 5 again at the end. STCN changes the gap at the
    end of an epoch; here the gap changes at exact shares of the stage's steps. Raises ValueError if
    progress is outside [0, 1].
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress {progress}: the share of a stage that is done, 0 to 1")
    return _GAPS[sum(progress >= change for change in _GAPS_CHANGE[stage])]


@dataclass(frozen=True)
class VideoSource:
    """The videos of one set, with repeat and label gap.

    repeat: visits of a video per epoch; label_gap: frames from one label to the next. STCN mixes
    5 x DAVIS with YouTube-VOS, which labels every fifth frame: a gap of max_skip frames is then
    max(1, max_skip // label_gap) of the frames that the videos hold.
    """

    videos: Sequence[VideoSequence]
    repeat: int = 1
    label_gap: int = 1
    first_masks_only: frozenset[str] = frozenset()  # names of videos without later masks


def in_turn(entries: Sequence[Entry], index: int, seed: int, name: str) -> Iterator[Entry]:
    """Yield the entry of sample `index`, then the next ones in the epoch's order.

    A caller that cannot use an entry takes the next. An epoch visits every entry once, in an order
    drawn from (seed, name, epoch).
    """
    count = len(entries)
    epoch, place = divmod(index, count)
    order = numpy_generator(seed, name, epoch).permutation(count)
    return (entries[number] for number in np.roll(order, -place))


class SequenceClips:
    """A `ClipSource` of clips cut from videos, `clip_length` frames and `crop` pixels.

    An epoch has sum(videos x repeat) samples and visits each video `repeat` times, in a new order
    each time. The first frame shows the target, an object drawn at random, which has slot 1;
    up to max_objects - 1 others visible there, drawn at random, have the next. Whatever has no slot
    is background. Frame gaps are 1..max_skip, or as wide as the video allows from there; half of
    the clips run backwards. max_skip may be a function of the global sample index, for a
    curriculum. `augmentation` lays the crop and moves and recolours frames; smallest_crop is
    for "stcn". A clip of a video with only a first mask starts there, goes forwards, and is
    IGNORED after it. A `TaughtVideo` gives the masks in which clips start, and the labels of later
    frames.

    Raises InputError where videos are shorter than a clip, ValueError on sizes below one.
    """

    def __init__(
        self,
        sources: Sequence[VideoSource],
        *,
        clip_length: int,
        crop: int,
        seed: int,
        max_objects: int,
        max_skip: int | Callable[[int], int] = MAX_SKIP,
        augmentation: Augmentation = "light",
        smallest_crop: float = SMALLEST_CROP["video"],
    ) -> None:
        self._entries = [
            (video, source.label_gap, video.name not in source.first_masks_only)
            for source in sources
            for _ in range(source.repeat)
            for video in source.videos
        ]
        constant = 1 if callable(max_skip) else max_skip
        gaps = [source.label_gap for source in sources]
        if not self._entries or min(clip_length, crop, max_objects, constant, *gaps) < 1:
            raise ValueError(
                f"{len(self._entries)} videos, clip_length {clip_length}, crop {crop}, "
                f"max_objects {max_objects}, max_skip {max_skip}, label_gap {gaps}: "
                "all must be at least 1"
            )
        self._videos = [video for source in sources for video in source.videos]
        short = [f"{v.name} ({len(v)})" for v in self._videos if len(v) < clip_length]
        if short:
            raise InputError(
                f"videos shorter than clip_length {clip_length}: {', '.join(short)} frames; "
                "shorten the clips, or take these videos out of the split"
            )
        self._clip_length = clip_length
        self._crop = crop
        self._seed = seed
        self._max_objects = max_objects
        self._max_skip = max_skip
        self._augmenter = augmenter(augmentation, smallest_crop)

    def sample(self, index: int) -> Clip:
        """Make clip `index`, B = 1, from the seed and the index alone.

        Raises InputError if a file is corrupt or no video shows an object.
        """
        rng = numpy_generator(self._seed, "clip", index)
        for video, label_gap, labelled in in_turn(self._entries, index, self._seed, "order"):
            widest = self._max_skip(index) if callable(self._max_skip) else self._max_skip
            max_skip = max(1, widest // label_gap)
            # Small objects get a clip too: what is asked of the area halves at each attempt, and
            # every frame gets its chance to be the first.
            starts = rng.permutation(len(video)) if labelled else np.zeros(len(video), dtype=int)
            for attempt, start in enumerate(np.tile(starts, 2)):
                numbers = self._frame_numbers(rng, int(start), len(video), max_skip)
                share = self._augmenter.min_share * 2.0**-attempt
                pixels = max(1, round(share * self._crop**2))
                clip = self._try(rng, video, numbers, index, pixels, labelled)
                if clip is not None:
                    return clip
        names = ", ".join(video.name for video in self._videos)
        raise InputError(f"no clip can start anywhere, as no mask holds an object: {names}")

    def _try(
        self,
        rng: np.random.Generator,
        video: VideoSequence,
        numbers: list[int],
        index: int,
        pixels: int,
        labelled: bool,
    ) -> Clip | None:
        """Cut a clip of these frames; None without frames or without a visible target."""
        if not numbers:
            return None
        ids = video.mask(numbers[0])
        objects = _ids(ids, 1)
        if not objects:
            return None
        target = int(rng.choice(objects))
        warps = self._augmenter.warps(rng, ids == target, self._crop, len(numbers))
        first = warp_mask(ids, warps[0], self._crop)
        visible = _ids(first, pixels)
        if target not in visible:
            return None
        others = [i for i in visible if i != target]
        chosen = [target, *rng.permutation(others)[: self._max_objects - 1]]
        slots = np.zeros(256, dtype=np.int64)
        slots[NO_LABEL] = IGNORED
        slots[chosen] = np.arange(1, len(chosen) + 1)
        label = video.label if isinstance(video, TaughtVideo) else video.mask
        later = [
            warp_mask(label(n), warp, self._crop) if labelled else np.full_like(first, NO_LABEL)
            for n, warp in zip(numbers[1:], warps[1:], strict=True)
        ]
        masks = np.stack([first, *later])
        soft = None
        if isinstance(video, TaughtVideo) and video.soft:
            soft = self._soft(video, list(zip(numbers[1:], warps[1:], strict=True)), chosen)
        frames = [
            warp_frame(video.frame(n), warp, self._crop)
            for n, warp in zip(numbers, warps, strict=True)
        ]
        return Clip(
            frames=self._augmenter.colours(rng, np.stack(frames))[None],
            masks=torch.from_numpy(slots[masks])[None],
            present=(torch.arange(self._max_objects) < len(chosen))[None],
            samples=(index,),
            labelled=not (masks == NO_LABEL).any(),
            soft=soft,
        )

    def _soft(
        self, video: TaughtVideo, later: Sequence[tuple[int, F64]], chosen: Sequence[int]
    ) -> Tensor:
        """Warp the teacher's probabilities of the chosen objects: (1, T-1, N+1, H, W)."""
        made = np.zeros((len(later), self._max_objects + 1, self._crop, self._crop), np.float32)
        for place, (number, warp) in enumerate(later):
            for slot, chosen_id in enumerate(chosen, 1):
                plane = video.masks.probability(number, int(chosen_id))
                made[place, slot] = warp_probability(plane, warp, self._crop) / np.float32(255)
        made[:, 0] = np.clip(1 - made[:, 1:].sum(1), 0, 1)
        return torch.from_numpy(made / made.sum(1, keepdims=True))[None]

    def _frame_numbers(
        self, rng: np.random.Generator, start: int, length: int, max_skip: int
    ) -> list[int]:
        """Draw the frame numbers of a clip from `start`; none if the video has no room."""
        steps = self._clip_length - 1
        ways = [
            (way, room) for way, room in ((1, length - 1 - start), (-1, start)) if room >= steps
        ]
        if not ways or not steps:
            return [start] if ways else []
        way, room = ways[rng.integers(len(ways))]
        gaps = rng.integers(1, min(max_skip, room // steps) + 1, steps)
        return [start, *(start + way * np.cumsum(gaps)).tolist()]


def collate(clips: Sequence[Clip]) -> Clip:
    """Concatenate clips of equal shape to a batch. Raises ValueError on no clips.

    Beside a clip with soft targets, ids of the others become probabilities of 0 and 1.
    """
    if not clips:
        raise ValueError("clips is empty; a batch has at least one")
    soft = None
    if any(clip.soft is not None for clip in clips):
        soft = torch.cat([soft_targets(clip) for clip in clips])
    return Clip(
        frames=torch.cat([clip.frames for clip in clips]),
        masks=torch.cat([clip.masks for clip in clips]),
        present=torch.cat([clip.present for clip in clips]),
        samples=tuple(sample for clip in clips for sample in clip.samples),
        labelled=all(clip.labelled for clip in clips),
        soft=soft,
    )


def soft_targets(clip: Clip) -> Tensor:
    """Return a clip's soft targets, or those that its ids are: (B, T-1, N+1, H, W)."""
    if clip.soft is not None:
        return clip.soft
    classes = torch.arange(clip.present.shape[1] + 1, device=clip.masks.device)
    return (clip.masks[:, 1:, None] == classes[:, None, None]).float()


def batch(source: ClipSource, step: int, batch_size: int, rank: int = 0, world: int = 1) -> Clip:
    """Make a rank's share of the batch of optimisation step `step`.

    The global batch holds the samples step * batch_size + i, i < batch_size; the shares of ranks
    0..world-1, one after the other, equal the batch of a single rank.
    Raises ValueError if `world` does not divide `batch_size` or `rank` is not below `world`.
    """
    if batch_size < 1 or world < 1 or batch_size % world or not 0 <= rank < world:
        raise ValueError(
            f"batch_size {batch_size} for rank {rank} of {world} workers: "
            "the workers share a batch equally; make batch_size a multiple of their number"
        )
    share = batch_size // world
    first = step * batch_size + rank * share
    return collate([source.sample(index) for index in range(first, first + share)])


def _ids(mask: NDArray[Any], pixels: int) -> list[int]:
    """Return the ids that cover at least so many pixels, ascending."""
    # One comparison per id, as ids are few and np.bincount takes 9 ms for one 480p mask.
    return [i for i in range(1, int(mask.max()) + 1) if np.count_nonzero(mask == i) >= pixels]
