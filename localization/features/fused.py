"""Convolutions and linear layers with their ReLU in one pass, where torch brings oneDNN.

torch applies a ReLU in a pass of its own over the output; oneDNN, the library of its convolutions, can apply
it while it writes. The operations used here are those that torch's compiler puts in the place of both. Values
are equal up to rounding; on the CPU with one thread, features of 40 RedKitchen queries were bit-equal. XFeat
saves a tenth of its time.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvolutionReLU(nn.Module):
    """The ReLU of a convolution, for inference."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, D, H', W']."""
        layer = self.convolution
        if not _is_fused(x):
            return layer(x).relu_()
        padding, stride, dilation = (list(size) for size in (layer.padding, layer.stride, layer.dilation))
        given = x, layer.weight, layer.bias, padding, stride, dilation, layer.groups
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise(*given, *_RELU)
        return fused


_Operation = tuple[str, list[float], str]  # name, arguments and variant of what oneDNN applies to the output
_NOTHING: _Operation = ("none", [], "")
_RELU: _Operation = ("relu", [], "")


def linear(x: Tensor, weight: Tensor, bias: Tensor, relu: bool = False) -> Tensor:
    """x [N, C] times weight [D, C] transposed, plus bias [D], and of that the ReLU if asked for: [N, D]."""
    if _is_fused(x):
        after = _RELU if relu else _NOTHING
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, *after)
        return fused
    found = F.linear(x, weight, bias)
    return found.relu_() if relu else found


def _is_fused(x: Tensor) -> bool:
    """Whether oneDNN's operations take x: on the CPU, in its types, without gradients, which they lack."""
    known = x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)
    return known and not torch.is_grad_enabled() and has_fused()


@cache
def has_fused() -> bool:
    """True if this torch has the operations, and they take what is given to them here."""
    one = torch.ones(1, 1, 1, 1)
    try:
        torch.ops.mkldnn._convolution_pointwise(one, one, one[0, 0, 0], [0, 0], [1, 1], [1, 1], 1, *_RELU)
        torch.ops.mkldnn._linear_pointwise(one[0, 0], one[0, 0], one[0, 0, 0], *_RELU)
    except (AttributeError, RuntimeError, TypeError):  # not oneDNN, or another version of the operations
        return False
    return True
