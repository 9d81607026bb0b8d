import pytest
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
