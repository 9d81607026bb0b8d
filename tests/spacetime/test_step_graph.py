"""Test the two graphs' own arithmetic against the functions that training and inference use."""

import pytest
import torch

from tests.model_tools import textured_frames
from vosmodels.spacetime.memory import affinity, compete, readout
from vosmodels.spacetime.step_graph import LIMIT, competing, read_slots, rows_of
from vosmodels.support.seeding import generator
from vosmodels.types import HIDDEN


@pytest.mark.parametrize("objects", [1, 2, 5])
def test_logits_compete_as_their_sigmoids_do(objects):
    logits = 6 * torch.randn(1, objects, 9, 7, generator=generator(0, "logits"))
    p = logits.double().clamp(-LIMIT, LIMIT).sigmoid()
    p = torch.cat([(1 - p).prod(1, keepdim=True), p], 1)
    odds = p / (1 - p)
    expected = (odds / odds.sum(1, keepdim=True)).float()
    torch.testing.assert_close(competing(logits), expected, atol=1e-5, rtol=1e-4)
    near = (logits / 3).sigmoid()
    torch.testing.assert_close(competing(logits / 3), compete(near), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("objects", [1, 3])
def test_certain_maps_compete_as_given_masks_do(objects):
    ids = torch.randint(0, objects + 1, (1, 1, 9, 7), generator=generator(0, "ids"))
    maps = (ids == torch.arange(1, objects + 1).view(1, -1, 1, 1)).float()
    torch.testing.assert_close(competing((2 * maps - 1) * LIMIT), compete(maps), atol=1e-6, rtol=0)


@pytest.mark.parametrize("objects", [1, 3])
def test_no_number_of_the_competition_is_beyond_what_halves_hold(objects):
    far = torch.tensor([-1e4, -20.0, 0.0, 20.0, 1e4])
    logits = far.view(1, 1, 1, 5).repeat(1, objects, 1, 1)
    for kind in (torch.float32, torch.float16):
        probabilities = competing(logits.to(kind))
        assert probabilities.isfinite().all()
        torch.testing.assert_close(
            probabilities.sum(1).float(), torch.ones(1, 1, 5), atol=2e-3, rtol=0
        )


@pytest.mark.parametrize("top_k", [None, 4, 9])
def test_each_slot_reads_the_frames_that_its_bias_leaves_and_no_others(top_k):
    rng = generator(0, "memory")
    query = torch.randn(1, 8, 2, 3, generator=rng)
    keys = torch.randn(3, 4, 8, 2, 3, generator=rng)  # N, T, C_k, h, w
    values = torch.randn(3, 4, 5, 2, 3, generator=rng)
    heard = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 1], [1, 1, 1, 1]], dtype=torch.bool)
    read = read_slots(
        rows_of(query)[0],
        keys.flatten(3).transpose(2, 3),
        values.flatten(3).transpose(2, 3),
        torch.where(heard, 0.0, HIDDEN),
        top_k,
    )
    for slot, frames in enumerate(heard):
        key = keys[slot, frames].transpose(0, 1)[None]
        value = values[slot, frames].transpose(0, 1)[None, None]
        expected = readout(affinity(key, query, top_k), value)[0, 0]
        torch.testing.assert_close(read[slot], expected.flatten(1).T, atol=1e-5, rtol=1e-5)


def test_rows_are_positions_row_by_row():
    maps = textured_frames(1, 2, 3)
    assert torch.equal(rows_of(maps)[0, 4], maps[0, :, 1, 1])
