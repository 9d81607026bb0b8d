import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vosmodels.aot import local_attention as module
from vosmodels.aot.local_attention import local_attention
from vosmodels.support.live_bytes import LiveBytes
from vosmodels.support.seeding import generator

SIZES = [(4, 7), (7, 4), (5, 5), (1, 6), (2, 3)]  # rows, columns
AOT: dict[str, Any] = {"heads": 8, "width": 32, "values": 32}
DEAOT: dict[str, Any] = {"heads": 1, "width": 128, "values": 1024}


@pytest.fixture(autouse=True, params=["bands", "whole"])
def _form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of computing a small map: windows in bands, or all products."""
    monkeypatch.setattr(module, "SMALL", 0 if request.param == "bands" else 400)


def _inputs(
    size: tuple[int, int],
    radius: int,
    *,
    heads: int = 2,
    width: int = 3,
    values: int = 5,
    batch: int = 2,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
) -> dict[str, Any]:
    rng = generator(0, "local attention", *size, radius)

    def normal(*shape: int) -> Tensor:
        if device == "meta":
            return torch.empty(shape, device=device)
        return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)

    places, window = size[0] * size[1], (2 * radius + 1) ** 2
    return {
        "query": normal(batch, heads, places, width) * width**-0.5,
        "key": normal(batch, heads, places, width),
        "value": normal(batch, heads, places, values),
        "bias": normal(batch, heads, places, window),
        "value_bias": normal(heads, window, values),
    }


def _by_loops(inputs: dict[str, Any], size: tuple[int, int], radius: int) -> np.ndarray:
    """The formula for one position after another."""
    q, k, v, bias, value_bias = (x.numpy() for x in inputs.values())
    (rows, columns), side = size, 2 * radius + 1
    out: np.ndarray = np.zeros_like(v)
    for b, m, y, x in np.ndindex(*q.shape[:2], rows, columns):
        here = y * columns + x
        scores, values = [], []
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                if 0 <= y + dy < rows and 0 <= x + dx < columns:
                    there = (y + dy) * columns + x + dx
                    w = (dy + radius) * side + dx + radius
                    scores.append(q[b, m, here] @ k[b, m, there] + bias[b, m, here, w])
                    values.append(v[b, m, there] + value_bias[m, w])
        weights = np.exp(scores) / np.exp(scores).sum()
        out[b, m, here] = weights @ np.array(values)
    return out


def _by_unfold(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    value_bias: Tensor | None,
    *,
    size: tuple[int, int],
    radius: int,
) -> tuple[Tensor, Tensor]:
    """The plain form: the keys and values of every window gathered by unfold."""
    side = 2 * radius + 1

    def gathered(x: Tensor) -> Tensor:
        grid = x.transpose(2, 3).unflatten(3, size).flatten(0, 1)  # (BM, C, H, W)
        windows = functional.unfold(grid, side, padding=radius)
        return windows.view(*x.shape[:2], x.shape[3], side**2, -1)  # (B, M, C, window, HW)

    inside = gathered(torch.ones_like(key[..., :1]))[:, :, 0].transpose(2, 3) > 0
    scores = torch.einsum("bmnd,bmdwn->bmnw", query, gathered(key)) + bias
    weights = scores.masked_fill(~inside, -1e30).softmax(3)
    out = torch.einsum("bmnw,bmcwn->bmnc", weights, gathered(value))
    if value_bias is not None:
        out = out + torch.einsum("bmnw,mwc->bmnc", weights, value_bias)
    return out, weights


@pytest.mark.parametrize("radius", [0, 1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_attention_is_the_formula_by_loops(size: tuple[int, int], radius: int):
    inputs = _inputs(size, radius)
    out = local_attention(**inputs, size=size, radius=radius)
    torch.testing.assert_close(out, torch.from_numpy(_by_loops(inputs, size, radius)))


@pytest.mark.parametrize("band", [1, 20, 9999])  # queries
@pytest.mark.parametrize("size", [(11, 17), (18, 9), (3, 4)])
def test_values_and_gradients_are_those_of_the_plain_gather(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], band: int
):
    monkeypatch.setitem(module.BAND, "cpu", band)
    inputs = {name: x.requires_grad_() for name, x in _inputs(size, 3).items()}
    ours = local_attention(**inputs, size=size, radius=3, want_weights=True)
    plain = _by_unfold(**inputs, size=size, radius=3)
    torch.testing.assert_close(ours, plain)
    rng = generator(1, "upstream")
    upstream = [torch.randn(x.shape, generator=rng, dtype=x.dtype) for x in plain]
    gradients = [torch.autograd.grad(x, [*inputs.values()], upstream) for x in (ours, plain)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("size", [(9, 9), (9, 20), (20, 9)])
def test_the_window_of_aot_equals_the_plain_gather_without_value_bias(size: tuple[int, int]):
    inputs = _inputs(size, 7) | {"value_bias": None}
    with torch.no_grad():
        out = local_attention(**inputs, size=size)
    torch.testing.assert_close(out, _by_unfold(**inputs, size=size, radius=7)[0])


def test_weights_sum_to_one_and_are_zero_outside_of_the_map():
    inputs = _inputs((4, 5), 2)
    _, weights = local_attention(**inputs, size=(4, 5), radius=2, want_weights=True)
    torch.testing.assert_close(weights.sum(3), torch.ones(2, 2, 20, dtype=torch.float64))
    corner = weights[0, 0, 0].view(5, 5)
    assert (corner[2:, 2:] > 0).all()
    assert corner[:2].count_nonzero() == corner[:, :2].count_nonzero() == 0


def test_other_positions_of_a_window_do_not_matter():
    size, radius = (6, 9), 1
    inputs = _inputs(size, radius)
    before = local_attention(**inputs, size=size, radius=radius)
    inputs["value"][:, :, 9 * 2 + 8] += 1e3  # at the end of row 2
    moved = (local_attention(**inputs, size=size, radius=radius) - before).abs().amax((0, 1, 3))
    rows, columns = moved.view(size).nonzero().T.tolist()
    assert set(zip(rows, columns, strict=True)) == {(y, x) for y in (1, 2, 3) for x in (7, 8)}


def test_gradients_that_nothing_needs_are_not_computed(monkeypatch: pytest.MonkeyPatch):
    inputs = _inputs((4, 4), 1)
    inputs["query"].requires_grad_()
    monkeypatch.delattr(module, "window_spread")  # computes those of keys and values
    local_attention(**inputs, size=(4, 4), radius=1).sum().backward()
    assert inputs["query"].grad.any()


def test_scores_beyond_the_range_of_exp_give_finite_weights():
    inputs = _inputs((5, 6), 2, dtype=torch.float32)
    inputs["key"] *= 1e4
    inputs = {name: x.requires_grad_() for name, x in inputs.items()}
    out = local_attention(**inputs, size=(5, 6), radius=2)
    out.sum().backward()
    assert out.isfinite().all()
    assert all(x.grad.isfinite().all() for x in inputs.values())


def test_autocast_multiplies_in_bfloat16_near_the_exact_result():
    inputs = _inputs((6, 8), 2, width=16, dtype=torch.float32)
    exact, exact_weights = local_attention(**inputs, size=(6, 8), radius=2, want_weights=True)
    inputs = {name: x.requires_grad_() for name, x in inputs.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, weights = local_attention(**inputs, size=(6, 8), radius=2, want_weights=True)
    assert out.dtype == weights.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), exact, atol=0.05, rtol=0.05)
    torch.testing.assert_close(weights.float(), exact_weights, atol=0.01, rtol=0.05)
    out.float().sum().backward()
    assert {x.grad.dtype for x in inputs.values()} == {torch.float32}


def test_scores_of_bfloat16_are_summed_in_float32():
    one = torch.ones(1, 1, 9, 1, dtype=torch.bfloat16)
    bias = torch.zeros(1, 1, 9, 9, dtype=torch.bfloat16)
    bias[..., 4] = 1  # of the position itself; 256 + 1 is 256 in bfloat16
    _, weights = local_attention(
        one * 256, one, one, bias, size=(3, 3), radius=1, want_weights=True
    )
    own = torch.tensor(math.e / (math.e + 8)).to(torch.bfloat16)
    assert weights[0, 0, 4, 4] == own


@pytest.mark.parametrize("kind", [AOT, DEAOT], ids=["aot", "deaot"])
@pytest.mark.parametrize("learns", [False, True], ids=["forward", "and_backward"])
def test_memory_is_a_tenth_of_the_gathered_windows(kind: dict[str, Any], learns: bool):
    size = (31, 54)
    inputs = {
        name: x.requires_grad_(learns)
        for name, x in _inputs(size, 7, batch=1, device="meta", **kind).items()
    }
    channel = 225 * 31 * 54 * kind["heads"] * 4  # bytes
    peaks = []
    for attend in (local_attention, _by_unfold):
        with torch.set_grad_enabled(learns), LiveBytes() as live:
            out = attend(**inputs, size=size, radius=7)
            out = out if isinstance(out, Tensor) else out[0]
            if learns:
                out.backward(torch.empty_like(out))
        assert out.shape == inputs["value"].shape
        peaks.append(live.peak)
    ours, plain = peaks
    # The count sees a gather; without gradients that of the keys is free before the values'.
    assert plain > channel * (kind["values"] + learns * kind["width"])
    assert ours < channel * (kind["values"] + kind["width"]) / 10


def test_an_exported_program_gives_the_same():
    class Attention(torch.nn.Module):
        def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
            return local_attention(query, key, value, bias, size=(3, 5), radius=1)

    inputs = tuple(_inputs((3, 5), 1, dtype=torch.float32).values())[:4]
    with torch.no_grad():
        program = torch.export.export(Attention(), inputs).module()
        torch.testing.assert_close(program(*inputs), Attention()(*inputs))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (5, 4)}, r"size \(5, 4\), radius 1; must be H \* W = 12"),
        ({"key": torch.zeros(2, 2, 12, 4)}, r"'key': \(2, 2, 12, 3\)"),
        ({"value": torch.zeros(2, 1, 12, 5)}, r"'value': \(2, 2, 12, 5\)"),
        ({"bias": torch.zeros(2, 2, 12, 25)}, r"'bias': \(2, 2, 12, 9\)"),
        ({"query": torch.zeros(2, 12, 3)}, r"query \(2, 12, 3\).* each must be \(B, M, HW"),
        ({"value_bias": torch.zeros(2, 5, 9)}, r"value_bias \(2, 5, 9\); must be \(2, 9, 5\)"),
    ],
)
def test_shapes_that_do_not_match_are_refused(change: dict[str, Any], message: str):
    arguments = {**_inputs((3, 4), 1), "size": (3, 4), "radius": 1} | change
    with pytest.raises(ValueError, match=message):
        local_attention(**arguments)
