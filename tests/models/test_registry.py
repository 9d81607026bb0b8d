import pytest
import torch

from vosmodels import registry
from vosmodels.errors import InputError
from vosmodels.spacetime.configs import MobileVOSConfig

STUDENT = "mobilevos_mobilenetv2_noaspp"


@pytest.mark.parametrize("name", registry.REGISTRY)
def test_a_model_is_built_again_from_the_config_it_carries(name: str):
    model = registry.build(name, seed=0)
    again = registry.config(name, **model.config.model_dump(mode="json"))
    assert again == model.config
    assert (model.name, model.training) == (name, False)


def test_a_preset_keeps_what_the_options_do_not_name():
    config = registry.config(STUDENT, queue=3)
    assert isinstance(config, MobileVOSConfig)
    assert (config.queue, config.value_channels, config.aspp_channels) == (3, 64, None)


def test_an_unknown_name_lists_the_names_and_the_nearest():
    with pytest.raises(InputError, match=r"'mobilevos_mobilnet'.*did you mean 'mobilevos_.*stcn,"):
        registry.config("mobilevos_mobilnet")


def test_every_wrong_option_is_named_with_the_nearest():
    with pytest.raises(InputError) as caught:
        registry.build(STUDENT, value_chanels=64, queue=0)
    message = str(caught.value)
    assert STUDENT in message
    assert "'value_chanels'; did you mean 'value_channels'" in message
    assert "'queue' is 0" in message


def test_the_same_seed_builds_the_same_weights_and_another_seed_others():
    first, again, other = (registry.build(STUDENT, seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["key_comp.weight"], other["key_comp.weight"])


def test_a_seeded_build_leaves_the_global_generator_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    registry.build(STUDENT, seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_an_unseeded_build_follows_the_global_generator():
    torch.manual_seed(5)
    first = registry.build(STUDENT).state_dict()["key_comp.weight"]
    torch.manual_seed(5)
    assert torch.equal(registry.build(STUDENT).state_dict()["key_comp.weight"], first)


@pytest.mark.parametrize("name", registry.REGISTRY)
def test_a_blank_model_with_the_weights_of_a_built_one_is_that_one(name: str):
    built, blank = registry.build(name, seed=1), registry.blank(name)
    blank.load_state_dict(built.state_dict())
    wanted = dict(built.named_parameters()) | dict(built.named_buffers())
    found = dict(blank.named_parameters()) | dict(blank.named_buffers())
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)
    assert (blank.name, blank.config, blank.training) == (name, built.config, False)


def test_no_weights_are_drawn_for_a_blank_model():
    assert not registry.blank("stcn").get_parameter("key_comp.weight").any()
