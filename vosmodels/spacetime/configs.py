"""Define and check the options of STCN and MobileVOS before a model is built."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field

from vosmodels.memory_rule import MemoryRule, RuleOption

# Upper bounds lie far above any use; what a machine has room for is checked elsewhere.
Width = Annotated[int, Field(ge=1, le=8192)]  # channels
Rates = Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(max_length=16)]
Frames = Annotated[int, Field(ge=1, le=10**6)]
Gain = Annotated[float, Field(gt=0, le=10**6)]
# A switch that configs written before it lack; so do those written since where it is off.
OffUnlessSaid = Annotated[bool, Field(exclude_if=lambda on: not on)]

# Start values and rules of running: weights trained with one value load into a model of another.
FREE = frozenset(
    {"key_gain", "mem_every", "include_last", "queue", "memory", "single_object", "detach_feedback"}
)


class STCNConfig(BaseModel, frozen=True, extra="forbid"):
    """Options of STCN; the defaults are the public model, 54.4 M parameters."""

    free_options: ClassVar[frozenset[str]] = FREE

    backbone: Literal["resnet50", "mobilenet_v2"] = "resnet50"
    value_backbone: Literal["resnet18", "mobilenet_v2"] = "resnet18"
    key_channels: Width = 64  # width of the matching space
    value_channels: Width = 512  # width of memory values; a multiple of 16
    decoder_channels: tuple[Width, Width, Width] = (512, 256, 256)  # s16, s8, s4
    key_gain: Gain = 1.0  # gain of the key projection's orthogonal initialisation
    mem_every: Frames = 5  # inference: every so many frames one enters the memory
    include_last: bool = False  # inference: the memory also holds the latest frame, until the next
    memory: RuleOption = None  # in place of the two above, such as first,last,allx5
    single_object: bool = False  # value encoder without the others' mask, as in STCN's static stage
    detach_feedback: bool = False  # training: no gradient through predicted masks fed back

    @property
    def rule(self) -> MemoryRule:
        """Say which frames of a video are remembered."""
        if self.memory:
            return MemoryRule.of(self.memory)
        return MemoryRule(None, self.mem_every, self.include_last)


class MobileVOSConfig(BaseModel, frozen=True, extra="forbid"):
    """Options of MobileVOS; the defaults are the ResNet-18 student, 8.1 M parameters."""

    free_options: ClassVar[frozenset[str]] = FREE

    backbone: Literal["resnet18", "mobilenet_v2"] = "resnet18"
    key_channels: Width = 64  # width of the matching space
    value_channels: Width = 128  # width of memory values; a multiple of 16
    decoder_channels: tuple[Width, Width, Width] = (128, 128, 64)  # s16, s8, s4
    aspp_channels: Width | None = 192  # width of each ASPP branch; null: no ASPP
    aspp_rates: Rates = (6, 12, 18)  # dilations of the ASPP's 3x3 branches
    key_gain: Gain = 1.0  # gain of the key projection's orthogonal initialisation
    queue: Frames = 2  # frames in the memory: the first and the latest
    memory: RuleOption = None  # in place of queue, such as first,last,2x5
    single_object: OffUnlessSaid = False  # value encoder without the others' mask, as of STCN
    detach_feedback: bool = False  # training: no gradient through predicted masks fed back

    @property
    def rule(self) -> MemoryRule:
        """Say which frames of a video are remembered."""
        if self.memory:
            return MemoryRule.of(self.memory)
        return MemoryRule(older=max(0, self.queue - 2), last=self.queue > 1)
