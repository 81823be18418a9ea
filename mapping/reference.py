"""The photometric loss and Adam in plain PyTorch: slow, readable, on any device.

The native package has equivalent functions of the same names. These are the reference of its tests, and run
where the native package does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_HALF, _SIGMA = 5, 1.5  # pixels: half the window's width, its standard deviation
_C1, _C2 = 0.01**2, 0.03**2  # for intensities in [0, 1]


def photometric_loss(rendered: Tensor, target: Tensor, lambda_dssim: float) -> Tensor:
    """(1 - lambda) L1 + lambda (1 - SSIM) of images [3, H, W] in [0, 1]."""
    difference = (rendered - target).abs().mean()
    return (1 - lambda_dssim) * difference + lambda_dssim * (1 - ssim(rendered, target))


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Mean structural similarity of images [3, H, W] in [0, 1] (Wang et al. 2004), zeros outside of them."""
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _blur([x, y, x * x, y * y, x * y])
    product, square_x, square_y = mean_x * mean_y, mean_x * mean_x, mean_y * mean_y
    numerator = (2 * product + _C1) * (2 * (mean_xy - product) + _C2)
    variances = mean_xx - square_x + mean_yy - square_y
    return (numerator / ((square_x + square_y + _C1) * (variances + _C2))).mean()


def _blur(images: list[Tensor]) -> tuple[Tensor, ...]:
    """Images [3, H, W], each filtered by the Gaussian window, with zeros outside."""
    stacked = torch.cat(images)[:, None]
    offsets = torch.arange(-_HALF, _HALF + 1, dtype=stacked.dtype, device=stacked.device)
    window = torch.softmax(-offsets.square() / (2 * _SIGMA**2), 0)
    blurred = F.conv2d(stacked, window.view(1, 1, 1, -1), padding=(0, _HALF))
    return F.conv2d(blurred, window.view(1, 1, -1, 1), padding=(_HALF, 0))[:, 0].split(3)


@dataclass(frozen=True)
class AdamParameter:
    """One parameter [N, ...] and its moments, changed in place by a step."""

    value: Tensor
    gradient: Tensor
    exp_avg: Tensor  # running mean of the gradient
    exp_avg_sq: Tensor  # running mean of its square
    lr: float  # learning rate
    step: int  # number of this step, from 1
    visible: Tensor | None = None  # [N] bool, rows that take part; None = all


def adam_step(parameters: Sequence[AdamParameter], betas: tuple[float, float], eps: float) -> None:
    """Step parameters by Adam (Kingma, Ba 2015); values and moments of invisible rows stay as they are."""
    with torch.no_grad():
        for parameter in parameters:
            _step(parameter, betas, eps)


def _step(parameter: AdamParameter, betas: tuple[float, float], eps: float) -> None:
    gradient, visible = parameter.gradient, parameter.visible
    mean = parameter.exp_avg.lerp(gradient, 1 - betas[0])
    square = parameter.exp_avg_sq * betas[1] + (1 - betas[1]) * gradient * gradient
    mean_bias, square_bias = (1 - beta**parameter.step for beta in betas)
    value = parameter.value - parameter.lr / mean_bias * mean / (square / square_bias).sqrt().add(eps)
    for old, new in ((parameter.value, value), (parameter.exp_avg, mean), (parameter.exp_avg_sq, square)):
        if visible is not None:
            new = torch.where(visible.view(-1, *[1] * (old.ndim - 1)), new, old)
        old.copy_(new)
