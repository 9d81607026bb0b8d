import json

import pytest
import torch

from tests.model_tools import SHARED, network
from vosmodels.spacetime.configs import STCNConfig
from vosmodels.spacetime.stcn import STCN


def test_the_default_is_the_public_stcn_by_number_of_parameters_and_keys():
    with torch.device("meta"):  # shapes alone
        model = STCN(STCNConfig())
    assert sum(p.numel() for p in model.parameters()) == 54_434_180
    assert len(model.state_dict()) == 405


def test_state_dict_names_and_shapes_are_those_of_the_public_weights():
    listing = SHARED / "reference" / "golden" / "stcn_eval_keys.json"
    if not listing.is_file():
        pytest.skip(f"needs {listing.name} in a folder 'shared' beside the checkout")
    public = json.loads(listing.read_text())["state_dict"]
    with torch.device("meta"):
        ours = STCN(STCNConfig()).state_dict()
    assert {key: list(value.shape) for key, value in ours.items()} == {
        key: entry["shape"] for key, entry in public.items()
    }


def test_the_light_teacher_is_wider_than_its_students_and_remembers_everything():
    model = network("stcn_mobilenetv2", seed=0)
    assert sum(p.numel() for p in model.parameters()) == 3_542_252
    assert str(model.memory) == "first,allx5"
    assert model.value_encoder.sees_frame
    assert model.value_encoder.get_parameter("features.0.0.weight").shape[1] == 5


def test_predictions_use_a_3x3_convolution():
    assert STCN(STCNConfig(backbone="mobilenet_v2")).decoder.pred.kernel_size == (3, 3)


def test_key_gain_scales_the_first_keys():
    torch.manual_seed(0)
    config = STCNConfig(backbone="mobilenet_v2", value_backbone="mobilenet_v2", key_gain=2.0)
    weight = STCN(config).key_proj.key_proj.weight.flatten(1)
    torch.testing.assert_close(weight.norm(dim=1), torch.full((64,), 2.0))
