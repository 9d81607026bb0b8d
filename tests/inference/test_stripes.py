import pytest
import torch
from torch import Tensor, nn

from vosmodels.inference import stripes
from vosmodels.inference.stripes import Stripes
from vosmodels.support.seeding import generator


def _chain(residual: bool) -> list[nn.Module]:
    """Expand, depthwise over neighbours, project: to half the size, or a shortcut's."""
    torch.manual_seed(0)
    return [
        nn.Conv2d(4, 12, 1),
        nn.ReLU6(),
        nn.Conv2d(12, 12, 3, stride=1 if residual else 2, padding=1, groups=12),
        nn.ReLU6(),
        nn.Conv2d(12, 4, 1),
    ]


def _whole(layers: list[nn.Module], x: Tensor, residual: bool) -> Tensor:
    out = x
    for layer in layers:
        out = layer(out)
    return out + x if residual else out


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("height", [1, 7, 32, 33])
@pytest.mark.parametrize("stripe", [1, 3000, 10**9])
def test_stripes_of_any_height_give_what_the_whole_map_gives(
    monkeypatch: pytest.MonkeyPatch, stripe: int, height: int, residual: bool
):
    monkeypatch.setattr(stripes, "SMALL_BYTES", 0)
    monkeypatch.setattr(stripes, "STRIPE_BYTES", stripe)
    layers = _chain(residual)
    x = torch.randn(2, 4, height, 10, generator=generator(0, "stripes"))
    torch.testing.assert_close(
        Stripes(layers, residual=residual)(x), _whole(layers, x, residual), atol=1e-5, rtol=1e-5
    )


def test_a_stem_with_pooling_runs_in_stripes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stripes, "SMALL_BYTES", 0)
    monkeypatch.setattr(stripes, "STRIPE_BYTES", 2000)
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    x = torch.randn(1, 3, 45, 30)
    torch.testing.assert_close(Stripes(layers)(x), _whole(layers, x, False), atol=1e-5, rtol=1e-5)


def test_only_a_few_rows_are_between_two_layers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stripes, "SMALL_BYTES", 0)
    monkeypatch.setattr(stripes, "STRIPE_BYTES", 12 * 10 * 4 * 4)  # four rows of the widest map
    layers = _chain(residual=False)
    seen: list[int] = []
    layers[1].register_forward_hook(lambda module, args, out: seen.append(out.shape[2]))
    Stripes(layers)(torch.randn(1, 4, 64, 10))
    assert len(seen) > 8
    assert max(seen) <= 12
