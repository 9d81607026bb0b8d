"""Test a segmenter that sees fewer rows than the video has."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from tests.model_tools import fill_from_names, textured_frames
from vosmodels import registry
from vosmodels.errors import InputError, UsageError
from vosmodels.inference.scaled import ScaledSegmenter
from vosmodels.inference.segmenter import VideoSegmenter


class Bright:
    """Stands where a VideoSegmenter is: object 7's probability is the red of a pixel."""

    def __init__(self) -> None:
        self.ids: tuple[int, ...] = ()
        self.seen: list[tuple[int, ...]] = []
        self.given: list[Tensor | None] = []

    def step(self, frame: Tensor, mask: Tensor | None = None) -> Tensor:
        self.ids = (7,)
        self.seen.append(tuple(frame.shape))
        self.given.append(mask)
        self.probabilities = torch.stack([1 - frame[0], frame[0]])
        return 7 * (frame[0] > 0.5).long()


def scaled(rows: int) -> tuple[ScaledSegmenter, Bright]:
    inner = Bright()
    return ScaledSegmenter(cast(VideoSegmenter, inner), rows), inner


def half(columns: int, height: int = 64, width: int = 96) -> Tensor:
    """Bright on the left."""
    frame = torch.zeros(3, height, width)
    frame[:, :, :columns] = 1
    return frame


def test_it_sees_so_many_rows_and_a_straight_edge_stays_where_it_is():
    segmenter, inner = scaled(32)
    mask = 7 * (half(40)[0] > 0).long()
    segmenter.step(half(40), mask)
    for columns in (24, 40, 72):
        answer = segmenter.step(half(columns))
        assert torch.equal(answer, 7 * (half(columns)[0] > 0).long())
    assert set(inner.seen) == {(3, 32, 48)}


def test_with_no_fewer_rows_it_is_the_segmenter_it_wraps():
    model = registry.build("mobilevos_mobilenetv2_noaspp", seed=0)
    fill_from_names(model)
    wrapped, alone = ScaledSegmenter(VideoSegmenter(model), 48), VideoSegmenter(model)
    mask = torch.zeros(48, 64, dtype=torch.uint8)
    mask[8:30, 10:40] = 3
    for index, frame in enumerate(textured_frames(3, 48, 64, seed=0)):
        given = mask if index == 0 else None
        assert torch.equal(wrapped.step(frame, given), alone.step(frame, given))


def test_given_objects_are_where_their_mask_says_to_the_pixel():
    segmenter, inner = scaled(32)
    mask = torch.zeros(64, 96, dtype=torch.uint8)
    mask[20:41, 31:50] = 7
    mask[25, 51:90] = 7  # thinner than what the network sees
    assert torch.equal(segmenter.step(half(96), mask), mask.long())  # bright all over
    assert inner.given[0] is not None
    assert inner.given[0].shape == (32, 48)


def test_an_object_of_one_pixel_is_followed_too():
    segmenter, inner = scaled(16)
    dot = torch.zeros(64, 96, dtype=torch.uint8)
    dot[0, 0] = 9
    with pytest.raises(InputError, match="draw ids above 0"):
        segmenter.step(half(40), torch.zeros_like(dot))
    assert not inner.seen
    assert (segmenter.step(half(40), dot) == 9).sum() == 1  # where it is given, and no more
    given = inner.given[-1]
    assert given is not None
    assert given[0, 0] == 9
    assert given.count_nonzero() == 1
    segmenter.step(half(40), torch.zeros_like(dot))  # a later mask without objects gives none
    assert inner.given[-1] is None


def test_objects_that_find_no_pixel_of_their_own_are_named():
    segmenter, inner = scaled(16)
    crowd = torch.zeros(160, 160, dtype=torch.uint8)
    crowd[:10, :10] = torch.arange(1, 101).reshape(10, 10)  # one pixel at 16 rows, three around
    with pytest.raises(
        InputError,
        match=r"objects 4, 5, .* and 88 more of the mask: no pixel left at 16 rows.*more rows",
    ):
        segmenter.step(half(40, 160, 160), crowd)
    assert not inner.seen


def test_fewer_rows_than_a_network_can_see_are_refused():
    with pytest.raises(UsageError, match="15 rows for the network to see: 16 or more"):
        scaled(15)
