import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vosmodels.data import generated
from vosmodels.data.clips import SequenceClips, VideoSource, batch, collate, frame_gap
from vosmodels.data.davis import DavisDataset
from vosmodels.errors import InputError
from vosmodels.types import U8, Clip, VideoSequence


@dataclass
class Drawn:
    """A grey video: frame t is lit with 10 t + 5, from frame 25 on once more from dark; object i
    is a box of brightness + i; some frames may lack all objects."""

    name: str = "drawn"
    length: int = 20
    objects: int = 1
    empty: frozenset[int] = frozenset()
    side: int = 24
    asked: list[int] = field(default_factory=list)

    @property
    def ids(self) -> Sequence[int]:
        return range(1, self.objects + 1)

    def __len__(self) -> int:
        return self.length

    def frame(self, index: int) -> U8:
        self.asked.append(index)
        grey = np.full((120, 160), 10 * (index % 25) + 5, dtype=np.uint8)
        return np.repeat((grey + self.mask(index))[..., None], 3, axis=2)

    def mask(self, index: int) -> U8:
        ids = np.zeros((120, 160), dtype=np.uint8)
        if index not in self.empty:
            for i in self.ids:
                left = 10 + 55 * (i - 1) + index % 5
                ids[40 : 40 + self.side, left : left + self.side] = i
        return ids


SETTINGS: dict[str, Any] = {"clip_length": 3, "crop": 64, "seed": 0, "max_objects": 1}


def clips(*sequences: VideoSequence, **changes: Any) -> SequenceClips:
    return SequenceClips([VideoSource(sequences)], **(SETTINGS | changes))


def assert_same(left: Clip, right: Clip) -> None:
    for name in ("frames", "masks", "present"):
        torch.testing.assert_close(getattr(left, name), getattr(right, name), rtol=0, atol=0)
    assert left.samples == right.samples


def test_a_clip_has_the_shapes_and_types_that_models_expect() -> None:
    clip = clips(Drawn(objects=2), max_objects=3).sample(7)
    assert clip.frames.shape == (1, 3, 3, 64, 64)
    assert clip.frames.dtype == torch.float32
    assert 0 <= clip.frames.min() < clip.frames.max() <= 1
    assert clip.masks.shape == (1, 3, 64, 64)
    assert clip.masks.dtype == torch.int64
    assert clip.present.shape == (1, 3)
    assert clip.samples == (7,)


@pytest.mark.parametrize("augmentation", ["light", "stcn"])
def test_a_clip_is_a_function_of_seed_and_index_alone(augmentation: str) -> None:
    source = clips(Drawn(), Drawn("other"), augmentation=augmentation)
    forwards = [source.sample(i) for i in range(6)]
    again = clips(Drawn(), Drawn("other"), augmentation=augmentation)
    for i in reversed(range(6)):
        assert_same(again.sample(i), forwards[i])
    other = clips(Drawn(), Drawn("other"), augmentation=augmentation, seed=1).sample(0)
    assert not torch.equal(other.frames, forwards[0].frames)
    alone = clips(Drawn(length=3), augmentation=augmentation)
    assert not torch.equal(alone.sample(0).frames, alone.sample(1).frames)


def test_light_clips_stay_what_they_were_bit_by_bit() -> None:
    """Committed results were trained on them."""
    videos = generated.sequences("val", count=3)
    source = clips(*videos, seed=5, max_objects=2)
    digest = hashlib.sha256()
    for clip in (source.sample(i) for i in (0, 1, 7)):
        for part in (clip.frames, clip.masks, clip.present):
            digest.update(part.contiguous().numpy().tobytes())
    assert digest.hexdigest()[:16] == "be7211d2a97b5647"


def test_every_epoch_visits_each_video_once_in_a_new_order() -> None:
    videos = [Drawn(str(i)) for i in range(6)]
    source = clips(*videos)
    orders = []
    for epoch in range(4):
        order = []
        for place in range(6):
            before = [len(v.asked) for v in videos]
            source.sample(6 * epoch + place)
            order += [i for i, v in enumerate(videos) if len(v.asked) > before[i]]
        assert sorted(order) == list(range(6))
        orders.append(tuple(order))
    assert len(set(orders)) > 1


def test_gaps_stay_within_max_skip_and_half_of_the_clips_run_backwards() -> None:
    video = Drawn(length=25)
    source = clips(video, max_skip=4)
    gaps = []
    for i in range(150):
        video.asked.clear()
        source.sample(i)
        gaps.append(np.diff(video.asked))
    assert {abs(g) for pair in gaps for g in pair} == {1, 2, 3, 4}
    assert all((pair > 0).all() or (pair < 0).all() for pair in gaps)
    assert 45 < sum((pair > 0).all() for pair in gaps) < 105


def test_an_epoch_visits_the_videos_of_each_source_as_often_as_it_repeats_them() -> None:
    few, many = [Drawn("a"), Drawn("b")], [Drawn(str(i)) for i in range(3)]
    source = SequenceClips([VideoSource(few, repeat=5), VideoSource(many)], **SETTINGS)
    for epoch in range(2):
        visits: Counter[str] = Counter()
        for place in range(2 * 5 + 3):
            before = [len(v.asked) for v in few + many]
            source.sample(13 * epoch + place)
            (seen,) = [v.name for v, n in zip(few + many, before, strict=True) if len(v.asked) > n]
            visits[seen] += 1
        assert visits == {"a": 5, "b": 5, "0": 1, "1": 1, "2": 1}


def test_a_gap_counts_labels_where_only_some_frames_have_one() -> None:
    dense, sparse = Drawn("dense", length=60), Drawn("sparse", length=60)
    sources = [VideoSource([dense]), VideoSource([sparse], label_gap=5)]
    for max_skip, widest in ((4, 1), (10, 2)):
        source = SequenceClips(sources, max_skip=max_skip, **SETTINGS)
        gaps: dict[str, set[int]] = {"dense": set(), "sparse": set()}
        for i in range(150):
            dense.asked.clear()
            sparse.asked.clear()
            source.sample(i)
            for video in (dense, sparse):
                gaps[video.name] |= set(np.abs(np.diff(video.asked)).tolist())
        assert gaps == {"dense": {*range(1, max_skip + 1)}, "sparse": {*range(1, widest + 1)}}


def test_max_skip_may_change_with_the_sample() -> None:
    video = Drawn(length=60)
    widest = {i: 1 if i < 20 else 9 for i in range(80)}
    source = clips(video, max_skip=widest.__getitem__)
    gaps: dict[int, set[int]] = {1: set(), 9: set()}
    for i, skip in widest.items():
        video.asked.clear()
        source.sample(i)
        gaps[skip] |= set(np.abs(np.diff(video.asked)).tolist())
    assert gaps == {1: {1}, 9: set(range(1, 10))}


@pytest.mark.parametrize(("stage", "last"), [("video", 0.9), ("bl30k", 0.8)])
def test_frame_gap_widens_and_ends_as_it_began(stage: Any, last: float) -> None:
    steps = [frame_gap(k / 1000, stage) for k in range(1001)]
    changes = {k / 1000: steps[k] for k in range(1, 1001) if steps[k] != steps[k - 1]}
    assert steps[0] == 5
    assert changes == {0.1: 10, 0.2: 15, 0.3: 20, 0.4: 25, last: 5}
    for progress in (-0.1, 1.1):
        with pytest.raises(ValueError, match=f"progress {progress}"):
            frame_gap(progress, stage)


def test_a_video_of_just_the_clips_length_is_used_whole() -> None:
    video = Drawn(length=3)
    clips(video).sample(0)
    assert sorted(video.asked) == [0, 1, 2]


def test_a_clip_starts_on_a_frame_that_holds_the_object() -> None:
    video = Drawn(length=20, empty=frozenset(range(6, 20)))
    source = clips(video)
    for i in range(60):
        video.asked.clear()
        clip = source.sample(i)
        assert video.asked[0] < 6
        assert (clip.masks[0, 0] == 1).any()
        assert clip.present.all()


def test_a_video_without_objects_gives_its_turn_to_the_next() -> None:
    nothing, video = Drawn("void", empty=frozenset(range(20))), Drawn()
    source = clips(nothing, video)
    assert all((source.sample(i).masks[0, 0] == 1).any() for i in range(6))
    with pytest.raises(InputError, match="no mask holds an object: void"):
        clips(nothing).sample(0)


def test_a_tiny_object_gets_its_clip_too() -> None:
    clip = clips(Drawn(side=2)).sample(0)
    assert 1 <= (clip.masks[0, 0] == 1).sum() < 0.004 * 64**2


def test_a_long_video_without_objects_is_searched_to_its_end() -> None:
    with pytest.raises(InputError, match="no mask holds an object: long"):
        clips(Drawn("long", length=600, empty=frozenset(range(600)))).sample(0)


def test_clips_start_where_the_object_is_large_if_they_can() -> None:
    class Growing(Drawn):
        def mask(self, index: int) -> U8:
            self.side = 2 if index < 10 else 24
            return super().mask(index)

    video = Growing(length=20)
    source = clips(video)
    starts = []
    for i in range(60):
        video.asked.clear()
        source.sample(i)
        starts.append(video.asked[0])
    assert sum(start < 10 for start in starts) < 15  # without the preference: about 30


@pytest.mark.parametrize("level", [0, 60, 255])
def test_colours_change_a_little_and_alike_through_the_clip(level: int) -> None:
    class Flat(Drawn):
        def frame(self, index: int) -> U8:
            return np.full((120, 160, 3), level, dtype=np.uint8)

    tints = set()
    for clip in (clips(Flat()).sample(i) for i in range(20)):
        assert 0 <= clip.frames.min() <= clip.frames.max() <= 1
        tint = clip.frames[0].flatten(2).median(dim=2).values  # (T, 3)
        assert (tint == tint[0]).all()
        value = level / 255
        assert value * 0.85 * 0.8 - 0.05 < tint.min() <= tint.max() < value * 1.15 * 1.2 + 0.05
        tints.add(tuple(tint[0].tolist()))
    assert len(tints) > 10


def test_objects_are_renumbered_without_gaps_and_the_rest_is_background() -> None:
    source = clips(Drawn(objects=3), max_objects=2, crop=96)
    counts = set()
    for i in range(40):
        clip = source.sample(i)
        slots = int(clip.present.sum())
        counts.add(slots)
        assert clip.present[0].tolist() == [k < slots for k in range(2)]
        assert set(clip.masks[0, 0].unique().tolist()) == set(range(slots + 1))
        assert set(clip.masks.unique().tolist()) <= set(range(slots + 1))
    assert counts == {1, 2}


def test_an_object_keeps_its_slot_through_the_clip() -> None:
    """Each object has its own brightness, which tells it where slots could be swapped."""

    class Bright(Drawn):
        def frame(self, index: int) -> U8:
            return np.repeat(self.mask(index)[..., None] * np.uint8(90), 3, axis=2)

    source = clips(Bright(objects=2), max_objects=2, crop=96)
    brighter = []
    for clip in (source.sample(i) for i in range(30)):
        lit = clip.frames[0].mean(dim=1)
        if clip.present.all() and all(
            (clip.masks[0, t] == k).any() for t in (1, 2) for k in (1, 2)
        ):
            order = [
                bool(lit[t][clip.masks[0, t] == 2].mean() > lit[t][clip.masks[0, t] == 1].mean())
                for t in range(3)
            ]
            assert len(set(order)) == 1
            brighter.append(order[0])
    assert set(brighter) == {True, False}  # the slots' order is random


@pytest.mark.parametrize("augmentation", ["light", "stcn"])
def test_frames_and_masks_are_moved_alike(augmentation: str) -> None:
    """The object is the light: its centre of gravity is that of the mask, to a tenth of a pixel."""

    class Bright(Drawn):
        def frame(self, index: int) -> U8:
            return np.repeat(self.mask(index)[..., None] * np.uint8(255), 3, axis=2)

    def centre(weight: torch.Tensor) -> torch.Tensor:
        grid = torch.stack(torch.meshgrid(*map(torch.arange, weight.shape), indexing="ij"))
        return (grid * weight).sum(dim=(1, 2)) / weight.sum()

    for crop in (48, 160):  # smaller and larger than the video's pixels: both ways of sampling
        source = clips(Bright(), crop=crop, augmentation=augmentation)
        apart = []
        for i in range(40):
            clip = source.sample(i)
            for light, ids in zip(clip.frames[0].mean(dim=1), clip.masks[0], strict=True):
                inside = ids[1:-1, 1:-1].sum() == ids.sum() > 0
                rim = torch.nn.functional.max_pool2d(ids[None].float(), 5, 1, 2)[0]
                if inside:
                    apart.append(centre((light - light[rim > 0].min()) * rim) - centre(ids))
        assert len(apart) > 35
        assert torch.stack(apart).abs().max() < 0.6
        assert torch.stack(apart).mean(dim=0).abs().max() < 0.1


def test_videos_shorter_than_a_clip_are_named_at_once() -> None:
    with pytest.raises(InputError, match=r"clip_length 3: short \(2\), tiny \(1\) frames"):
        clips(Drawn("short", length=2), Drawn(), Drawn("tiny", length=1))


@pytest.mark.parametrize("change", ["clip_length", "crop", "max_objects", "max_skip"])
def test_sizes_below_one_are_refused(change: str) -> None:
    with pytest.raises(ValueError, match=f"{change} 0"):
        clips(Drawn(), **{change: 0})
    with pytest.raises(ValueError, match="0 videos"):
        clips()
    with pytest.raises(ValueError, match="0 videos"):
        SequenceClips([VideoSource([Drawn()], repeat=0)], **SETTINGS)
    with pytest.raises(ValueError, match=r"label_gap \[1, 0\]"):
        SequenceClips([VideoSource([Drawn()]), VideoSource([Drawn()], label_gap=0)], **SETTINGS)


def test_clips_of_a_davis_folder_hold_the_object(davis_root: Path) -> None:
    source = clips(*DavisDataset(davis_root).sequences("train"), crop=32)
    for i in range(4):
        clip = source.sample(i)
        assert (clip.masks[0, 0] == 1).any()
        lit = clip.frames[0, 0].mean(dim=0)
        assert lit[clip.masks[0, 0] == 1].mean() > lit.mean()


def test_collate_keeps_the_order() -> None:
    source = clips(Drawn())
    joined = collate([source.sample(5), source.sample(2)])
    assert joined.samples == (5, 2)
    torch.testing.assert_close(joined.frames[1:], source.sample(2).frames, rtol=0, atol=0)
    with pytest.raises(ValueError, match="clips is empty"):
        collate([])


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_together_see_the_batch_of_one(world: int) -> None:
    source = clips(Drawn(), Drawn("other"))
    whole = batch(source, step=3, batch_size=4)
    assert whole.samples == (12, 13, 14, 15)
    assert_same(collate([batch(source, 3, 4, rank, world) for rank in range(world)]), whole)


@pytest.mark.parametrize(("size", "rank", "world"), [(5, 0, 2), (4, 2, 2), (4, -1, 2), (0, 0, 1)])
def test_a_batch_that_cannot_be_shared_is_refused(size: int, rank: int, world: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size {size} for rank {rank} of {world}"):
        batch(clips(Drawn()), 0, size, rank, world)
