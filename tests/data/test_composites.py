"""Test objects pasted from one clip or video into another."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tests.tiny import SquareClips
from vosmodels.data.composites import PastedClips, pasted
from vosmodels.types import Clip, ClipSource


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
