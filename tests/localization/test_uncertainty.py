"""Covariances from information matrices, and back."""

import torch

from localization.uncertainty import OBSERVATIONS_PER_ERROR, covariance_of, information_of


def some_information() -> torch.Tensor:
    """A positive matrix whose axes differ as metres and radians do."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64) * torch.tensor([1e3] * 3 + [1e5] * 3)
    return root.T @ root


def test_covariance_is_the_inverse_widened_by_shared_errors() -> None:
    information = some_information()
    expected = OBSERVATIONS_PER_ERROR * torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(covariance_of(information) @ information, expected)


def test_information_is_recovered_from_the_covariance() -> None:
    information = some_information()
    torch.testing.assert_close(information_of(covariance_of(information)), information)


def test_a_direction_that_nothing_observes_is_very_uncertain() -> None:
    information = some_information()
    information[2], information[:, 2] = 0, 0
    covariance = covariance_of(information)
    assert covariance[2, 2] > 1e6
    assert (covariance.diagonal()[[0, 1, 3, 4, 5]] < 1e-2).all()


def test_no_covariance_is_no_information() -> None:
    assert not information_of(None).any()
