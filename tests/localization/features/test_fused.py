"""Convolutions and linear layers with their ReLU in one pass."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gsplatloc.localization.features import fused


@pytest.fixture(params=["fused", "plain"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With oneDNN's operations, where this torch has them, and as without."""
    if request.param == "plain":
        monkeypatch.setattr(fused, "has_fused", lambda: False)
    elif not fused.has_fused():
        pytest.skip("this torch has no oneDNN")


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("stride", "padding", "kernel"), [(1, 1, 3), (2, 1, 3), (1, 0, 1)])
@torch.no_grad()
def test_a_convolution_is_that_of_torch_with_its_relu(
    dtype: torch.dtype, stride: int, padding: int, kernel: int
) -> None:
    torch.manual_seed(kernel + stride)
    layer = nn.Conv2d(24, 8, kernel, stride, padding).to(dtype)
    x = torch.randn(1, 24, 14, 18).to(dtype).to(memory_format=torch.channels_last)
    tolerance = 1e-5 if dtype is torch.float32 else 1e-2
    assert torch.allclose(fused.ConvolutionReLU(layer)(x), layer(x).relu(), atol=tolerance)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("relu", [False, True])
@torch.no_grad()
def test_a_linear_layer_is_that_of_torch(relu: bool) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(50, 64), torch.randn(65, 64), torch.randn(65)
    wanted = F.linear(x, weight, bias)
    assert torch.allclose(fused.linear(x, weight, bias, relu), wanted.relu() if relu else wanted, atol=1e-4)


def test_gradients_and_other_types_take_torch_s_own_operations() -> None:
    layer = nn.Conv2d(2, 3, 3)
    x = torch.randn(1, 2, 5, 5, requires_grad=True)
    fused.ConvolutionReLU(layer)(x).sum().backward()
    assert x.grad is not None
    with torch.no_grad():
        layer, x = layer.double(), x.detach().double()
        assert torch.equal(fused.ConvolutionReLU(layer)(x), layer(x).relu())
