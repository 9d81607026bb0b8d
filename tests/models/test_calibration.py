from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from tests.model_tools import network, textured_clip
from vosmodels.calibration import _Moments, calibrate
from vosmodels.spacetime.network import SpaceTimeNetwork
from vosmodels.types import Clip, Features

MOBILENETS = ["stcn_mobilenetv2", "mobilevos_mobilenetv2", "mobilevos_mobilenetv2_noaspp"]


def _clips(count: int, *, clips: int = 2, slots: int = 2) -> Iterator[Clip]:
    return (textured_clip(clips=clips, slots=slots, seed=seed) for seed in range(count))


def _deviations(model: SpaceTimeNetwork) -> dict[str, float]:
    """Standard deviation of every stage's output on a clip that was not calibrated on."""
    seen: dict[str, float] = {}

    def note(name: str, x: Tensor) -> None:
        seen[name] = float(x.std())

    def hook(name: str) -> None:
        def record(_: nn.Module, __: object, output: Tensor | Features) -> None:
            if isinstance(output, Features):
                for stage in ("s4", "s8", "s16"):
                    note(f"{name}.{stage}", getattr(output, stage))
            else:
                note(name, output)

        model.get_submodule(name).register_forward_hook(record)

    for name in ("key_encoder", "key_proj", "value_encoder", "decoder.aspp", "decoder.up_8_4"):
        hook(name)
    hook("value_encoder.features" if "mobilenet" in model.name else "value_encoder.layer3")
    with torch.no_grad():
        model(textured_clip(seed=99))
    return seen


def test_an_uncalibrated_random_mobilenet_is_dead():
    assert _deviations(network(MOBILENETS[0], seed=0))["key_encoder.s16"] < 1e-4


@pytest.mark.parametrize("name", MOBILENETS)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_every_stage_of_a_calibrated_random_model_is_alive(name: str, seed: int):
    model = network(name, seed=seed)
    calibrate(model, _clips(3))
    deviations = _deviations(model)
    assert len(deviations) == 8
    assert all(0.1 < deviation < 10 for deviation in deviations.values()), deviations


def test_calibration_depends_on_weights_and_clips_alone():
    states = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        model = network("mobilevos_mobilenetv2", seed=0)
        calibrate(model, _clips(2))
        states.append(model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_statistics_are_the_moments_of_all_inputs_together():
    model = network("mobilevos_mobilenetv2_noaspp", seed=0)
    calibrate(model, _clips(3))
    frames = torch.cat([clip.frames.flatten(0, 1) for clip in _clips(3)])
    conv = model.key_encoder.get_submodule("features.0.0")
    norm = model.key_encoder.get_submodule("features.0.1")
    with torch.no_grad():
        x = conv((frames - model.mean) / model.std)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, x.mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
    expected = x.var((0, 2, 3), unbiased=False)
    torch.testing.assert_close(norm.running_var, expected, atol=1e-5, rtol=1e-4)


def test_every_batch_is_normalised_by_its_own_statistics_meanwhile():
    model = network("mobilevos_mobilenetv2_noaspp", seed=0)
    means: list[Tensor] = []
    norm = model.value_encoder.get_submodule("features.2.conv.0.1")  # bias 0, scale 1
    norm.register_forward_hook(lambda _, __, output: means.append(output.mean((0, 2, 3))))
    calibrate(model, _clips(3))
    assert len(means) == 6
    torch.testing.assert_close(torch.stack(means), torch.zeros(6, 96), atol=1e-4, rtol=0)


def test_loaded_modules_and_all_weights_are_left_alone():
    model = network("mobilevos_mobilenetv2", seed=0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    calibrate(model, _clips(2), loaded=[model.key_encoder])
    changed = {key for key, v in model.state_dict().items() if not torch.equal(v, before[key])}
    assert not any(key.startswith("key_encoder.") for key in changed)
    assert all(key.endswith(("running_mean", "running_var")) for key in changed)
    wanted = {key for key in before if key.endswith(("running_mean", "running_var"))}
    assert changed == {key for key in wanted if not key.startswith("key_encoder.")}


def test_a_pooled_branch_with_one_value_per_batch_gets_statistics_over_batches():
    model = network("mobilevos_mobilenetv2", seed=0)
    norm = model.decoder.aspp.get_submodule("pool.1")
    assert isinstance(norm, nn.BatchNorm2d)
    sizes: list[float] = []
    norm.register_forward_hook(lambda _, __, output: sizes.append(float(output.abs().mean())))
    calibrate(model, _clips(4, clips=1, slots=1))
    # its own mean would always leave 0, and the projection would never see the branch vary
    assert sizes[0] < 1e-5 < min(sizes[1:])
    assert norm.running_var is not None
    assert float(norm.running_var.min()) > 0
    assert all(0.1 < deviation < 10 for deviation in _deviations(model).values())


def test_statistics_are_frozen_afterwards_and_a_second_calibration_starts_afresh():
    model = network("mobilevos_mobilenetv2_noaspp", seed=0)
    calibrate(model, _clips(2))
    once = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        model.train()(textured_clip(seed=9))
    assert all(torch.equal(v, once[key]) for key, v in model.state_dict().items())
    calibrate(model, _clips(2))
    assert all(torch.equal(v, once[key]) for key, v in model.state_dict().items())


def test_calibrating_from_no_clips_is_refused():
    with pytest.raises(ValueError, match="no clips"):
        calibrate(network("mobilevos_mobilenetv2_noaspp", seed=0), [])


def test_the_inputs_of_a_layer_stay_as_they_are():
    layer = nn.BatchNorm2d(2).double()
    x = torch.arange(16, dtype=torch.float64).reshape(1, 2, 2, 4)  # needs no copy to be summed
    _Moments(layer).before_forward(layer, (x,))
    assert torch.equal(x.flatten(), torch.arange(16, dtype=torch.float64))
