"""Replace layers whose gradient torch computes slowly by equal ones that it computes fast."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Thinned(nn.Conv2d):
    """A strided depthwise convolution, trained at stride 1 and subsampled.

    Weights and result are those of the strided convolution, up to rounding. torch on a CPU has no
    fast bfloat16 kernel for the gradient of a strided depthwise convolution: a layer takes ten
    times as long as at stride 1, and those of a MobileNetV2 together a fifth of a whole step.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve as nn.Conv2d does; without gradient the result is equal to the bit."""
        if not torch.is_grad_enabled():
            return super().forward(x)
        dense = functional.conv2d(x, self.weight, self.bias, 1, self.padding, 1, self.groups)
        return dense[..., :: self.stride[0], :: self.stride[1]]


def thin_strided_depthwise(model: nn.Module) -> None:
    """Put a `Thinned` in place of every strided depthwise convolution on the CPU.

    The parameters stay the same objects under the same names, so an optimizer goes on with them.
    """
    for name, layer in list(model.named_modules()):
        if type(layer) is not nn.Conv2d or layer.groups == 1 or max(layer.stride) == 1:
            continue
        assert set(layer.dilation) == {1}
        if layer.weight.device.type == "cpu":
            thinned = Thinned(
                layer.in_channels,
                layer.out_channels,
                (layer.kernel_size[0], layer.kernel_size[1]),
                stride=(layer.stride[0], layer.stride[1]),
                padding=(int(layer.padding[0]), int(layer.padding[1])),
                groups=layer.groups,
                bias=layer.bias is not None,
                device="meta",
            )
            thinned.weight, thinned.bias = layer.weight, layer.bias
            thinned.train(layer.training)
            model.set_submodule(name, thinned)
