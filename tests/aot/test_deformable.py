from typing import Any

import pytest
import torch
from torch import Tensor

from vosmodels.aot.deformable import OffsetNetwork, locations, resample, resample_frames
from vosmodels.support.seeding import generator


def _map(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    rng = generator(0, "deformable", *shape)
    return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)


def _offsets(b: int, s: int, h: int, w: int) -> Tensor:
    """Some inside, some across the border, some far outside; none whole."""
    offsets = 2.3 * _map(b, s, 2, h, w)
    offsets[0, 0, :, 0, 0] = torch.tensor([-0.4, -0.7])
    offsets[0, 0, :, h - 1, w - 1] = torch.tensor([0.6, 0.3])
    offsets[0, -1, :, 0, w - 1] = torch.tensor([-40.2, 1.5])
    return offsets


def _by_loops(x: Tensor, offsets: Tensor) -> Tensor:
    """Equations 3 and 4: for every position a sum over all pixels of the map."""
    (b, c, h, w), s = x.shape, offsets.shape[1]
    out = []
    for n in range(b):
        for channel in range(c):
            group = channel // (c // s)
            for ry in range(h):
                for rx in range(w):
                    px = rx + offsets[n, group, 0, ry, rx]
                    py = ry + offsets[n, group, 1, ry, rx]
                    total = x.new_zeros(())
                    for qy in range(h):
                        for qx in range(w):
                            weight = (1 - (px - qx).abs()).clamp_min(0)
                            weight = weight * (1 - (py - qy).abs()).clamp_min(0)
                            total = total + weight * x[n, channel, qy, qx]
                    out.append(total)
    return torch.stack(out).view(b, c, h, w)


@pytest.mark.parametrize("size", [(3, 4), (4, 3), (1, 3), (2, 1)])
def test_resampling_is_equations_3_and_4_with_their_gradients(size: tuple[int, int]):
    x = _map(1, 4, *size).requires_grad_()
    offsets = _offsets(1, 2, *size).requires_grad_()
    ours, plain = resample(x, offsets), _by_loops(x, offsets)
    torch.testing.assert_close(ours, plain)
    upstream = _map(*plain.shape, 1)[..., 0]
    gradients = [torch.autograd.grad(y, [x, offsets], upstream) for y in (ours, plain)]
    torch.testing.assert_close(*gradients)


def test_gradients_are_those_of_finite_differences():
    x = _map(2, 4, 3, 4).requires_grad_()
    offsets = _offsets(2, 2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(resample, (x, offsets))


@pytest.mark.parametrize("size", [(31, 54), (30, 57), (30, 30), (9, 9), (1, 2), (300, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_offsets_of_zero_give_the_map_to_the_bit(size: tuple[int, int], dtype: torch.dtype):
    x = _map(2, 8, *size, dtype=dtype)
    assert torch.equal(resample(x, torch.zeros(2, 4, 2, *size)), x)


def test_whole_offsets_move_the_map_and_leave_zeros():
    x = _map(1, 2, 5, 6, dtype=torch.float32)
    offsets = torch.zeros(1, 1, 2, 5, 6)
    offsets[:, :, 0], offsets[:, :, 1] = 2, -1  # each reads 2 to its right, 1 above
    expected = torch.zeros_like(x)
    expected[:, :, 1:, :4] = x[:, :, :4, 2:]
    assert torch.equal(resample(x, offsets), expected)


def test_a_group_moves_its_own_channels_alone():
    x = _map(1, 8, 4, 4)
    offsets = torch.zeros(1, 4, 2, 4, 4, dtype=torch.float64)
    offsets[:, 2] = 0.5
    changed = (resample(x, offsets) != x).flatten(2).any(2)
    assert changed[0].tolist() == [False] * 4 + [True] * 2 + [False] * 2


def test_frames_share_the_offsets():
    frames, offsets = _map(2, 3, 8, 4, 5), _offsets(2, 4, 4, 5)
    alone = [resample(frames[:, t], offsets) for t in range(3)]
    torch.testing.assert_close(resample_frames(frames, offsets), torch.stack(alone, 1))


def test_locations_are_positions_plus_offsets():
    points = locations(torch.full((1, 2, 2, 3, 4), 0.25))
    assert points.shape == (1, 2, 2, 3, 4)
    assert points[0, 1, :, 2, 3].tolist() == [3.25, 2.25]  # x, y of the last column and row


def test_points_of_bfloat16_offsets_are_in_float32():
    offsets = torch.zeros(1, 1, 2, 1, 300, dtype=torch.bfloat16)
    assert locations(offsets)[0, 0, 0, 0].tolist() == list(range(300))  # 8 bits end at 256


def test_autocast_does_not_round_points():
    x, offsets = _map(1, 4, 9, 20, dtype=torch.float32), _offsets(1, 2, 9, 20).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = resample(x, offsets)
    torch.testing.assert_close(out, resample(x, offsets), atol=0, rtol=0)


def test_half_precision_maps_keep_their_type():
    x = _map(1, 4, 5, 6, dtype=torch.bfloat16).requires_grad_()
    offsets = _offsets(1, 2, 5, 6).to(torch.bfloat16).requires_grad_()
    out = resample(x, offsets)
    exact = resample(x.float(), offsets.float())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, exact.to(torch.bfloat16), atol=0, rtol=0)
    out.float().sum().backward()
    assert x.grad is not None and offsets.grad is not None
    assert offsets.grad.abs().sum() > 0


def test_a_new_network_finds_no_offsets_but_learns():
    network = OffsetNetwork(32, groups=2)
    offsets = network(_map(3, 32, 4, 5, dtype=torch.float32))
    assert offsets.shape == (3, 2, 2, 4, 5)
    assert not offsets.any()
    resample(_map(3, 6, 4, 5, dtype=torch.float32), offsets).square().sum().backward()
    for parameter in network.out.parameters():
        assert parameter.grad is not None and parameter.grad.abs().min() > 0


def test_the_network_is_its_equation_on_each_group():
    torch.manual_seed(0)
    network = OffsetNetwork(32, groups=4).double()
    for parameter in network.out.parameters():
        torch.nn.init.normal_(parameter)
    query = _map(2, 32, 6, 7)
    offsets = network(query)
    weight, bias = network.local.parameters()  # (8, 2, 5, 5), (8,)
    out_weight, out_bias = network.out.parameters()
    y, x = 2, 3  # the 5x5 window around it lies inside
    for b in range(2):
        for i in range(4):
            window = query[b, 8 * i : 8 * i + 8, y - 2 : y + 3, x - 2 : x + 3]
            hidden = [
                (weight[o] * window[o // 2 * 2 : o // 2 * 2 + 2]).sum() + bias[o] for o in range(8)
            ]
            hidden = [0.5 * v * (1 + torch.erf(v / 2**0.5)) for v in hidden]
            expected = out_weight[:, :, 0, 0] @ torch.stack(hidden) + out_bias
            torch.testing.assert_close(offsets[b, i, :, y, x], expected)


def test_the_network_of_the_paper_has_102_786_parameters():
    # 128 * 32 * 5 * 5 + 128 of the 5x5 convolution in 4 groups, 128 * 2 + 2 of the 1x1
    with torch.device("meta"):
        network = OffsetNetwork()
    assert sum(p.numel() for p in network.parameters()) == 102_786


def test_resampling_traces_without_numbers():
    frames = torch.empty(2, 3, 8, 31, 54, device="meta", requires_grad=True)
    offsets = torch.empty(2, 4, 2, 31, 54, device="meta", requires_grad=True)
    out = resample_frames(frames, offsets)
    out.sum().backward()
    assert out.shape == frames.shape
    assert offsets.grad is not None and offsets.grad.shape == offsets.shape


@pytest.mark.parametrize(
    ("frames", "offsets", "message"),
    [
        ((1, 2, 8, 3, 4), (1, 4, 2, 4, 3), r"\(1, 4, 2, 4, 3\).*must be \(1, 4, 2, 3, 4\)"),
        ((1, 2, 6, 3, 4), (1, 4, 2, 3, 4), r"\(1, 6, 3, 4\).*C a multiple of the 4 groups"),
        ((1, 2, 8, 3, 4), (4, 2, 3, 4), r"offsets \(4, 2, 3, 4\); must be \(B, T, C"),
    ],
)
def test_shapes_that_do_not_match_are_refused(frames: Any, offsets: Any, message: str):
    with pytest.raises(ValueError, match=message):
        resample_frames(torch.zeros(frames), torch.zeros(offsets))


def test_widths_that_cannot_be_divided_are_refused():
    with pytest.raises(ValueError, match=r"channels 24, groups 4; .* multiple of groups\^2"):
        OffsetNetwork(24, groups=4)
    with pytest.raises(ValueError, match=r"query \(1, 16, 2, 2\); must be \(B, 32, H, W\)"):
        OffsetNetwork(32)(torch.zeros(1, 16, 2, 2))
