"""Test where attentions look, from weights that are set by hand."""

from typing import cast

import numpy as np
import pytest
import torch

from tests.conformance.stand_in import StandIn, StandInConfig, StandInPropagator
from tests.model_tools import any_filled, aot_network, textured_frames
from vosmodels import registry
from vosmodels.aot.deformable import resample
from vosmodels.errors import InputError
from vosmodels.evaluation.attention_maps import Look, attentions_of, look, positions_of, spread_out
from vosmodels.types import Prediction, Watched

SIZE = (3, 5)  # positions of a frame of 33 x 65
POSITIONS = 15
FRAME = np.full((33, 65, 3), 128, dtype=np.uint8)


class Told(StandIn):
    """A model whose self-attention has given weights, and whose prediction is the first mask.

    follows: otherwise the prediction holds no object.
    """

    told: torch.Tensor

    def __init__(self, weights: torch.Tensor, follows: bool = True) -> None:
        super().__init__(StandInConfig())
        self.register_buffer("told", weights)
        self.follows = follows

    def propagator(self, *args, **options):
        return ToldPropagator(self)


class ToldPropagator(StandInPropagator):
    def predict(self, state, frame, *, watch=()):
        masks = state.masks[0] * cast(Told, self.model).follows
        named = dict.fromkeys(watch, cast(Told, self.model).told)
        watched = Watched(named, SIZE, range(1, state.objects + 1), ())
        return Prediction(torch.cat([1 - masks.sum(0, keepdim=True), masks]), None, [watched])


def ids(**boxes) -> torch.Tensor:
    """Ids of one object, or two."""
    drawn = torch.zeros(33, 65, dtype=torch.int64)
    drawn[8:25, 8:25] = 3  # the position (1, 1), in the middle of 3 x 5
    drawn[24:, 40:] = boxes.get("other", 0)
    return drawn


def told(weights: torch.Tensor, mask=None, **options) -> Look:
    steps = [(FRAME, ids() if mask is None else mask), (FRAME, None), (FRAME, None)]
    return look(Told(weights), steps, kinds=("self",), **options)[0]


def weights_by(own: list[float], other: list[float]) -> torch.Tensor:
    """Weights of the query (1, 1), and of all others."""
    weights = torch.tensor(other).expand(POSITIONS, POSITIONS).clone()
    weights[1 * 5 + 1] = torch.tensor(own)
    return weights


def spike(*keys: tuple[int, float]) -> list[float]:
    row = [0.0] * POSITIONS
    for key, weight in keys:
        row[key] = weight
    return row


def test_the_map_is_what_the_positions_of_the_object_look_at():
    found = told(weights_by(spike((7, 0.6), (8, 0.3), (14, 0.1)), spike((0, 1.0))))
    assert (found.frame, found.seen_frame, found.obj) == (2, 2, 3)
    assert np.nonzero(found.queries)[0].tolist() == [6]
    expected = np.zeros(SIZE, dtype=np.float32)
    expected[1, 2], expected[1, 3], expected[2, 4] = 1.0, 0.5, 1 / 6
    np.testing.assert_allclose(found.map, expected, atol=1e-6)


def test_key_points_have_more_than_85_hundredths_of_the_maximum():
    found = told(weights_by(spike((7, 0.5), (8, 0.43), (9, 0.42)), spike((0, 1.0))))
    assert [(x, y) for x, y, _ in found.key_points] == [(2, 1), (3, 1)]
    assert [value for *_, value in found.key_points] == pytest.approx([1.0, 0.86])


def test_the_top_keys_of_a_query_are_its_own_and_the_heaviest_come_first():
    found = told(weights_by(spike((7, 1.0)), spike((0, 0.2), (3, 0.5), (11, 0.3))))
    assert [key for key, _ in found.top_keys((4, 2), 2)] == [3, 11]
    assert [weight for _, weight in found.top_keys((4, 2), 2)] == pytest.approx([0.5, 0.3])
    assert found.top_keys((1, 1), 1) == [(7, 1.0)]
    assert len(found.top_keys((1, 1))) == POSITIONS  # fewer than 200


def test_heads_are_averaged():
    one = weights_by(spike((7, 1.0)), spike((0, 1.0)))
    two = weights_by(spike((8, 1.0)), spike((0, 1.0)))
    found = told(torch.cat([one, two]))
    assert [(x, y) for x, y, _ in found.key_points] == [(2, 1), (3, 1)]


def test_the_object_is_the_largest_unless_another_is_asked_for():
    weights = weights_by(spike((7, 1.0)), spike((2, 1.0)))
    mask = ids(other=9)
    assert (mask == 3).sum() > (mask == 9).sum()
    assert told(weights, mask).obj == 3
    other = told(weights, mask, obj=9)
    assert [(x, y) for x, y, _ in other.key_points] == [(2, 0)]
    with pytest.raises(InputError, match="object 4: not in the predicted mask, which holds 3, 9"):
        told(weights, mask, obj=4)


def test_a_query_is_chosen_where_the_object_looks_most():
    mask = torch.zeros(33, 65, dtype=torch.int64)
    mask[:, :40] = 1
    found = told(torch.tensor(spike((7, 0.7), (3, 1.0))).expand(POSITIONS, -1), mask)
    assert found.chosen == (2, 1)  # key 3 has more, and is none of the object's


def test_without_an_object_all_positions_are_the_queries():
    model = Told(torch.eye(POSITIONS), follows=False)
    (found,) = look(model, [(FRAME, ids()), (FRAME, None)], kinds=("self",))
    assert found.obj is None
    assert found.queries.all()
    np.testing.assert_allclose(found.received, np.full((1, POSITIONS), 1 / POSITIONS))


@pytest.mark.parametrize("size", [(3, 5), (2, 4), (1, 1)])
def test_an_objects_positions_are_those_with_half_of_their_pixels(size: tuple[int, int]):
    drawn = np.zeros((33, 65), dtype=np.uint8)
    drawn[5:22, 11:50] = 2
    counts = np.zeros((*size, 2))
    for y in range(33):
        for x in range(65):
            cell = round(y / 32 * (size[0] - 1)), round(x / 64 * (size[1] - 1))
            counts[cell] += drawn[y, x] == 2, 1
    share = counts[..., 0] / counts[..., 1]
    expected = share >= 0.5 if (share >= 0.5).any() else share == share.max()
    assert positions_of(drawn, 2, size).reshape(size).tolist() == expected.tolist()


def test_an_object_smaller_than_a_position_has_the_one_with_most_of_it():
    drawn = np.zeros((33, 65), dtype=np.uint8)
    drawn[30:33, 60:62] = 5
    assert np.nonzero(positions_of(drawn, 5, SIZE))[0].tolist() == [14]


def test_a_value_is_spread_as_the_gradient_of_the_sampling_says():
    rng = torch.Generator().manual_seed(0)
    offsets = torch.randn(1, 2, 2, *SIZE, generator=rng) * 1.5  # some outside the map
    values = torch.rand(POSITIONS, generator=rng)
    maps = torch.zeros(1, 2, *SIZE, requires_grad=True)  # a channel for each group
    (resample(maps, offsets).flatten(2) * values).sum().backward()
    y, x = np.divmod(np.arange(POSITIONS), SIZE[1])
    places = np.stack([x, y], 1) + offsets[0].flatten(2).permute(0, 2, 1).numpy()
    found = spread_out(values.numpy(), places.astype(np.float32), SIZE)
    assert maps.grad is not None
    np.testing.assert_allclose(found, maps.grad[0].mean(0).numpy(), atol=1e-6)


def test_pixels_and_positions_are_inverse():
    found = told(torch.eye(POSITIONS))
    assert found.pixel(0, 0) == (0, 0)
    assert found.pixel(4, 2) == (64, 32)
    for y in range(3):
        for x in range(5):
            assert found.nearest(*found.pixel(x, y)) == (x, y)
    assert found.nearest(41, 7) == (3, 0)


@pytest.mark.parametrize("name", ["aott", "deaott_deformable"])
def test_the_weights_of_a_long_memory_belong_to_the_frames_they_name(name: str):
    model = aot_network(name, mem_every=2)
    steps = [
        (frame.permute(1, 2, 0).mul(255).byte().numpy(), ids() if n == 0 else None)
        for n, frame in enumerate(textured_frames(6, 33, 65))
    ]
    own, long = look(model, steps)
    assert (own.kind, own.held, own.seen_frame) == ("self", (5,), 5)
    assert long.held == (0, 2, 4)
    assert long.weights.shape == (POSITIONS, 3, POSITIONS)
    np.testing.assert_allclose(long.weights.sum((1, 2)), 1, atol=1e-5)
    assert long.seen == long.weights[long.queries].mean(0).sum(1).argmax()
    whole = long.weights[7].reshape(-1)
    heaviest = [key % POSITIONS for key in np.argsort(-whole)[:9] if key // 15 == long.seen]
    assert [key for key, _ in long.top_keys((2, 1), 9)] == heaviest
    assert len(long.places) == (4 if name == "deaott_deformable" else 1)
    assert long.deformable == (name == "deaott_deformable")


def test_a_network_without_attention_is_refused_with_what_to_give():
    model = any_filled("mobilevos_mobilenetv2_noaspp")
    assert attentions_of(model.watchable) == ()
    with pytest.raises(InputError, match=r"has no self attention .*there is none: give .* AOT"):
        look(model, [(FRAME, ids()), (FRAME, None)], kinds=("self",))


def test_a_stand_in_has_self_attention_alone_and_aot_both():
    assert attentions_of(StandIn(StandInConfig()).watchable) == ("self",)
    assert attentions_of(registry.outline("aott").watchable) == ("self", "long")


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"self\.weights\.2.*there are"):
        told(torch.eye(POSITIONS), layer=2)


@pytest.mark.parametrize("count", [0, 1])
def test_the_first_frame_has_no_attention_to_show(count: int):
    with pytest.raises(InputError, match=f"a video of {count} frame"):
        look(Told(torch.eye(POSITIONS)), [(FRAME, ids())] * count, kinds=("self",))
