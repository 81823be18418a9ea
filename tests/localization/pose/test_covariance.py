"""Covariances match the errors, whether residuals are independent or correlated."""

import pytest
import torch
from torch import Tensor

from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.covariance import (
    Grid,
    GridSums,
    Prior,
    assumed_covariance,
    assumed_information,
    jackknife,
    marginal_information,
)
from gsplatloc.localization.result import pose_errors
from gsplatloc.utils import se3
from tests.localization.world import CAMERA, TRUTH

MATCHES = 900
SIDE = 80.0  # pixels: neighbours that share an error in `shared_errors`


def some_information() -> Tensor:
    """A positive matrix whose axes differ as metres and radians do."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64) * torch.tensor([1e3] * 3 + [1e5] * 3)
    return root.T @ root


def independent_errors(pixels: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(pixels.shape, generator=generator, dtype=torch.float64)


def shared_errors(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Nine tenths of each error, squared, are those of all matches in the same square."""
    squares = (pixels / SIDE).long()
    common = torch.randn(16, 16, 2, generator=generator, dtype=torch.float64)
    own = independent_errors(pixels, generator)
    return 0.3 * own + 0.95 * common[squares[:, 0], squares[:, 1]]


def found_and_stated(errors: Tensor, pixels: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """Error in metres of the pose from matches that are off by `errors` [M, 2] px, and the stated one."""
    depth = torch.rand(len(pixels), generator=generator, dtype=torch.float64) * 4 + 1
    world_from_cam = se3.inverse(TRUTH)
    points = CAMERA.unproject(pixels, depth) @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
    observed = reprojection.observe(pixels + errors, points, 0.5)
    pose, _ = reprojection.minimise(CAMERA, TRUTH, observed)
    covariance = reprojection.jackknifed(CAMERA, pose, observed)
    return pose_errors(pose, TRUTH)[0], covariance[:3, :3].trace().sqrt().item()


@pytest.mark.parametrize("draw", [independent_errors, shared_errors])
def test_stated_errors_follow_the_found_ones_whatever_the_correlation(draw) -> None:  # noqa: ANN001
    """No constant does this: correlated errors move the pose 2.1 times as far, with the same residuals."""
    generator = torch.Generator().manual_seed(5)
    ratios = []
    for _ in range(40):
        pixels = torch.rand(MATCHES, 2, generator=generator, dtype=torch.float64)
        pixels = pixels * torch.tensor([CAMERA.width, CAMERA.height], dtype=torch.float64)
        found, stated = found_and_stated(draw(pixels, generator), pixels, generator)
        ratios.append(found / stated)
    assert 0.6 < 1.126 * torch.tensor(ratios).median().item() < 1.5  # the median of a normal vector's length


def test_cells_are_ninths_of_the_observed_part() -> None:
    x, y = torch.meshgrid(torch.arange(30.0), torch.arange(60.0), indexing="xy")
    pixels = torch.stack([x.flatten() + 100, y.flatten() + 7], 1)
    counts = Grid.over(pixels).index(pixels).bincount()
    assert len(counts) == 9
    assert counts.min() >= 180
    outside = torch.tensor([[0.0, 0.0], [1000.0, 1000.0]])
    assert Grid.over(pixels).index(outside).tolist() == [0, 8]


def sums_of(gradient: Tensor) -> GridSums:
    information = some_information().expand(9, 6, 6) / 9
    return GridSums(information, gradient)


def some_sums() -> GridSums:
    generator = torch.Generator().manual_seed(1)
    gradient = torch.randn(9, 6, generator=generator, dtype=torch.float64) * 1e3
    return sums_of(gradient - gradient.mean(0))


def test_cells_that_agree_give_a_small_covariance() -> None:
    large, small = jackknife(some_sums()), jackknife(sums_of(torch.zeros(9, 6, dtype=torch.float64)))
    assert 0 < small.trace() < 0.1 * large.trace()


def test_with_observations_in_one_cell_a_correlation_is_assumed() -> None:
    information = torch.zeros(9, 6, 6, dtype=torch.float64)
    information[4] = some_information()
    sums = GridSums(information, torch.zeros(9, 6, dtype=torch.float64))
    torch.testing.assert_close(jackknife(sums), assumed_covariance(some_information()))


def test_a_prior_counts_where_too_few_cells_hold_observations() -> None:
    information = torch.zeros(9, 6, 6, dtype=torch.float64)
    information[4] = torch.diag(torch.tensor([1e6] * 5 + [0.0], dtype=torch.float64))
    sums = GridSums(information, torch.zeros(9, 6, dtype=torch.float64))
    prior = Prior(1e6 * torch.eye(6, dtype=torch.float64), 1e-6 * torch.eye(6, dtype=torch.float64))
    assert 1e-6 < jackknife(sums, prior)[5, 5] < 1e-4


def test_a_prior_without_information_changes_nothing() -> None:
    nothing = torch.zeros(6, 6, dtype=torch.float64)
    prior = Prior(nothing, torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(jackknife(some_sums(), prior), jackknife(some_sums()), rtol=1e-6, atol=0)


def test_a_dominating_prior_gives_its_own_covariance() -> None:
    stated = 1e-3 * torch.linalg.inv(some_information())
    prior = Prior(1e6 * torch.linalg.inv(stated), stated)
    covariance = jackknife(some_sums(), prior)
    torch.testing.assert_close(covariance.trace(), stated.trace(), rtol=1e-2, atol=0)


def test_an_assumed_covariance_is_the_inverse_times_a_constant() -> None:
    information = some_information()
    product = assumed_covariance(information) @ information
    assert product[0, 0] > 1
    torch.testing.assert_close(product, product[0, 0] * torch.eye(6, dtype=torch.float64))


def test_the_information_is_recovered_from_an_assumed_covariance() -> None:
    information = some_information()
    torch.testing.assert_close(assumed_information(assumed_covariance(information)), information)


def test_unknown_exposure_lowers_the_information_of_the_pose() -> None:
    """The marginal information is the Schur complement."""
    root = torch.randn(8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    whole = root.T @ root
    expected = whole[:6, :6] - whole[:6, 6:] @ torch.linalg.solve(whole[6:, 6:], whole[6:, :6])
    torch.testing.assert_close(marginal_information(whole, 6), expected)


def test_a_direction_that_nothing_observes_is_very_uncertain() -> None:
    information = some_information()
    information[2], information[:, 2] = 0, 0
    covariance = assumed_covariance(information)
    assert covariance[2, 2] > 1e6
    assert (covariance.diagonal()[[0, 1, 3, 4, 5]] < 1e-2).all()
