"""Build networks without drawing their random weights, where others are loaded next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

DRAWS = frozenset(
    {
        Tensor.uniform_,
        Tensor.normal_,
        # These call the above out of the mode's sight.
        nn.init.uniform_,
        nn.init.normal_,
        nn.init.kaiming_uniform_,
        nn.init.kaiming_normal_,
    }
)


class Undrawn(TorchFunctionMode):
    """While it is entered, tensors that would be filled with random numbers are filled with 0."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, or fill with 0 what it would draw."""
        kwargs = kwargs or {}
        if func in DRAWS:
            tensor = args[0] if args else kwargs["tensor"]
            return tensor.detach().zero_()
        return func(*args, **kwargs)
