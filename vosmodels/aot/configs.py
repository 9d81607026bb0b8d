"""Define and check the options of AOT and DeAOT before a model is built."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field, model_validator

from vosmodels.memory_rule import MemoryRule, RuleOption
from vosmodels.types import REFERENCE_LOGITS

Width = Annotated[int, Field(ge=1, le=8192)]  # channels
Frames = Annotated[int, Field(ge=1, le=10**6)]
Start = Literal["identities", "public"]
Share = Annotated[float, Field(ge=0, lt=1)]

# Rules of training and running: weights trained with one value load into a model of another.
FREE = frozenset(
    {"mem_every", "train_mem_every", "queue", "memory", "droppath", "dropout", "shuffle_ids"}
    | {"long_edge", "freeze_bank", "start"}
)


class AOTConfig(BaseModel, frozen=True, extra="forbid"):
    """Options of AOT; the defaults are the public AOT-T, 5.7 M parameters.

    With 2 or 3 layers it is AOT-S or AOT-B; AOT-L is AOT-B with mem_every 5, train_mem_every 2.
    """

    free_options: ClassVar[frozenset[str]] = FREE

    backbone: Literal["mobilenet_v2", "resnet50"] = "mobilenet_v2"
    layers: Annotated[int, Field(ge=1, le=64)] = 1  # of propagation
    width: Width = 256  # of embeddings
    heads: Annotated[int, Field(ge=1, le=256)] = 8
    ffn_channels: Width = 1024
    objects: Annotated[int, Field(ge=1, le=254)] = 10  # one pass segments, as many ids as the bank
    deformable: bool = False  # long-term and self attention look at offset places
    offset_channels: Width = 512  # of the query that offsets are computed from
    offset_groups: Annotated[int, Field(ge=1, le=64)] = 4
    mem_every: Frames | None = None  # inference: every so many frames one stays; null: none does
    train_mem_every: Frames | None = None  # the same in a training clip
    queue: Frames | None = None  # frames that stay at most, reference frames always; null: no end
    memory: RuleOption = None  # in place of mem_every and queue, such as first,last,2x5
    droppath: Share = 0.1  # training: share of residual branches dropped
    shuffle_ids: bool = True  # training: objects take random ids of the bank
    freeze_bank: bool = False  # training: the bank learns from given masks (train.given_masks) only
    start: Start = "identities"  # first weights: made to read identities, or as public code draws
    long_edge: Annotated[int, Field(ge=33, le=10**5)] = 1040  # px, larger frames are scaled down

    @property
    def rule(self) -> MemoryRule:
        """Say which frames of a video are remembered."""
        return rule_of(self)

    @model_validator(mode="after")
    def _widths_divide(self) -> AOTConfig:
        if self.width % (2 * self.heads) or self.width % 32:
            raise ValueError(
                f"width {self.width} must be a multiple of 32 and of twice the {self.heads} heads"
            )
        if self.ffn_channels % 32:
            raise ValueError(f"ffn_channels {self.ffn_channels} must be a multiple of 32")
        check_groups(self.deformable, self.offset_groups, self.offset_channels, self.width)
        check_reads_latest(self.rule)
        return self


class DeAOTConfig(BaseModel, frozen=True, extra="forbid"):
    """Options of DeAOT; the defaults are the public DeAOT-T, 7.2 M parameters.

    With 2 or 3 layers it is DeAOT-S or DeAOT-B; DeAOT-L is DeAOT-B with mem_every 5,
    train_mem_every 2.
    """

    free_options: ClassVar[frozenset[str]] = FREE

    backbone: Literal["mobilenet_v2", "resnet50"] = "mobilenet_v2"
    layers: Annotated[int, Field(ge=1, le=64)] = 1  # of propagation
    width: Width = 256  # of embeddings; values have twice as many channels in each branch
    score_channels: Width = 128  # of queries and keys
    objects: Annotated[int, Field(ge=1, le=254)] = 10  # one pass segments, as many ids as the bank
    deformable: bool = False  # long-term and self attention look at offset places
    offset_channels: Width = 512  # of the query that offsets are computed from
    offset_groups: Annotated[int, Field(ge=1, le=64)] = 4
    mem_every: Frames | None = None  # inference: every so many frames one stays; null: none does
    train_mem_every: Frames | None = None  # the same in a training clip
    queue: Frames | None = None  # frames that stay at most, reference frames always; null: no end
    memory: RuleOption = None  # in place of mem_every and queue, such as first,last,2x5
    droppath: Share = 0.1  # training: share of self-propagation branches dropped
    dropout: Share = 0.1  # training: share of channels dropped behind depth-wise convolutions
    shuffle_ids: bool = True  # training: objects take random ids of the bank
    freeze_bank: bool = False  # training: the bank learns from given masks (train.given_masks) only
    start: Start = "identities"  # first weights: made to read identities, or as public code draws
    long_edge: Annotated[int, Field(ge=33, le=10**5)] = 1040  # px, larger frames are scaled down

    @property
    def rule(self) -> MemoryRule:
        """Say which frames of a video are remembered."""
        return rule_of(self)

    @model_validator(mode="after")
    def _widths_divide(self) -> DeAOTConfig:
        if self.width % 8:
            raise ValueError(f"width {self.width} must be a multiple of 8")
        check_groups(
            self.deformable,
            self.offset_groups,
            self.offset_channels,
            self.score_channels,
            2 * self.width,
        )
        check_reads_latest(self.rule)
        return self


def check_reads_latest(rule: MemoryRule) -> None:
    """Raise ValueError for a rule without the latest frame, which short-term attention reads."""
    if not rule.last:
        raise ValueError(
            f"memory {rule}: AOT and DeAOT read the latest frame, too; write first,last"
        )


def rule_of(config: AOTConfig | DeAOTConfig) -> MemoryRule:
    """Say which frames of a video are remembered: always the first and the latest."""
    if config.memory:
        return MemoryRule.of(config.memory)
    if config.mem_every is None:
        return MemoryRule()
    return MemoryRule(None if config.queue is None else config.queue - 1, config.mem_every)


def watchable(config: AOTConfig | DeAOTConfig) -> tuple[str, ...]:
    """Return the names of intermediates that a model returns on request.

    Those of `StepOutput.named`, and reference.logits (B, 1, N+1, H, W): of frame 0, which AOT
    trains too.
    """
    parts = ["output", "weights"]
    if isinstance(config, DeAOTConfig):
        parts += ["visual", "id"]
    if config.deformable:
        parts.append("offsets")
    names = [
        f"{attention}.{part}.{layer}"
        for layer in range(1, config.layers + 1)
        for attention in ("long", "self")
        for part in parts
    ]
    return (*names, REFERENCE_LOGITS)


def check_groups(deformable: bool, groups: int, offset_channels: int, *resampled: int) -> None:
    """Raise ValueError where offset groups do not divide the channels that they partition.

    The offset network's first convolution has as many groups as there are parts of the query, so
    offset_channels is a multiple of the number of groups squared.
    """
    odd = [width for width in resampled if width % groups]
    if deformable and odd:
        raise ValueError(f"offset_groups {groups} must divide {odd[0]} channels")
    if deformable and offset_channels % groups**2:
        raise ValueError(
            f"offset_channels {offset_channels} must be a multiple of offset_groups squared, "
            f"{groups**2}"
        )
