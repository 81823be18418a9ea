"""The photometric loss of training and its gradient, in one pass over the images."""

from typing import Any

import torch
from torch import Tensor

from gsplatloc_kernels import backends
from gsplatloc_kernels.checks import MAX_PIXELS, check_like


def photometric_loss(
    rendered: Tensor, target: Tensor, lambda_dssim: float, threads: int | None = None
) -> Tensor:
    """(1 - lambda) mean |x - y| + lambda (1 - SSIM) of images [3, H, W], differentiable in `rendered`.

    SSIM is that of Wang et al. (2004): an 11-tap Gaussian window of 1.5 pixels, zeros outside the image, for
    intensities in [0, 1]. Both images in float32 on one GPU, or in float32 or float64 on the CPU. `threads`:
    of the CPU, None = torch's number; the result does not depend on it. The gradient comes with the value,
    where one is wanted.

    Raises TypeError and ValueError for images that do not fit, ImportError for images on a GPU where the
    package was built without CUDA.
    """
    for name, image in {"rendered": rendered, "target": target}.items():
        check_like(name, image, "rendered", rendered)
    shape = list(rendered.shape)
    if len(shape) != 3 or shape[0] != 3 or not 0 < shape[1] * shape[2] <= MAX_PIXELS:
        raise ValueError(f"expected images of shape [3, H, W] with 1 to {MAX_PIXELS} pixels, found {shape}")
    if list(target.shape) != shape:
        raise ValueError(f"expected a target of shape {shape}, found {list(target.shape)}")
    backend = backends.backend_for(rendered.device)
    loss: Tensor = _PhotometricLoss.apply(backend, rendered, target.detach(), float(lambda_dssim), threads)
    return loss


class _PhotometricLoss(torch.autograd.Function):
    """backend, rendered, target, lambda_dssim, threads -> loss; the first pass finds the gradient as well."""

    @staticmethod
    def forward(
        ctx: Any,
        backend: backends.Backend,
        rendered: Tensor,
        target: Tensor,
        lambda_dssim: float,
        threads: int | None,
    ) -> Tensor:
        rendered, target = rendered.detach().contiguous(), target.contiguous()
        gradient = torch.empty_like(rendered) if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(gradient)
        return backend.photometric_loss(rendered, target, gradient, lambda_dssim, threads)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return None, gradient * grads[0], None, None, None
