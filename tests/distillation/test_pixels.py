"""Test boundary bands and pixel selection."""

from typing import get_args

import pytest
import torch

from vosmodels.distillation.pixels import SAMPLERS, boundary_band, object_masks, select_pixels
from vosmodels.support.seeding import generator
from vosmodels.types import IGNORED, LABEL_SAMPLING, Clip, Sampling


def test_every_name_of_a_sampling_strategy_has_its_function_and_no_other():
    assert set(SAMPLERS) == set(get_args(Sampling))
    assert len(set(SAMPLERS.values())) == len(SAMPLERS)


def test_the_strategies_that_follow_the_labels_are_known_by_name():
    """Labels of another place give other pixels, and a smaller object gives fewer."""
    rng = torch.rand(1, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    follows = set()
    for name in get_args(Sampling):
        rows = []
        for low, high in ((8, 20), (16, 24)):
            masks = square().long()[None, None].repeat(1, 2, 1, 1)
            masks[0, 1] = square(low=low, high=high).long()  # the first frame is the same
            clip = Clip(rng, masks, torch.ones(1, 1, dtype=torch.bool), (0,))
            rows.append(select_pixels(clip, name, width=1, max_pixels=1024, seed=0).rows)
        if not torch.equal(*rows):
            follows.add(name)
    assert follows == LABEL_SAMPLING


def square(size=32, low=8, high=20):
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[low:high, low:high] = True
    return mask


def brute_force_band(mask, width):
    """A pixel is on the band when a different pixel lies within width + 1 of a boundary pixel."""
    size = mask.shape[0]
    edge = torch.zeros_like(mask)
    for y in range(size):
        for x in range(size):
            window = mask[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            edge[y, x] = window.any() and not window.all()
    grown = torch.zeros_like(mask)
    for y, x in edge.nonzero().tolist():
        grown[max(0, y - width) : y + width + 1, max(0, x - width) : x + width + 1] = True
    return grown


def test_band_of_a_square_is_the_brute_force_band():
    mask = square()
    for width in (0, 1, 3):
        assert torch.equal(boundary_band(mask, width), brute_force_band(mask, width))


def test_band_of_a_full_or_an_empty_mask_is_empty():
    assert not boundary_band(torch.ones(3, 16, 16, dtype=torch.bool), 2).any()
    assert not boundary_band(torch.zeros(3, 16, 16, dtype=torch.bool), 2).any()


def test_object_masks_are_the_planes_of_the_ids():
    ids = torch.tensor([[0, 1], [2, 3]])
    planes = object_masks(ids, 2)
    assert planes.shape == (2, 2, 2)
    assert planes[0].tolist() == [[False, True], [False, False]]
    assert planes[1].tolist() == [[False, False], [True, False]]


def clip_of(masks, present, samples):
    b, t, h, w = masks.shape
    return Clip(torch.zeros(b, t, 3, h, w), masks, torch.tensor(present), samples)


def two_clips():
    masks = torch.zeros(2, 3, 64, 64, dtype=torch.int64)
    masks[:, :, 16:40, 16:40] = 1
    masks[1, :, 40:60, 40:60] = 2
    return clip_of(masks, [[True, False], [True, True]], (5, 6))


def test_every_row_of_a_boundary_item_lies_on_its_own_object_band():
    clip = two_clips()
    chosen = select_pixels(clip, "boundary", width=1, max_pixels=1000, seed=0)
    items = [(0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 0, 2), (1, 1, 1), (1, 1, 2)]
    assert len(chosen.counts) == len(items)
    for (b, t, obj), rows, labels in zip(
        items, chosen.rows.split(chosen.counts), chosen.labels.split(chosen.counts), strict=True
    ):
        small = clip.masks[b, t + 1, ::4, ::4] == obj
        offset = ((b * 2 + t) * 2 + obj - 1) * 256
        assert torch.equal(rows - offset, brute_force_band(small, 1).flatten().nonzero()[:, 0])
        assert torch.equal(labels.bool(), small.flatten()[rows - offset])


def test_random_has_as_many_rows_as_boundary_and_they_differ_by_sample():
    clip = two_clips()
    boundary = select_pixels(clip, "boundary", width=1, max_pixels=1000, seed=0)
    random = select_pixels(clip, "random", width=1, max_pixels=1000, seed=0)
    assert random.counts == boundary.counts
    first, second = random.rows.split(random.counts)[:2]
    assert not torch.equal(first, second - 2 * 256)
    assert random.logit_pixels.all()
    assert not boundary.logit_pixels.all()


@pytest.mark.parametrize("sampling", ["boundary", "random"])
def test_every_draw_is_seeded_by_seed_sample_frame_and_slot(sampling):
    clip = two_clips()
    cap = 20
    chosen = select_pixels(clip, sampling, width=1, max_pixels=cap, seed=7)
    items = iter(chosen.rows.split(chosen.counts))
    for b, t, n in ((0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)):
        small = clip.masks[b, t + 1, ::4, ::4] == n + 1
        pool = torch.arange(256)
        if sampling == "boundary":
            pool = brute_force_band(small, 1).flatten().nonzero()[:, 0]
        rng = generator(7, "pixels", clip.samples[b], t, n)
        drawn = pool[torch.randperm(len(pool), generator=rng)[:cap]].sort().values
        assert torch.equal(next(items) - ((b * 2 + t) * 2 + n) * 256, drawn)


@pytest.mark.parametrize("sampling", ["boundary", "random", "all"])
def test_the_pixels_of_the_logit_loss_are_chosen_apart_from_the_others(sampling):
    clip = two_clips()
    band = torch.stack(
        [
            torch.stack([brute_force_band(frame == n, 4) for n in (1, 2)]).any(0)
            for frame in clip.masks[:, 1:].flatten(0, 1)
        ]
    ).view(2, 2, 64, 64)
    expected = {"boundary": band, "all": torch.ones_like(band)}
    expected["same"] = expected["boundary" if sampling == "boundary" else "all"]
    for pixels in ("same", "boundary", "all"):
        chosen = select_pixels(clip, sampling, width=1, max_pixels=50, seed=0, logit_pixels=pixels)
        assert torch.equal(chosen.logit_pixels, expected[pixels])
        assert chosen.logit_items == 4


def test_the_cap_holds_for_boundary_and_random_and_never_for_all():
    clip = two_clips()
    for sampling in ("boundary", "random"):
        counts = select_pixels(clip, sampling, width=1, max_pixels=10, seed=0).counts
        assert set(counts) == {10}
    assert set(select_pixels(clip, "all", width=1, max_pixels=10, seed=0).counts) == {256}


def test_pixels_of_a_sample_do_not_depend_on_its_place_in_the_batch():
    clip = two_clips()
    alone = clip_of(clip.masks[1:], [[True, True]], (6,))
    both = select_pixels(clip, "random", width=1, max_pixels=20, seed=3)
    single = select_pixels(alone, "random", width=1, max_pixels=20, seed=3)
    shift = 2 * 2 * 256  # one clip: two frames, two slots
    assert torch.equal(both.rows.split(both.counts)[2] - shift, single.rows[:20])


def test_an_object_out_of_sight_makes_no_item():
    masks = torch.zeros(1, 3, 64, 64, dtype=torch.int64)
    masks[0, 0, 16:40, 16:40] = 1
    chosen = select_pixels(
        clip_of(masks, [[True]], (0,)), "boundary", width=1, max_pixels=10, seed=0
    )
    assert chosen.counts == ()
    assert len(chosen.rows) == len(chosen.labels) == 0


def with_ignored():
    """Two objects, with a quarter of the pixels of frame 1 ignored and all of frame 2."""
    masks = torch.zeros(1, 3, 32, 32, dtype=torch.int64)
    masks[0, :, 4:18, 4:18] = 1
    masks[0, :, 20:30, 14:28] = 2
    rng = torch.Generator().manual_seed(0)
    ignored = torch.rand(32, 32, generator=rng) < 0.25
    masks[0, 1][ignored] = IGNORED
    masks[0, 2] = IGNORED
    present = torch.ones(1, 2, dtype=torch.bool)
    return Clip(torch.rand(1, 3, 3, 32, 32), masks, present, (0,), labelled=False), ignored


@pytest.mark.parametrize("sampling", get_args(Sampling))
def test_labels_choose_no_ignored_pixel(sampling):
    clip, ignored = with_ignored()
    for read in (False, True):
        found = select_pixels(
            clip,
            sampling,
            width=1,
            max_pixels=1024,
            seed=0,
            logit_pixels="boundary",
            labels_read=read,
        )
        plane = torch.arange(2 * 2 * 64).reshape(2, 2, 8, 8)  # (T-1, N, h, w)
        unknown = torch.stack([ignored[::4, ::4], torch.ones(8, 8, dtype=torch.bool)])
        taken = torch.isin(plane, found.rows) & unknown[:, None]
        free = sampling == "all" and not read
        assert taken.any() == free
        assert len(found.counts) == (4 if free else 2)
        assert found.logit_items == 1
        assert found.logit_pixels[0, 0].any()
        assert not found.logit_pixels[0, 0][ignored].any()


def test_the_band_of_labels_with_holes_is_that_of_the_objects_that_they_show():
    clip, ignored = with_ignored()
    found = select_pixels(clip, "boundary", width=1, max_pixels=1024, seed=0)
    rows = []
    for n in (1, 2):
        shown = (clip.masks[0, 1] == n)[::4, ::4]
        band = brute_force_band(shown, 1) & ~ignored[::4, ::4]
        rows.append(band.flatten().nonzero().squeeze(1) + (n - 1) * 64)
    assert torch.equal(found.rows, torch.cat(rows))


def test_the_most_pixels_of_an_item_are_taken_of_those_with_a_label():
    clip, ignored = with_ignored()
    band = brute_force_band((clip.masks[0, 1] == 1)[::4, ::4], 1)
    known = int((band & ~ignored[::4, ::4]).sum())
    cap = known - 1
    assert cap < int(band.sum()) - 1
    found = select_pixels(clip, "boundary", width=1, max_pixels=cap, seed=0)
    assert found.counts[0] == cap
