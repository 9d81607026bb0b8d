"""State a model's step for an export: its graphs, the shapes they take, and how memory is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from vosmodels.aot import step_graph as shared
from vosmodels.aot.network import AOTNetwork
from vosmodels.errors import UsageError
from vosmodels.export.portable import portable
from vosmodels.export.sidecar import MemoryPlan, Name
from vosmodels.inference.fold import for_inference
from vosmodels.memory_rule import MemoryRule
from vosmodels.model import VideoModel
from vosmodels.spacetime import step_graph as slots
from vosmodels.spacetime.memory import TOP_K
from vosmodels.spacetime.network import SpaceTimeNetwork
from vosmodels.types import HIDDEN

FrameGraph: TypeAlias = slots.FrameGraph | shared.FrameGraph


@dataclass(frozen=True)
class ExportableStep:
    """The two graphs of a model, inputs of their shapes by name, and the plan of its memory.

    mean, std (3, 1, 1): what the graphs normalise frames by.
    """

    graphs: Mapping[Name, FrameGraph]
    examples: Mapping[str, Tensor]
    memory: MemoryPlan
    mean: Tensor
    std: Tensor


def exportable_step(
    model: VideoModel, rule: MemoryRule, *, height: int, width: int, objects: int
) -> ExportableStep:
    """Prepare the step of a model for frames of one size and so many objects.

    Raises UsageError, listing all problems, on a memory that grows or that the model cannot have,
    and on more objects than it tells apart.
    """
    aot = model if isinstance(model, AOTNetwork) else None
    problems = []
    if rule.older is None:
        problems.append(
            f"memory {rule}: it grows with the video, and a graph has room for a fixed number of "
            "frames; give --memory, such as first,last or first,last,4x5"
        )
    if aot is not None and not rule.last:
        problems.append(f"memory {rule}: {model.name} reads the latest frame, too; say first,last")
    if aot is not None and objects > aot.config.objects:
        problems.append(
            f"--objects {objects}: {model.name} has {aot.config.objects} identities, one for each "
            f"object of a pass, and a graph is one pass; {aot.config.objects} at most"
        )
    if problems:
        raise UsageError("\n".join(problems))
    size = {"height": height, "width": width}
    if aot is not None:
        return _with_shared_memory(aot, rule, objects, **size)
    assert isinstance(model, SpaceTimeNetwork)
    return _with_slots(model, rule, objects, **size)


def _with_slots(
    model: SpaceTimeNetwork, rule: MemoryRule, objects: int, *, height: int, width: int
) -> ExportableStep:
    """State a step of STCN or MobileVOS, where each object has a memory of its own."""
    assert rule.frames is not None
    network = portable(model)
    step = slots.StepGraph(network, height=height, width=width)
    positions = step.positions
    key, value = model.key_proj.key_proj.out_channels, model.key_comp.out_channels
    return ExportableStep(
        {"begin": slots.BeginGraph(network, height=height, width=width), "step": step},
        {
            **_pictures(objects, height, width),
            "memory_key": torch.zeros(objects, rule.frames, positions, key),
            "memory_value": torch.zeros(objects, rule.frames, positions, value),
            "memory_bias": torch.zeros(objects, rule.frames),
        },
        MemoryPlan(
            rule=str(rule),
            frames=rule.frames,
            every=rule.every,
            last=rule.last and rule.every > 1,
            positions=positions,
            read=TOP_K,
            hidden=HIDDEN,
        ),
        model.mean,
        model.std,
    )


def _with_shared_memory(
    model: AOTNetwork, rule: MemoryRule, objects: int, *, height: int, width: int
) -> ExportableStep:
    """State a step of AOT or DeAOT, whose objects share a memory.

    Frames with given masks always stay, so there is a place for one of each object at least.
    """
    assert rule.older is not None
    queue = rule.older + 1
    staying = max(queue, objects)
    network = shared.narrowed(for_inference(model, stripes=False), objects)
    step = shared.StepGraph(network, height=height, width=width)
    pictures = _pictures(objects, height, width)
    begin = shared.BeginGraph(network, height=height, width=width)
    with torch.inference_mode():
        key, value = begin(pictures["frame"], pictures["masks"])
    layers, positions, _ = key.shape
    return ExportableStep(
        {"begin": begin, "step": step},
        {
            **pictures,
            "memory_key": torch.zeros(layers, staying + 1, *key.shape[1:]),
            "memory_value": torch.zeros(layers, staying + 1, *value.shape[1:]),
            "memory_bias": torch.zeros(staying),
        },
        MemoryPlan(
            kind="shared",
            rule=str(rule),
            frames=staying + 1,
            every=rule.every,
            last=True,
            queue=queue,
            positions=positions,
            read=staying * positions,
            hidden=HIDDEN,
        ),
        model.mean,
        model.std,
    )


def _pictures(objects: int, height: int, width: int) -> dict[str, Tensor]:
    return {
        "frame": torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)),
        "masks": torch.zeros(1, objects, height, width),
        "present": torch.ones(objects),
    }
