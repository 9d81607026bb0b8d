import pytest
import torch
from pydantic import ValidationError

from tests.model_tools import network
from vosmodels.spacetime.configs import MobileVOSConfig
from vosmodels.spacetime.mobilevos import MobileVOS


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mobilevos_resnet18", 8_136_332),
        ("mobilevos_mobilenetv2", 2_521_320),
        ("mobilevos_mobilenetv2_noaspp", 1_892_936),
    ],
)
def test_students_have_the_parameters_of_the_budget(name: str, parameters: int):
    model = network(name, seed=0)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.decoder.pred.kernel_size == (1, 1)
    assert not model.value_encoder.sees_frame
    assert model.value_encoder.get_parameter("features.0.0.weight").shape[1] == 2
    assert str(model.memory) == "first,last"


def test_aspp_rates_are_an_option_that_changes_no_parameter_count():
    wide = MobileVOS(MobileVOSConfig(backbone="mobilenet_v2"))
    narrow = MobileVOS(MobileVOSConfig(backbone="mobilenet_v2", aspp_rates=(2, 4, 6)))
    dilations = [
        c.get_submodule("0") for c in narrow.decoder.aspp.get_submodule("branches").children()
    ]
    assert [d.dilation for d in dilations] == [(1, 1), (2, 2), (4, 4), (6, 6)]
    count = [sum(p.numel() for p in m.parameters()) for m in (wide, narrow)]
    assert count[0] == count[1]


def test_a_memory_without_a_frame_is_refused():
    with pytest.raises(ValidationError, match="queue"):
        MobileVOSConfig(queue=0)


def test_a_student_of_single_objects_follows_each_as_if_it_were_alone():
    model = network("mobilevos_mobilenetv2_noaspp", seed=0, single_object=True).eval()
    rng = torch.Generator().manual_seed(0)
    frames = torch.rand(1, 3, 64, 64, generator=rng)
    both = torch.zeros(64, 64, dtype=torch.int64)
    both[8:24, 8:24], both[32:56, 32:56] = 1, 2
    s16 = model.encode_key(frames).features.s16
    masks = torch.stack([both == 1, both == 2]).float()[None]
    together = model.encode_value(frames, masks, s16)
    for place in range(2):
        alone = model.encode_value(frames, masks[:, place : place + 1], s16)
        torch.testing.assert_close(together[:, place], alone[:, 0], rtol=0, atol=1e-5)


def test_an_option_that_older_files_lack_is_written_only_where_it_is_set():
    plain, single = MobileVOSConfig(), MobileVOSConfig(single_object=True)
    assert "single_object" not in plain.model_dump(mode="json")
    assert single.model_dump(mode="json")["single_object"] is True
