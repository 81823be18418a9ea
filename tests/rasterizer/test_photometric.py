"""The fused photometric loss against the torch code that defines it."""

import pytest
import torch
from torch import Tensor

import gsplatloc_kernels as native
from gsplatloc.mapping import reference
from tests.rasterizer.support import available_isas

# One pixel, less than a window, ragged, several tiles in both directions.
_SIZES = [(1, 1), (5, 3), (17, 23), (101, 40), (20, 801), (200, 96)]


def images(height: int, width: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(height * width)
    target = torch.rand(3, height, width, generator=generator, dtype=torch.float64)
    noise = torch.rand(3, height, width, generator=generator, dtype=torch.float64) - 0.5
    return (target + 0.3 * noise).to(dtype), target.to(dtype)


def loss_and_gradient(loss: Tensor, rendered: Tensor) -> tuple[float, Tensor]:
    (gradient,) = torch.autograd.grad(loss, rendered)
    return loss.item(), gradient


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_loss_and_gradient_are_the_references(
    size: tuple[int, int], dtype: torch.dtype, tolerance: float
) -> None:
    rendered, target = images(*size, dtype)
    x, exact = rendered.requires_grad_(), rendered.detach().double().requires_grad_()
    expected, expected_gradient = loss_and_gradient(
        reference.photometric_loss(exact, target.double(), 0.3), exact
    )
    found, gradient = loss_and_gradient(native.photometric_loss(x, target, 0.3), x)
    assert found == pytest.approx(expected, rel=tolerance)
    assert (gradient - expected_gradient).abs().max() < tolerance * expected_gradient.abs().max()


def test_the_gradient_is_that_of_finite_differences() -> None:
    x, y = images(13, 7)
    assert torch.autograd.gradcheck(lambda image: native.photometric_loss(image, y, 0.4), x.requires_grad_())


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_each_term_can_stand_alone(weight: float) -> None:
    rendered, target = images(17, 23)
    expected = reference.photometric_loss(rendered, target, weight)
    assert native.photometric_loss(rendered, target, weight).item() == pytest.approx(expected.item())


def test_equal_pixels_have_no_gradient() -> None:
    """As of torch.abs, the derivative of the difference is zero at zero, and SSIM is at its maximum."""
    x = images(17, 23)[0].requires_grad_()
    assert loss_and_gradient(native.photometric_loss(x, x.detach(), 0.2), x)[1].abs().max() < 1e-15


def test_a_gradient_arrives_scaled_by_what_follows() -> None:
    rendered, target = images(17, 23)
    x = rendered.requires_grad_()
    once = loss_and_gradient(native.photometric_loss(x, target, 0.2), x)[1]
    assert torch.allclose(loss_and_gradient(3 * native.photometric_loss(x, target, 0.2), x)[1], 3 * once)


def test_results_do_not_depend_on_the_thread_count() -> None:
    rendered, target = images(200, 801, torch.float32)
    x = rendered.requires_grad_()
    one, two = (
        loss_and_gradient(native.photometric_loss(x, target, 0.2, threads=threads), x) for threads in (1, 2)
    )
    assert one[0] == two[0] and torch.equal(one[1], two[1])


def test_every_instruction_set_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered, target = images(101, 40, torch.float32)
    x = rendered.requires_grad_()
    found = []
    for isa in available_isas():
        monkeypatch.setenv("GSPLAT_ISA", isa)
        found.append(loss_and_gradient(native.photometric_loss(x, target, 0.2), x))
    for loss, gradient in found:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        assert (gradient - found[0][1]).abs().max() < 1e-5 * gradient.abs().max()


def test_images_need_not_be_contiguous() -> None:
    rendered, target = images(17, 23)
    turned = rendered.permute(0, 2, 1).contiguous().permute(0, 2, 1)
    assert native.photometric_loss(turned, target, 0.2) == native.photometric_loss(rendered, target, 0.2)


def test_nan_shows_in_the_loss() -> None:
    rendered, target = images(17, 23)
    rendered[1, 3, 4] = torch.nan
    assert native.photometric_loss(rendered, target, 0.2).isnan()


def test_images_that_do_not_fit_are_refused() -> None:
    rendered, target = images(17, 23)
    with pytest.raises(ValueError, match=r"shape \[3, 17, 23\]"):
        native.photometric_loss(rendered, target[:, :, 1:], 0.2)
    with pytest.raises(ValueError, match=r"\[3, H, W\]"):
        native.photometric_loss(rendered[:2], target[:2], 0.2)
    with pytest.raises(ValueError, match="pixels"):
        native.photometric_loss(rendered[:, :0], target[:, :0], 0.2)
    with pytest.raises(TypeError, match="float32"):
        native.photometric_loss(rendered, target.float(), 0.2)
    with pytest.raises(ValueError, match="meta"):
        native.photometric_loss(rendered, target.to("meta"), 0.2)
