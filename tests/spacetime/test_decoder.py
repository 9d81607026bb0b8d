import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from vosmodels.spacetime.decoder import ASPP, CBAM, Decoder, Fuser, ResBlock
from vosmodels.support.seeding import generator


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(0, "decoder", *shape))


def _decoder(aspp: ASPP | None = None) -> Decoder:
    return Decoder(32, (6, 10), (16, 12, 8), pred_kernel=1, aspp=aspp).eval()


def test_res_block_keeps_its_input_where_the_residual_is_zero():
    block = ResBlock(4, 4)
    for parameter in block.conv2.parameters():
        nn.init.zeros_(parameter)
    x = _normal(2, 4, 5, 6)
    torch.testing.assert_close(block(x), x)


def test_res_block_projects_the_unactivated_input_where_widths_differ():
    block = ResBlock(4, 6)
    for parameter in block.conv2.parameters():
        nn.init.zeros_(parameter)
    x = -_normal(2, 4, 5, 6).abs()  # a ReLU in front of the shortcut would erase it
    torch.testing.assert_close(block(x), block.downsample(x))
    assert block(x).abs().max() > 0.1


def test_cbam_equals_its_equations_in_numpy():
    cbam = CBAM(32)
    x = _normal(2, 32, 4, 5)
    with torch.no_grad():
        found = cbam(x)
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in cbam.ChannelGate.mlp.parameters())

    def mlp(v: np.ndarray) -> np.ndarray:
        return np.asarray(np.maximum(v @ w1.T + b1, 0) @ w2.T + b2)

    a = x.double().numpy()
    gate = 1 / (1 + np.exp(-(mlp(a.mean((2, 3))) + mlp(a.max((2, 3))))))
    a = a * gate[:, :, None, None]
    pooled = torch.from_numpy(np.stack([a.max(1), a.mean(1)], 1))
    with torch.no_grad():
        spatial = torch.sigmoid(cbam.SpatialGate.spatial(pooled.float())).numpy()
    torch.testing.assert_close(found, torch.from_numpy(a * spatial).float())


def test_fuser_depends_on_value_and_key():
    fuser = Fuser(12, 16)
    value, key = _normal(1, 4, 3, 3), _normal(1, 8, 3, 3)
    out = fuser(value, key)
    assert out.shape == (1, 16, 3, 3)
    assert not torch.allclose(out, fuser(value + 1, key))
    assert not torch.allclose(out, fuser(value, key + 1))


@pytest.mark.parametrize(
    ("channels", "width", "count"), [(256, 192, 1_673_600), (128, 144, 628_384)]
)
def test_aspp_has_the_parameters_of_the_budget(channels: int, width: int, count: int):
    aspp = ASPP(channels, width, (6, 12, 18))
    assert sum(p.numel() for p in aspp.parameters()) == count


def test_aspp_reaches_as_far_as_its_rates_and_the_image_mean_everywhere():
    aspp = ASPP(16, 8, (2,)).eval()
    x = _normal(1, 16, 9, 9).requires_grad_()
    aspp.branches[1](x)[0, :, 4, 4].sum().backward()
    assert x.grad is not None
    touched = x.grad.abs().sum((0, 1)).nonzero().tolist()
    assert touched == [[i, j] for i in (2, 4, 6) for j in (2, 4, 6)]
    y = x.detach().clone()
    y[..., 0, 0] += 10
    assert not torch.allclose(aspp(y)[..., 8, 8], aspp(x)[..., 8, 8])


def test_decoder_gives_logits_at_full_and_z_at_quarter_resolution():
    logits, z = _decoder()(_normal(2, 3, 32, 4, 5), _normal(2, 10, 8, 10), _normal(2, 6, 16, 20))
    assert logits.shape == (2, 3, 64, 80)
    assert z.shape == (2, 3, 8, 16, 20)


@pytest.mark.parametrize("aspp", [False, True])
def test_decoder_treats_every_object_as_if_it_were_alone(aspp: bool):
    decoder = _decoder(ASPP(32, 8, (1, 2)) if aspp else None)
    x, s8, s4 = _normal(2, 3, 32, 4, 5), _normal(2, 10, 8, 10), _normal(2, 6, 16, 20)
    logits, z = decoder(x, s8, s4)
    for n in range(3):
        alone_logits, alone_z = decoder(x[:, n : n + 1], s8, s4)
        torch.testing.assert_close(logits[:, n : n + 1], alone_logits)
        torch.testing.assert_close(z[:, n : n + 1], alone_z)


def test_decoder_treats_every_clip_as_if_it_were_alone():
    x, s8, s4 = _normal(2, 3, 32, 4, 5), _normal(2, 10, 8, 10), _normal(2, 6, 16, 20)
    decoder = _decoder()
    logits, z = decoder(x, s8, s4)
    alone_logits, alone_z = decoder(x[1:], s8[1:], s4[1:])
    torch.testing.assert_close(logits[1:], alone_logits)
    torch.testing.assert_close(z[1:], alone_z)


def test_z_is_what_the_prediction_sees_before_its_relu():
    decoder = _decoder()
    logits, z = decoder(_normal(1, 1, 32, 2, 2), _normal(1, 10, 4, 4), _normal(1, 6, 8, 8))
    assert z.min() < 0
    low = decoder.pred(functional.relu(z[:, 0]))
    up = functional.interpolate(low, scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits, up)
