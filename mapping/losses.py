"""What training minimises: colour, structure, descriptors and, where asked for, depth.

Structural similarity follows Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error
visibility to structural similarity" (2004): an 11-tap Gaussian of 1.5 px, C1 = 0.01^2, C2 = 0.03^2.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.errors import GSplatLocError

_HALF, _SIGMA = 5, 1.5  # pixels: half the window's width, its standard deviation
_STRIP_PIXELS = 1 << 16  # of a strip: fifteen float32 planes of it are 4 MB
_C1, _C2 = 0.01**2, 0.03**2  # for intensities in [0, 1]
_MIN_ALPHA = 0.5  # depth is supervised where the map is at least this opaque: elsewhere it is ill defined


@dataclass(frozen=True)
class LossOptions:
    """Weights of the terms of the loss."""

    lambda_dssim: float = 0.2  # weight of 1 - SSIM; L1 has the rest (Kerbl et al. 2023)
    lambda_feature: float = 1.0  # weight of the L1 distance to XFeat's normalised maps (GSplatLoc)
    lambda_depth: float = 0.0  # weight of the L1 distance to measured depth, per metre; 0 = off
    feature_interval: int = 1  # iterations between two that train descriptors

    def __post_init__(self) -> None:
        if self.feature_interval < 1:
            raise GSplatLocError(f"expected --feature_interval of at least 1, found {self.feature_interval}")


def photometric_loss(rendered: Tensor, target: Tensor, lambda_dssim: float) -> Tensor:
    """(1 - lambda) L1 + lambda (1 - SSIM) of images [3, H, W] in [0, 1]; the target gets no gradient."""
    loss = (rendered - target).abs().mean()
    if lambda_dssim == 0:
        return loss
    return (1 - lambda_dssim) * loss + lambda_dssim * (1 - ssim(rendered, target))


def feature_loss(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of descriptor maps [D, h, w]."""
    return (rendered - target).abs().mean()


def depth_loss(depth: Tensor, alpha: Tensor, measured: Tensor) -> Tensor:
    """Mean |depth - measured| in metres [H, W] where depth was measured (> 0) and the map is opaque."""
    valid = (measured > 0) & (alpha.detach() > _MIN_ALPHA)
    # A mask times the residual instead of a selection: no gather, and an empty mask gives 0, not NaN.
    return ((depth - measured).abs() * valid).sum() / valid.sum().clamp(min=1)


def ssim(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean structural similarity of images [3, H, W] in [0, 1]; differentiable in `rendered` only."""
    value: Tensor = _MeanSsim.apply(rendered, target)
    return value


def psnr(rendered: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1], the rendered one clamped."""
    error = (rendered.clamp(0, 1) - target).square().mean().item()
    return -10 * torch.tensor(max(error, 1e-12)).log10().item()


class _MeanSsim(torch.autograd.Function):
    """Value and gradient together: the backward pass needs everything that the forward pass computes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        height, width = x.shape[1:]
        # On a CPU the intermediate planes of a whole image fall out of the cache: work in strips.
        rows = max(4 * _HALF, _STRIP_PIXELS // width) if x.device.type == "cpu" else height
        total, gradient = x.new_zeros(()), torch.empty_like(x)
        for first in range(0, height, rows):
            last = min(first + rows, height)
            begin, end = max(0, first - 2 * _HALF), min(height, last + 2 * _HALF)  # reach of two filterings
            similarity, by_x = _ssim_and_gradient(x[:, begin:end], y[:, begin:end])
            inner = slice(first - begin, last - begin)
            total += similarity[:, inner].sum()
            gradient[:, first:last] = by_x[:, inner]
        ctx.save_for_backward(gradient)
        return total / x.numel()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (grads[0] / gradient.numel()), None


def _ssim_and_gradient(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The similarity at every pixel [3, H, W], and the gradient by x of their sum.

    SSIM = A1 A2 / (B1 B2) with m = G*x, n = G*y,  A1 = 2mn + C1,  A2 = 2(G*xy - mn) + C2,
    B1 = m^2 + n^2 + C1,  B2 = G*x^2 - m^2 + G*y^2 - n^2 + C2. The Gaussian G is symmetric, so with P, Q, R
    the derivatives of SSIM by G*x, G*x^2 and G*xy the gradient is  G*P + 2x (G*Q) + y (G*R).
    """
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _blur([x, y, x * x, y * y, x * y])
    product, square_x, square_y = mean_x * mean_y, mean_x * mean_x, mean_y * mean_y
    a1, a2 = 2 * product + _C1, 2 * (mean_xy - product) + _C2
    b1, b2 = square_x + square_y + _C1, mean_xx - square_x + mean_yy - square_y + _C2
    scale = 1 / (b1 * b2)
    similarity = a1 * a2 * scale
    by_mean = 2 * (mean_y * (a2 - a1) * scale - mean_x * similarity * (1 / b1 - 1 / b2))
    mean, square, cross = _blur([by_mean, -similarity / b2, 2 * a1 * scale])
    return similarity, mean + 2 * x * square + y * cross


def _blur(images: list[Tensor]) -> list[Tensor]:
    """Images [3, H, W], each filtered by the Gaussian window, with zeros outside."""
    stacked = torch.cat(images)[None]
    if stacked.device.type == "cpu":  # several times faster there: oneDNN vectorises over channels
        stacked = stacked.to(memory_format=torch.channels_last)
    channels = stacked.shape[1]
    offsets = torch.arange(-_HALF, _HALF + 1, dtype=stacked.dtype, device=stacked.device)
    window = torch.softmax(-offsets.square() / (2 * _SIGMA**2), 0)
    rows = window.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    columns = window.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    blurred = F.conv2d(stacked, rows, padding=(0, _HALF), groups=channels)
    blurred = F.conv2d(blurred, columns, padding=(_HALF, 0), groups=channels)
    return list(blurred.contiguous()[0].split(3))
