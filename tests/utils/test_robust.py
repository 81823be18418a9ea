"""The robust cost and its derivatives, on numbers, arrays and tensors."""

import numpy as np
import pytest
import torch
from torch import Tensor

from gsplatloc.utils import robust


def test_small_residuals_cost_what_gaussian_noise_costs_and_large_ones_at_most_two() -> None:
    sigma = 0.5
    assert robust.cost((0.01 / (2 * sigma)) ** 2) == pytest.approx(0.01**2 / (2 * sigma**2), rel=1e-3)
    assert 1.99 < robust.cost((100 / (2 * sigma)) ** 2) < 2


def test_numbers_arrays_and_tensors_are_treated_alike() -> None:
    squares = [0.0, 0.3, 7.0]
    for function in (robust.cost, robust.weight):
        expected = [function(square) for square in squares]
        np.testing.assert_allclose(function(np.array(squares)), expected)
        torch.testing.assert_close(function(torch.tensor(squares)), torch.tensor(expected))


def test_the_weight_is_the_derivative_of_the_cost_divided_by_the_residual() -> None:
    sigma = 0.7
    residual = torch.tensor([0.1, 0.6, 3.0], dtype=torch.float64, requires_grad=True)
    robust.cost((residual / (2 * sigma)) ** 2).sum().backward()
    expected = robust.weight((residual.detach() / (2 * sigma)) ** 2) * residual.detach() / sigma**2
    torch.testing.assert_close(residual.grad, expected)


@pytest.mark.parametrize("coordinates", [1, 2])
def test_the_curvature_is_that_of_the_cost(coordinates: int) -> None:
    """Against second derivatives by automatic differentiation, for one length of residual."""
    residual = torch.full((coordinates,), 0.6, dtype=torch.float64)

    def cost(r: Tensor) -> Tensor:
        return robust.cost((r @ r) / 4)

    hessian = torch.autograd.functional.hessian(cost, residual)
    square = residual @ residual / 4
    assert isinstance(hessian, Tensor)
    expected = (hessian.trace() / coordinates / robust.weight(square)).item()
    assert robust.curvature(square[None], coordinates) == pytest.approx(expected, rel=1e-6)


def test_outliers_keep_a_tenth_of_the_curvature() -> None:
    assert robust.curvature(torch.full((5,), 1e6), 2) == robust.curvature(torch.zeros(0), 2) == 0.1
