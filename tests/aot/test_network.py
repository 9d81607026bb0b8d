"""Test what AOT and DeAOT promise beyond the suite of every family."""

from dataclasses import replace

import pytest
import torch

from tests.model_tools import any_filled, aot_network, textured_frames
from vosmodels import registry
from vosmodels.aot.deformable import OffsetNetwork
from vosmodels.types import IGNORED, REFERENCE_LOGITS, Clip

TOTALS = {  # public models, of their authors' table
    "aott": 5_734_099,
    "deaott": 7_238_188,
    "deaotl": 13_167_342,
    "r50_aotl": 14_909_923,
    "r50_deaotl": 19_814_894,
}
SIZES = {  # layers -> parameters: S and B
    "aott": {2: 6_998_235, 3: 8_262_371},
    "deaott": {2: 10_202_765, 3: 13_167_342},
}
UNTRAINED = {"mobilenet_v2": 14_576, "resnet50": 222_400}  # stem and the stage of stride 4


SIDE, TOKENS = 33, 9  # px; positions at stride 16


def clip(*, clips: int = 1, frames: int = 3, slots: int = 2) -> Clip:
    """Squares at rest; of several clips the last has no second object."""
    masks = torch.zeros(clips, frames, SIDE, SIDE, dtype=torch.int64)
    masks[:, :, 2:16, 2:16] = 1
    present = torch.ones(clips, slots, dtype=torch.bool)
    if slots > 1:
        masks[:, :, 18:30, 16:32] = 2
    if clips > 1:
        masks[-1][masks[-1] == 2] = 0
        present[-1, 1:] = False
    images = textured_frames(clips * frames, SIDE, SIDE).view(clips, frames, 3, SIDE, SIDE)
    return Clip(images, masks, present, tuple(range(clips)))


@pytest.mark.parametrize("name", TOTALS)
def test_the_public_models_have_their_public_number_of_parameters(name: str):
    model = registry.outline(name)
    assert sum(p.numel() for p in model.parameters()) == TOTALS[name]
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert frozen == UNTRAINED[model.config.model_dump()["backbone"]]


@pytest.mark.parametrize(("name", "layers"), [(n, k) for n in SIZES for k in SIZES[n]])
def test_more_layers_make_the_public_s_and_b(name: str, layers: int):
    model = registry.outline(name, layers=layers)
    assert sum(p.numel() for p in model.parameters()) == SIZES[name][layers]


def test_a_clip_gives_logits_of_its_slots_and_z_that_all_objects_share():
    model = aot_network("deaott")
    with torch.no_grad():
        output = model(clip())
    assert output.logits.shape == (1, 2, 3, SIDE, SIDE)
    assert output.z is not None
    assert output.z.shape == (1, 2, 2, 128, 9, 9)
    assert torch.equal(output.z[:, :, 0], output.z[:, :, 1])
    assert output.z.stride(2) == 0  # one map, which every object sees
    assert model.z_channels == 128


def test_a_slot_without_an_object_has_no_probability():
    model = aot_network("aott")
    given = clip(clips=2)
    assert not given.present[-1, 1]
    with torch.no_grad():
        probabilities = model(given).logits.softmax(2)
    assert probabilities[-1, :, 2].max() == 0
    assert probabilities[0, :, 2].max() > 0


@pytest.mark.parametrize("name", ["aott", "deaott"])
def test_which_identities_objects_take_in_training_is_drawn(name: str):
    model = aot_network(name, droppath=0.0, **({"dropout": 0.0} if name == "deaott" else {}))
    still = model(clip()).logits
    model.train()
    torch.manual_seed(0)
    drawn = model(clip()).logits
    torch.manual_seed(0)
    again = model(clip()).logits
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, still)


def test_identities_do_not_matter_where_the_bank_knows_them_alike():
    """With equal columns of bank and head, whichever identities are drawn give the same logits."""
    model = aot_network("deaott", droppath=0.0, dropout=0.0)
    with torch.no_grad():
        bank, head = model.patch_wise_id_bank.weight, model.decoder.conv_out
        bank[:, 1:] = bank[:, 1:2]
        for parameter in head.parameters():
            parameter[1:] = parameter[1:2]
        still = model(clip(slots=1)).logits
        model.train()
        for seed in range(3):
            torch.manual_seed(seed)
            torch.testing.assert_close(model(clip(slots=1)).logits, still)


@pytest.mark.parametrize("name", ["aott_deformable", "deaott_deformable"])
def test_a_new_deformable_model_answers_as_the_vanilla_one_with_its_weights(name: str):
    vanilla = registry.build(name.removesuffix("_deformable"), seed=0)
    deformable = registry.build(name, seed=1)
    known = vanilla.state_dict()
    left = deformable.load_state_dict(known, strict=False)
    assert left.missing_keys
    assert all(".offsets." in key for key in left.missing_keys)
    assert not left.unexpected_keys
    _calibrated_alike(vanilla, deformable)
    with torch.no_grad():
        expected, found = vanilla(clip()).logits, deformable(clip()).logits
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def _calibrated_alike(*models: torch.nn.Module) -> None:
    """Statistics with which features of random weights do not vanish."""
    for model in models:
        for key, value in model.state_dict().items():
            if key.endswith("running_var"):
                value.fill_(0.05)


@pytest.mark.parametrize("scores", [128, 512])
def test_both_readings_of_the_width_of_the_scores_start_as_their_vanilla_model(scores: int):
    vanilla = any_filled("deaott", score_channels=scores)
    deformable = registry.build("deaott_deformable", seed=0, score_channels=scores)
    deformable.load_state_dict(vanilla.state_dict(), strict=False)
    projections = [k for k in deformable.state_dict() if "offsets.projection.weight" in k]
    assert bool(projections) == (scores != 512)
    with torch.no_grad():
        torch.testing.assert_close(
            deformable(clip()).logits, vanilla(clip()).logits, atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("name", ["aott_deformable", "deaott_deformable"])
def test_offsets_are_learnt_and_change_the_answer(name: str):
    model = aot_network(name)
    networks = [m for m in model.modules() if isinstance(m, OffsetNetwork)]
    assert len(networks) == 2  # of long-term and self attention
    model(clip()).logits.square().mean().backward()
    for network in networks:
        for parameter in network.parameters():
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0
    with torch.no_grad():
        before = model(clip()).logits
        for network in networks:
            for parameter in network.parameters():
                parameter.zero_()
        assert (model(clip()).logits - before)[:, :, 0].abs().max() > 1e-4


@pytest.mark.parametrize("name", ["aott", "deaotl"])
def test_intermediates_are_returned_by_name_on_request_alone(name: str):
    model = aot_network(name)
    with torch.no_grad():
        plain, watched = model(clip()), model(clip(), watch=model.watchable)
    assert not plain.named
    assert set(watched.named) == set(model.watchable)
    assert torch.equal(plain.logits, watched.logits)
    layer = model.config.layers
    heads = model.config.model_dump().get("heads", 1)
    assert watched.named[f"self.weights.{layer}"].shape == (1, 2, heads * TOKENS, TOKENS)
    sums = watched.named[f"long.weights.{layer}"].sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    wide = 256 if name == "aott" else 1024
    assert watched.named[f"long.output.{layer}"].shape == (1, 2, TOKENS, wide)
    assert watched.named[REFERENCE_LOGITS].shape == (1, 1, 3, SIDE, SIDE)


@pytest.mark.parametrize("name", ["aott_deformable", "deaott_deformable"])
def test_offsets_are_handed_out_as_the_offset_network_gave_them(name: str):
    model = aot_network(name)
    given: list[torch.Tensor] = []  # (B, S, 2, H, W), in the order of the calls
    for module in model.modules():
        if isinstance(module, OffsetNetwork):
            module.register_forward_hook(lambda module, args, offsets: given.append(offsets))
    with torch.no_grad():
        named = model(clip(), watch=["self.offsets.1", "long.offsets.1"]).named
    found = {name: value[0].unflatten(2, (-1, 2)) for name, value in named.items()}
    assert {value.shape for value in found.values()} == {(2, TOKENS, 4, 2)}  # frames, S, x and y
    for offsets in found.values():
        assert offsets.abs().max() > 0
    calls = [offsets[0].flatten(2).permute(2, 0, 1) for offsets in given[-4:]]  # of two frames
    for frame in range(2):
        for value in found.values():
            assert any(torch.equal(value[frame], call) for call in calls[2 * frame :][:2])
    assert not torch.equal(found["self.offsets.1"], found["long.offsets.1"])


@pytest.mark.parametrize("name", ["aott", "deaotl"])
def test_what_is_not_deformable_has_no_offsets_to_watch(name: str):
    assert not [one for one in registry.outline(name).watchable if "offsets" in one]


def test_the_branches_are_the_halves_of_the_output():
    model = aot_network("deaott")
    names = ("self.visual.1", "self.id.1", "self.output.1")
    with torch.no_grad():
        visual, identity, both = (model(clip(), watch=names).named[name] for name in names)
    assert torch.equal(torch.cat([visual, identity], -1), both)


def test_an_unknown_intermediate_is_refused_with_those_there_are():
    with pytest.raises(
        ValueError, match=r"deaott has no intermediate self\.id\.2 to watch; there are long\."
    ):
        registry.outline("deaott")(_meta_clip(), watch=["self.id.2"])


def _meta_clip() -> Clip:
    with torch.device("meta"):
        return Clip(
            torch.empty(1, 2, 3, 33, 33),
            torch.empty(1, 2, 33, 33, dtype=torch.int64),
            torch.empty(1, 1, dtype=torch.bool),
            (0,),
        )


def test_a_clip_of_more_objects_than_identities_is_refused():
    given = clip()
    wide = replace(given, present=torch.ones(1, 11, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"11 objects: deaott trains 10 at once; lower data\.max"):
        aot_network("deaott")(wide)


@pytest.mark.parametrize("size", [32, 16])
def test_a_clip_of_other_sides_is_refused(size: int):
    given = clip()
    sides = (given.frames[..., :size, :size], given.masks[..., :size, :size])
    resized = replace(given, frames=sides[0], masks=sides[1])
    with pytest.raises(ValueError, match=f"{size}x{size}.* one more"):
        aot_network("aott")(resized)


def test_a_training_memory_of_every_second_frame_reads_more_than_the_first():
    first = aot_network("deaott")
    more = aot_network("deaott", train_mem_every=2)
    with torch.no_grad():
        a, b = first(clip(frames=5)).logits, more(clip(frames=5)).logits
    assert torch.equal(a[:, :2], b[:, :2])
    assert not torch.equal(a[:, 2:], b[:, 2:])


def test_given_masks_take_the_place_of_predicted_ones():
    model = aot_network("deaott")
    with torch.no_grad():
        predicted = model(clip()).logits
        truth = clip()
        own = predicted[:, :1].argmax(2)
        as_predicted = replace(truth, masks=torch.cat([truth.masks[:, :1], own, own], 1))
        assert torch.equal(model.roll(as_predicted, given_masks=True).logits, predicted)
        assert not torch.equal(model.roll(truth, given_masks=True).logits, predicted)


def test_where_a_clip_has_no_label_given_masks_are_predicted_ones():
    model = aot_network("deaott")
    with torch.no_grad():
        truth = clip()
        predicted = model(truth).logits
        later = torch.full_like(truth.masks[:, 1:], IGNORED)
        unlabelled = replace(truth, masks=torch.cat([truth.masks[:, :1], later], 1), labelled=False)
        assert torch.equal(model.roll(unlabelled, given_masks=True).logits, predicted)


@pytest.mark.parametrize("given_masks", [True, False])
def test_a_frozen_bank_learns_from_given_masks_alone(given_masks: bool):
    model = aot_network("deaott", freeze_bank=True).train()
    assert model.skips_parameters
    model.roll(clip(), given_masks=given_masks).logits.square().mean().backward()
    for parameter in (*model.patch_wise_id_bank.parameters(), model.encoder_projector.weight):
        learns = parameter.grad is not None
        assert learns == (given_masks or parameter is model.encoder_projector.weight)


@pytest.mark.parametrize("name", ["aott", "deaott_deformable"])
def test_every_trained_parameter_gets_a_gradient_but_the_mask_token(name: str):
    model = aot_network(name).train()
    model(clip(frames=2)).logits.sum().backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == (["LSTT.mask_token"] if name == "aott" else [])
    assert bool(without) == model.skips_parameters
