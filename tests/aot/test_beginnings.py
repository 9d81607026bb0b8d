"""Test the weights that AOT and DeAOT are trained from scratch with."""

import pytest
import torch

from vosmodels import registry
from vosmodels.aot.attention import Gated
from vosmodels.aot.network import AOTNetwork
from vosmodels.aot.propagation import Watch
from vosmodels.support.seeding import generator

FAMILIES = ["aott", "deaott", "deaott_deformable"]


def begun(name: str, start: str = "identities") -> AOTNetwork:
    model = registry.build(name, seed=0, start=start)
    assert isinstance(model, AOTNetwork)
    return model.eval()


def pair(name: str) -> tuple[AOTNetwork, AOTNetwork]:
    return begun(name, "public"), begun(name)


@pytest.mark.parametrize(("name", "variance"), [("aott", 9), ("deaott", 1)])
def test_a_patch_of_one_identity_has_an_embedding_of_its_variance(name: str, variance: int):
    bank = begun(name).patch_wise_id_bank
    whole = bank.weight.sum((2, 3))  # (width, ids): what a patch full of one identity gives
    assert (whole.var(0) / variance - 1).abs().max() < 0.4
    assert bank.bias is not None and bank.bias.count_nonzero() == 0


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_swapped_identities_in_memory_change_what_is_read(name: str):
    """Tokens with features of their own meet themselves in the memory, under two identities."""
    changed = []
    for model in pair(name):
        features = torch.randn(1, 49, 256, generator=generator(0, "tokens"))
        ids = torch.zeros(2, 1, 11, 97, 97)
        ids[0, :, 1, :, :48], ids[0, :, 2, :, 48:] = 1, 1
        ids[1, :, 2, :, :48], ids[1, :, 1, :, 48:] = 1, 1
        first, swapped = (read(model, features, model.embed(one)) for one in ids)
        changed.append(((first - swapped).std() / first.std()).item())
    public, ours = changed
    assert ours > 0.3 > 5 * public, changed


def read(model, features, embedding):
    _, frames = model.LSTT(features, None, None, embedding, (7, 7), Watch())
    memory = model.remember(frames, embedding)
    return model.LSTT(features, memory, memory, None, (7, 7), Watch())[0][0]


@pytest.mark.parametrize("name", FAMILIES)
def test_other_weights_are_as_public_code_draws_them(name: str):
    public, ours = (dict(model.named_parameters()) for model in pair(name))
    changed = {key for key in ours if not torch.equal(ours[key], public[key])}
    assert {key.split(".")[0] for key in changed} == {"LSTT", "decoder", "patch_wise_id_bank"}
    for key in changed:
        if "adapter" in key:
            assert torch.allclose(ours[key], public[key] / 10)
        elif key.startswith("decoder"):  # AOT's first 256 channels are the encoder's
            assert key == "decoder.conv_in.conv.weight" and name == "aott"
            assert torch.allclose(ours[key][:, :256], public[key][:, :256] / 10)
            assert torch.equal(ours[key][:, 256:], public[key][:, 256:])
        elif key.startswith("LSTT"):
            assert any(part in key for part in ("linear_Q", "dw_conv")), key


def test_a_depth_wise_convolution_lets_values_pass():
    attention = begun("deaott").get_submodule("LSTT.layers.0.long_term_attn")
    assert isinstance(attention, Gated)
    tokens = torch.randn(2, 12, 1024, generator=generator(0, "tokens"))
    assert torch.equal(attention.dw_conv(tokens, (3, 4)), tokens)
