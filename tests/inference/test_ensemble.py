"""Test ensembles against one network, against their mean by hand, and by mirrored videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.model_tools import any_filled, textured_clip
from vosmodels.inference import VideoSegmenter
from vosmodels.inference.ensemble import Ensemble, EnsemblePropagator, View

SIZE = 48  # a multiple of 16: nothing is padded
FLIPPED = View(flipped=True)


@pytest.fixture(scope="module")
def network() -> Any:
    return any_filled("mobilevos_mobilenetv2")


def run(model: Any, frames: Sequence[Tensor], mask: Tensor) -> list[Tensor]:
    """Probabilities of each frame after the first."""
    segmenter, found = VideoSegmenter(model), []
    segmenter.step(frames[0], mask)
    for frame in frames[1:]:
        segmenter.step(frame)
        found.append(segmenter.probabilities)
    return found


@pytest.fixture(scope="module")
def video() -> tuple[list[Tensor], Tensor]:
    clip = textured_clip(clips=2, frames=4, size=SIZE)
    return list(clip.frames[0]), clip.masks[0, 0]


def test_an_ensemble_of_twins_is_the_network(network: Any, video: Any):
    frames, mask = video
    torch.testing.assert_close(
        run(Ensemble([network, network]), frames, mask), run(network, *video)
    )


def test_a_flipped_view_is_the_network_on_the_mirrored_video(network: Any, video: Any):
    frames, mask = video
    mirrored = run(network, [frame.flip(-1) for frame in frames], mask.flip(-1))
    found = run(Ensemble([network], [FLIPPED]), frames, mask)
    torch.testing.assert_close(found, [maps.flip(-1) for maps in mirrored])


def test_views_give_the_mean_and_the_memory_takes_it(network: Any, video: Any):
    """By hand: both propagators predict, each commits the mean as its own side sees it."""
    frames, mask = video
    plain, turned = network.propagator(), network.propagator()
    state, other = plain.begin(frames[0], mask), turned.begin(frames[0].flip(-1), mask.flip(-1))
    expected = []
    for frame in frames[1:]:
        one, two = plain.predict(state, frame), turned.predict(other, frame.flip(-1))
        mean = (one.probabilities + two.probabilities.flip(-1)) / 2
        state, other = plain.commit(state, one, mean), turned.commit(other, two, mean.flip(-1))
        expected.append(mean)
    found = run(Ensemble([network], [View(), FLIPPED]), frames, mask)
    torch.testing.assert_close(found, expected)
    alone = run(network, frames, mask)
    assert not torch.allclose(found[-1], alone[-1])


@pytest.mark.parametrize("size", [(48, 48), (45, 61)])
def test_a_larger_view_gives_probabilities_at_the_size_of_the_frame(
    network: Any, size: tuple[int, int]
):
    frames = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(size, dtype=torch.int64)
    mask[8:20, 8:20], mask[30, 30] = 5, 9  # one of a single pixel
    views = [View(), View(scale=1.25), View(flipped=True, scale=1.5)]
    (maps,) = run(Ensemble([network], views), list(frames), mask)
    assert maps.shape == (3, *size)
    torch.testing.assert_close(maps.sum(0), torch.ones(size))


def test_a_view_returns_a_smooth_picture_as_it_was():
    ramp = torch.linspace(0, 1, 40).expand(3, 32, 40)
    for view in (View(), FLIPPED, View(scale=1.5), View(flipped=True, scale=1.25)):
        again = view.back(view.frame(ramp), (32, 40))
        torch.testing.assert_close(again, ramp, atol=0.01, rtol=0)
    ids = torch.arange(12).view(3, 4)
    assert torch.equal(View(flipped=True, scale=2.0).ids(ids)[::2, ::2], ids.flip(-1))


def test_objects_that_come_later_are_added_to_every_part(network: Any, video: Any):
    frames, mask = video
    both = [VideoSegmenter(model) for model in (network, Ensemble([network, network]))]
    for segmenter in both:
        segmenter.step(frames[0], torch.where(mask == 1, mask, 0))
        segmenter.step(frames[1], torch.where(mask == 2, mask, 0))
        segmenter.step(frames[2])
    assert both[1].ids == (1, 2)
    torch.testing.assert_close(both[1].probabilities, both[0].probabilities)


def test_what_cannot_be_an_ensemble_is_refused(network: Any):
    with pytest.raises(ValueError, match=r"scale 0\.75: 1 or more"):
        View(scale=0.75)
    with pytest.raises(ValueError, match="0 networks and 1 views"):
        Ensemble([])
    assert isinstance(Ensemble([network]).propagator(), EnsemblePropagator)
