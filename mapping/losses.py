"""Terms of the training loss: colour, structure, descriptors and, optionally, depth."""

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import native
from gsplatloc.mapping import reference

_MIN_ALPHA = 0.5  # depth is supervised where the rendered alpha is at least this: elsewhere it is ill defined


def photometric_loss(rendered: Tensor, target: Tensor, lambda_dssim: float) -> Tensor:
    """(1 - lambda) L1 + lambda (1 - SSIM) of images [3, H, W] in [0, 1]; the target gets no gradient.

    SSIM: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural
    similarity" (2004), with an 11-tap Gaussian of 1.5 px, C1 = 0.01^2, C2 = 0.03^2.
    """
    if lambda_dssim == 0:
        return (rendered - target).abs().mean()
    implementation = native.package_for(rendered) or reference
    loss: Tensor = implementation.photometric_loss(rendered, target, lambda_dssim)
    return loss


def feature_loss(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of descriptor maps [D, h, w]."""
    return (rendered - target).abs().mean()


def depth_loss(depth: Tensor, alpha: Tensor, measured: Tensor) -> Tensor:
    """Mean |depth - measured| in metres [H, W] where depth was measured (> 0) and alpha exceeds 0.5."""
    valid = (measured > 0) & (alpha.detach() > _MIN_ALPHA)
    # A mask times the residual instead of a selection needs no gather, and an empty mask gives 0, not NaN.
    return ((depth - measured).abs() * valid).sum() / valid.sum().clamp(min=1)


def ssim(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean structural similarity of images [3, H, W] in [0, 1]; differentiable in `rendered` only."""
    return 1 - photometric_loss(rendered, target, 1.0)


def psnr(rendered: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1], the rendered one clamped."""
    error = (rendered.clamp(0, 1) - target).square().mean().item()
    return -10 * torch.tensor(max(error, 1e-12)).log10().item()
