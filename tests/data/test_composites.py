"""Test objects pasted from one clip or video into another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.tiny import SquareClips
from vosmodels.data.composites import CompositeVideo, PastedClips, composites, pasted
from vosmodels.errors import InputError
from vosmodels.types import U8, Clip, ClipSource


def clip(masks: list[list[list[int]]], grey: float, slots: int = 3, count: int = 1) -> Clip:
    """A clip of frames of one grey whose ids are given frame by frame; `count` of them present."""
    ids = torch.tensor(masks)[None]
    frames = torch.full((1, ids.shape[1], 3, *ids.shape[2:]), grey)
    return Clip(frames, ids, (torch.arange(slots) < count)[None], (4,))


def test_pasted_objects_lie_over_the_host_and_have_the_next_slots() -> None:
    host = clip([[[1, 1, 2, 0]], [[1, 2, 0, 0]]], 0.25, count=2)
    guest = clip([[[0, 1, 0, 0]], [[0, 0, 1, 1]]], 0.75)
    both = pasted(host, guest)
    assert both.masks.tolist() == [[[[1, 3, 2, 0]], [[1, 2, 3, 3]]]]
    greys = [[[0.25, 0.75, 0.25, 0.25]], [[0.25, 0.25, 0.75, 0.75]]]
    for channel in range(3):
        assert both.frames[0, :, channel].tolist() == greys
    assert both.present.tolist() == [[True, True, True]]
    assert both.samples == (4,)


def test_an_object_hidden_in_the_first_frame_has_no_slot_and_stays_background() -> None:
    host = clip([[[1, 2, 0, 0]], [[1, 2, 0, 0]]], 0.25, count=2)
    guest = clip([[[1, 0, 0, 0]], [[0, 0, 0, 1]]], 0.75)
    both = pasted(host, guest)
    assert both.masks.tolist() == [[[[2, 1, 0, 0]], [[0, 1, 0, 2]]]]
    assert both.present.tolist() == [[True, True, False]]


def test_what_finds_no_slot_hides_the_host_and_is_background() -> None:
    host = clip([[[1, 2, 1, 0]], [[1, 1, 2, 0]]], 0.25, slots=2, count=2)
    guest = clip([[[0, 0, 1, 2]], [[1, 0, 0, 2]]], 0.75, slots=2, count=2)
    both = pasted(host, guest)
    assert both.masks.tolist() == [[[[1, 2, 0, 0]], [[0, 1, 2, 0]]]]
    assert both.frames[0, 0, 0, 0].tolist() == [0.25, 0.25, 0.75, 0.75]
    assert both.present.tolist() == [[True, True]]


def test_clips_of_other_shapes_are_not_pasted() -> None:
    with pytest.raises(ValueError, match=r"clips of \(1, 1, 3, 1, 2\) and \(1, 1, 3, 1, 1\)"):
        pasted(clip([[[1, 0]]], 0.2), clip([[[1]]], 0.2))


@dataclass(frozen=True)
class Unlabelled:
    """Clips whose first masks alone are known."""

    inner: ClipSource

    def sample(self, index: int) -> Clip:
        one = self.inner.sample(index)
        return Clip(one.frames, one.masks, one.present, one.samples, labelled=False)


def same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other)


def test_a_share_of_the_samples_is_pasted_the_same_ones_for_every_caller() -> None:
    hosts, guests = SquareClips(objects=2, size=32), Shifted(SquareClips(objects=2, size=32))
    source = PastedClips(hosts, guests, 0.3, seed=5)

    def changed(source: ClipSource) -> list[bool]:
        return [not same(source.sample(i).frames, hosts.sample(i).frames) for i in range(200)]

    assert 0.2 < sum(changed(source)) / 200 < 0.4
    again = PastedClips(hosts, guests, 0.3, seed=5)
    for i in (199, 3, 42):
        assert same(again.sample(i).masks, source.sample(i).masks)
    assert changed(PastedClips(hosts, guests, 0.3, seed=6)) != changed(source)


@dataclass(frozen=True)
class Shifted:
    """The clips of another seed: others at each index."""

    inner: ClipSource

    def sample(self, index: int) -> Clip:
        return self.inner.sample(index + 1000)


def test_without_later_masks_nothing_is_pasted() -> None:
    hosts, guests = SquareClips(), Shifted(SquareClips())
    for source in (
        PastedClips(Unlabelled(hosts), guests, 1.0, seed=0),
        PastedClips(hosts, Unlabelled(guests), 1.0, seed=0),
    ):
        assert same(source.sample(0).frames, hosts.sample(0).frames)


# Videos to score


@dataclass(frozen=True)
class Boxes:
    """A video of one grey with boxes of twice its grey: (id, top, left, edge), moving right."""

    name: str
    boxes: tuple[tuple[int, int, int, int], ...]
    grey: int
    length: int = 5
    size: tuple[int, int] = (48, 64)
    dense: bool = True
    last_counts = False
    unseen = None

    @property
    def ids(self) -> list[int]:
        return [int(i) for i in np.unique(self.mask(0)) if i]

    @property
    def begins(self) -> dict[int, int]:
        return dict.fromkeys(self.ids, 0)

    @property
    def judged(self) -> range:
        return range(self.length if self.dense else 1)

    def __len__(self) -> int:
        return self.length

    def answer(self, index: int) -> Path:
        return Path(self.name) / f"{index}.png"

    def mask(self, index: int) -> U8:
        ids = np.zeros(self.size, np.uint8)
        for number, top, left, edge in self.boxes:
            ids[top : top + edge, left + index : left + index + edge] = number
        return ids

    def frame(self, index: int) -> U8:
        grey = np.where(self.mask(index) > 0, 2 * self.grey, self.grey).astype(np.uint8)
        return np.repeat(grey[..., None], 3, 2)


HOST = Boxes("host", ((3, 2, 2, 16), (7, 24, 40, 12)), 20, length=8)
GUEST = Boxes("guest", ((1, 10, 10, 24),), 60, size=(60, 80))
SPARSE = Boxes("sparse", ((1, 10, 10, 20),), 60, dense=False)


def test_a_composite_is_the_host_with_the_guests_objects_over_it() -> None:
    (video,) = (v for v in composites([HOST, GUEST], 1) if v.host is HOST)
    assert (video.name, len(video), list(video.ids)) == ("host+guest", 8, [1, 2, 3])
    assert video.begins == {1: 0, 2: 0, 3: 0}
    for index in range(8):
        ids, frame, own = video.mask(index), video.frame(index), HOST.mask(index)
        assert ids.shape == (48, 64)
        assert frame.shape == (48, 64, 3)
        pasted_in = ids == 3
        expected = np.select([pasted_in, own == 3, own == 7], [3, 1, 2], 0)
        assert np.array_equal(ids, expected), index
        assert (frame[pasted_in] > 55).all()  # the guest's, within its interpolated edge
        assert np.array_equal(frame[~pasted_in], HOST.frame(index)[~pasted_in])
        assert 0.3 * 24**2 * 0.45**2 < pasted_in.sum() < 24**2 * 0.75**2 + 24


def test_a_guest_is_put_where_it_hides_nothing_in_the_first_frame() -> None:
    for name in "abcdefgh":
        host = Boxes(name, ((1, 14, 20, 20),), 20)  # in the middle, as the guest's own is
        video = CompositeVideo(host, (GUEST,))
        assert (video.mask(0) == 1).sum() == 400
        assert (video.mask(0) == 2).sum() > 50


def test_a_guest_hides_what_lies_behind_it() -> None:
    everywhere = Boxes("everywhere", ((1, 0, 0, 64),), 20)
    video = CompositeVideo(everywhere, (GUEST,))
    hidden = video.mask(0) == 2
    assert hidden.sum() > 50
    assert (video.frame(0)[hidden] > 55).all()


def test_a_shorter_guest_runs_back_and_forth() -> None:
    video = CompositeVideo(HOST, (GUEST,))
    left = [int(np.nonzero((video.mask(t) == 3).any(0))[0][0]) for t in range(8)]
    assert left[:5] == sorted(left[:5])
    assert left[4] > left[0]
    assert left[5:8] == [left[3], left[2], left[1]]


def test_a_host_hidden_in_the_first_frame_is_no_object_of_the_composite() -> None:
    covered = Boxes("covered", ((1, 0, 0, 48), (2, 0, 50, 9)), 20, size=(48, 64))
    large = [Boxes(f"large{n}", ((1, 0, 0, 80),), 60, size=(60, 80)) for n in range(9)]
    video = CompositeVideo(covered, (*large, Boxes("empty", (), 60)))
    shown = set(np.unique(video.mask(0)).tolist()) - {0}
    assert shown == set(video.ids) == set(range(1, len(shown) + 1))
    assert len(shown) < 11


def test_guests_are_drawn_by_the_names_of_the_videos_whatever_their_order() -> None:
    videos = [Boxes(name, ((1, 14, 20, 20),), 20) for name in "abcdef"]
    names = {v.host.name: v.name for v in composites(videos, 2)}
    assert {v.host.name: v.name for v in composites(videos[::-1], 2)} == names
    for host, name in names.items():
        assert len(set(name.split("+"))) == 3
        assert name.startswith(f"{host}+")
    assert len({name.split("+")[1] for name in names.values()}) > 2


def test_what_cannot_be_composed_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"composites 2: wanted 2 videos beside each; .* has 2"):
        composites([HOST, GUEST], 2)
    with pytest.raises(InputError, match=r"composites 1: .* which is not so of sparse"):
        composites([HOST, SPARSE], 1)
    full = Boxes("full", tuple((i, i // 32, 2 * (i % 32), 1) for i in range(1, 201)), 20)
    with pytest.raises(InputError, match="full\\+full: 400 objects together"):
        _ = CompositeVideo(full, (full,)).ids
