"""Build models by name, from a table of (config class, preset, builder).

Options are checked here without loading torch; a builder imports its model when it is called.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from vosmodels.aot.configs import AOTConfig, DeAOTConfig, watchable
from vosmodels.errors import InputError
from vosmodels.spacetime.configs import MobileVOSConfig, STCNConfig

if TYPE_CHECKING:
    from vosmodels.model import VideoModel


@dataclass(frozen=True)
class Entry:
    """A model by name.

    preset   the options of this name that differ from the config class's defaults
    model    builds it from its config
    side     sides of training clips are 16 k + side
    features whether its output has z, a feature map per object, which some losses compare
    watchable  names of the intermediates that the model of a config can return
    """

    config: type[BaseModel]
    preset: Mapping[str, Any]
    model: Callable[[Any], VideoModel]
    side: int = 0
    features: bool = True
    watchable: Callable[[Any], tuple[str, ...]] = lambda config: ()


def _stcn(config: STCNConfig) -> VideoModel:
    from vosmodels.spacetime.stcn import STCN

    return STCN(config)


def _mobilevos(config: MobileVOSConfig) -> VideoModel:
    from vosmodels.spacetime.mobilevos import MobileVOS

    return MobileVOS(config)


def _aot(config: AOTConfig | DeAOTConfig) -> VideoModel:
    from vosmodels.aot.network import AOTNetwork

    return AOTNetwork(config)


# The MobileNetV2 models start with soft affinities (key_gain): in one short pair of runs on
# generated clips they learned more with it. MobileVOS widths: see `mobilevos.py`.
_MOBILENET_STUDENT = {
    "backbone": "mobilenet_v2",
    "value_channels": 64,
    "decoder_channels": (64, 64, 64),
    "aspp_channels": 144,
    "key_gain": 0.25,
}
# AOT-L and DeAOT-L: three layers, and frames that stay in the memory.
_LARGE = {"layers": 3, "mem_every": 5, "train_mem_every": 2}
REGISTRY: Mapping[str, Entry] = {
    "stcn": Entry(STCNConfig, {}, _stcn),
    "stcn_mobilenetv2": Entry(
        STCNConfig,
        {
            "backbone": "mobilenet_v2",
            "value_backbone": "mobilenet_v2",
            "value_channels": 128,
            "decoder_channels": (128, 128, 96),
            "key_gain": 0.25,
        },
        _stcn,
    ),
    "mobilevos_resnet18": Entry(MobileVOSConfig, {}, _mobilevos),
    "mobilevos_mobilenetv2": Entry(MobileVOSConfig, _MOBILENET_STUDENT, _mobilevos),
    "mobilevos_mobilenetv2_noaspp": Entry(
        MobileVOSConfig, {**_MOBILENET_STUDENT, "aspp_channels": None}, _mobilevos
    ),
    "aott": Entry(AOTConfig, {}, _aot, side=1, watchable=watchable),
    "aott_deformable": Entry(AOTConfig, {"deformable": True}, _aot, side=1, watchable=watchable),
    "r50_aotl": Entry(
        AOTConfig, {**_LARGE, "backbone": "resnet50"}, _aot, side=1, watchable=watchable
    ),
    "deaott": Entry(DeAOTConfig, {}, _aot, side=1, watchable=watchable),
    "deaott_deformable": Entry(
        DeAOTConfig, {"deformable": True}, _aot, side=1, watchable=watchable
    ),
    "deaotl": Entry(DeAOTConfig, _LARGE, _aot, side=1, watchable=watchable),
    "r50_deaotl": Entry(
        DeAOTConfig, {**_LARGE, "backbone": "resnet50"}, _aot, side=1, watchable=watchable
    ),
}


def config(name: str, /, **options: Any) -> BaseModel:
    """Return the validated config of model `name`: its preset, changed by `options`.

    Raises InputError that lists all problems: an unknown name or option, with the nearest known
    one, and bad values.
    """
    model = entry(name)
    try:
        return model.config.model_validate({**model.preset, **options})
    except ValidationError as error:
        allowed = list(model.config.model_fields)
        problems = "; ".join(_problem(problem, allowed) for problem in error.errors())
        raise InputError(f"model {name!r}: {problems}") from error


def entry(name: str) -> Entry:
    """Return the entry of model `name`. Raises InputError as `config` does."""
    if name in REGISTRY:
        return REGISTRY[name]
    near = difflib.get_close_matches(name, REGISTRY, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"model {name!r}: unknown; {hint}There are {', '.join(REGISTRY)}")


def build(name: str, *, seed: int | None = None, **options: Any) -> VideoModel:
    """Build model `name` with random weights, in eval mode.

    With a `seed` the weights depend on the seed alone and torch's global generator is unchanged;
    without a seed the weights are drawn from that generator. Raises InputError as `config` does.
    """
    import torch

    validated = config(name, **options)
    if seed is None:
        model = entry(name).model(validated)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = entry(name).model(validated)
    model.name = name
    return model.eval()


def blank(name: str, **options: Any) -> VideoModel:
    """Build model `name` in eval mode for weights that are loaded next; few of its own are drawn.

    Large weights take most of the time of `build` to draw. Raises InputError as `config` does.
    """
    from vosmodels.support.undrawn import Undrawn

    with Undrawn():
        return build(name, seed=0, **options)


def outline(name: str, **options: Any) -> VideoModel:
    """Build model `name` without numbers, on torch's meta device: names, types and shapes alone.

    Takes no memory for weights and no time to draw them. Raises InputError as `config` does.
    """
    import torch

    with torch.device("meta"):
        return build(name, seed=0, **options)


def _problem(problem: Any, allowed: list[str]) -> str:
    """Word a pydantic error for a message."""
    key = ".".join(str(part) for part in problem["loc"])
    if not key:  # a rule between options
        return str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] != "extra_forbidden":
        return f"option {key!r} is {problem['input']!r}: {problem['msg']}"
    near = difflib.get_close_matches(key, allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown option {key!r}; {hint}There are {', '.join(allowed)}"
