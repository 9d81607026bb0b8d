"""Define what every part of the product asks of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel
from torch import Tensor, nn

from vosmodels.errors import InputError
from vosmodels.memory_rule import MemoryRule
from vosmodels.types import Clip, Propagator, StepOutput

# encoder: of the frame's encoder, which often starts trained; undecayed: without weight decay
ParameterKind: TypeAlias = Literal["encoder", "undecayed", "other"]


class VideoModel(nn.Module, ABC):
    """A network for video object segmentation.

    Training, scoring, checkpoints and speed tables use what is declared here and the methods of
    `nn.Module`; anything else belongs to one family of models and is used by that family alone.
    A base class and not a Protocol, since Python cannot say 'an nn.Module that also has these'.

    name: in the registry; config: builds the same model again, a checkpoint stores it;
    memory: which frames of a video are remembered at inference.
    """

    name: str
    config: BaseModel
    memory: MemoryRule

    @property
    def z_channels(self) -> int | None:
        """Width C of `StepOutput.z`; None for a model without a feature map per object."""
        return None

    @property
    def skips_parameters(self) -> bool:
        """Return True if a step may leave a parameter without gradient; DDP must know."""
        return False

    def parameter_kinds(self) -> Mapping[str, ParameterKind]:
        """Return the kinds of parameters by name; a parameter that is left out is `other`."""
        return {}

    @property
    def watchable(self) -> tuple[str, ...]:
        """Names of the intermediates that `watch` may ask for, see `types.StepOutput.named`."""
        return ()

    def check_watched(self, watch: Collection[str]) -> None:
        """Raise ValueError that names what there is, on a name that is not watchable."""
        unknown = [name for name in watch if name not in self.watchable]
        if unknown:
            there = f"there are {', '.join(self.watchable)}" if self.watchable else "there is none"
            raise ValueError(
                f"{self.name} has no intermediate {', '.join(unknown)} to watch; {there}"
            )

    @abstractmethod
    def forward(self, clip: Clip, *, watch: Collection[str] = ()) -> StepOutput:
        """Predict frames 1..T-1 of a training clip, whose frame 0 has its mask given.

        watch: names of the intermediates to return in `named`, and of no others. Raises ValueError
        on a name that is not `watchable`.
        """

    @abstractmethod
    def roll(self, clip: Clip, *, given_masks: bool, watch: Collection[str] = ()) -> StepOutput:
        """Do as `forward`; with `given_masks` past masks are the clip's, not predicted.

        Where the clip has no label (IGNORED) they are predicted all the same.
        """

    @abstractmethod
    def propagator(self, *args: Any, **options: Any) -> Propagator:
        """Return the model on one video.

        options: memory, a rule in place of the model's own, and the family's. Raises ValueError on
        one that the family cannot follow.
        """

    def check_memory(self, memory: MemoryRule) -> None:
        """Raise InputError on a rule that the family cannot follow."""
        try:
            self.propagator(memory=memory)
        except ValueError as error:
            raise InputError(str(error)) from None

    def adapt_weights(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of an older layout of this model in today's; others as they are."""
        return dict(tensors)
