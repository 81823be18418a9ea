"""The terms of the loss against their definitions."""

from types import ModuleType

import pytest
import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import native
from gsplatloc.mapping import losses, reference


def random_image(seed: int, height: int = 17, width: int = 23, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def ssim_by_definition(x: Tensor, y: Tensor) -> float:
    """Pixel by pixel, with an explicit two-dimensional window."""
    offsets = torch.arange(11, dtype=torch.float64) - 5
    window = torch.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window = window / window.sum()
    px, py = (torch.nn.functional.pad(image, (5, 5, 5, 5)) for image in (x, y))
    total = 0.0
    for channel in range(3):
        for row in range(x.shape[1]):
            for column in range(x.shape[2]):
                a = px[channel, row : row + 11, column : column + 11]
                b = py[channel, row : row + 11, column : column + 11]
                mx, my = (window * a).sum(), (window * b).sum()
                vx, vy = (window * a * a).sum() - mx**2, (window * b * b).sum() - my**2
                cov = (window * a * b).sum() - mx * my
                value = (2 * mx * my + 1e-4) * (2 * cov + 9e-4)
                total += (value / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))).item()
    return total / x.numel()


@pytest.mark.parametrize("implementation", [losses, reference])
def test_ssim_is_its_definition(implementation: ModuleType) -> None:
    x, y = random_image(0), random_image(1)
    assert implementation.ssim(x, y).item() == pytest.approx(ssim_by_definition(x, y), rel=1e-9)


@pytest.mark.parametrize("implementation", [losses, reference])
def test_ssim_of_an_image_with_itself_is_one(implementation: ModuleType) -> None:
    assert implementation.ssim(random_image(2), random_image(2)).item() == pytest.approx(1)


def test_ssims_gradient_is_that_of_finite_differences() -> None:
    x, y = random_image(3, 24, 4).requires_grad_(), random_image(4, 24, 4)
    assert torch.autograd.gradcheck(lambda image: losses.ssim(image, y), (x,), eps=1e-6, atol=1e-7)


def test_the_native_package_takes_what_it_can() -> None:
    package = pytest.importorskip("gsplatloc_kernels")
    for dtype in (torch.float32, torch.float64):
        assert native.package_for(torch.zeros(1, dtype=dtype)) is package
    assert native.package_for(torch.zeros(1, dtype=torch.bfloat16)) is None


def test_half_precision_is_left_to_torch() -> None:
    x, y = random_image(3), random_image(4)
    low = losses.photometric_loss(x.bfloat16(), y.bfloat16(), 0.2)
    assert low.dtype == torch.bfloat16
    assert low.item() == pytest.approx(losses.photometric_loss(x, y, 0.2).item(), rel=0.05)


def test_photometric_loss_weighs_both_terms() -> None:
    x, y = random_image(5), random_image(6)
    expected = 0.7 * (x - y).abs().mean() + 0.3 * (1 - losses.ssim(x, y))
    assert losses.photometric_loss(x, y, 0.3).item() == pytest.approx(expected.item())


def test_psnr_of_a_tenth_is_twenty_decibels() -> None:
    target = torch.full((3, 4, 4), 0.5)
    assert losses.psnr(target + 0.1, target) == pytest.approx(20, abs=1e-4)


def test_depth_counts_where_it_was_measured_and_the_map_is_opaque() -> None:
    depth = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    alpha = torch.tensor([[1.0, 1.0, 0.1, 1.0]])
    measured = torch.tensor([[1.5, 0.0, 9.0, 4.1]])
    assert losses.depth_loss(depth, alpha, measured).item() == pytest.approx((0.5 + 0.1) / 2, rel=1e-5)


def test_depth_without_a_measurement_is_no_loss() -> None:
    depth = torch.ones(2, 2, requires_grad=True)
    loss = losses.depth_loss(depth, torch.ones(2, 2), torch.zeros(2, 2))
    loss.backward()
    assert loss.item() == 0 and depth.grad is not None and not depth.grad.any()
