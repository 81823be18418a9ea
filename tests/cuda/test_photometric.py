"""The CUDA kernels of the photometric loss on the host shim, against the CPU's."""

from types import ModuleType

import pytest
import torch
from torch import Tensor

import gsplatloc_kernels as native
from tests.cuda.support import ORDERS, on_shim
from tests.rasterizer.test_photometric import images

# One pixel, less than a window, exactly one tile, ragged over several.
_SIZES = [(1, 1), (5, 3), (16, 32), (37, 70)]


def loss_and_gradient(rendered: Tensor, target: Tensor, weight: float = 0.3) -> tuple[Tensor, Tensor]:
    x = rendered.detach().requires_grad_()
    loss = native.photometric_loss(x, target, weight)
    return loss.detach(), torch.autograd.grad(loss, x)[0]


def on_every_order(
    shim: ModuleType, rendered: Tensor, target: Tensor, weight: float = 0.3
) -> tuple[Tensor, Tensor]:
    """The result, which must be the same in every order of threads."""
    results = []
    for order in ORDERS:
        with on_shim(shim, order):
            results.append(loss_and_gradient(rendered, target, weight))
    assert all(torch.equal(loss, results[0][0]) for loss, _ in results)
    assert all(torch.equal(gradient, results[0][1]) for _, gradient in results)
    return results[0]


@pytest.mark.parametrize("size", _SIZES)
def test_loss_and_gradient_are_the_cpus(shim: ModuleType, size: tuple[int, int]) -> None:
    rendered, target = images(*size)
    expected, expected_gradient = loss_and_gradient(rendered, target)
    loss, gradient = on_every_order(shim, rendered.float(), target.float())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (gradient - expected_gradient).abs().max() < 1e-5 * expected_gradient.abs().max()


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_each_term_can_stand_alone(shim: ModuleType, weight: float) -> None:
    rendered, target = images(17, 23, torch.float32)
    expected, expected_gradient = loss_and_gradient(rendered, target, weight)
    loss, gradient = on_every_order(shim, rendered, target, weight)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(gradient, expected_gradient, atol=1e-5 * expected_gradient.abs().max().item())


def test_the_loss_alone_is_the_same(shim: ModuleType) -> None:
    rendered, target = images(37, 70, torch.float32)
    with on_shim(shim):
        loss = native.photometric_loss(rendered, target, 0.3)
        assert shim.launches() == 2
        assert torch.equal(loss, loss_and_gradient(rendered, target)[0])


def test_the_host_does_not_wait(shim: ModuleType) -> None:
    with on_shim(shim):
        loss_and_gradient(*images(17, 23, torch.float32))
        assert shim.launches() == 3 and shim.synchronizations() == 0
