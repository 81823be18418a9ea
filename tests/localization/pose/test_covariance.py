"""Covariances follow the errors, whether observations err apart or together."""

import pytest
import torch
from torch import Tensor

from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.covariance import (
    OBSERVATIONS_PER_ERROR,
    Known,
    Parts,
    PartSums,
    apart,
    bend,
    covariance_of,
    jackknife,
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


def errors_apart(pixels: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(pixels.shape, generator=generator, dtype=torch.float64)


def shared_errors(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Nine tenths of each error, squared, are those of all matches in the same square."""
    squares = (pixels / SIDE).long()
    common = torch.randn(16, 16, 2, generator=generator, dtype=torch.float64)
    own = errors_apart(pixels, generator)
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


@pytest.mark.parametrize("draw", [errors_apart, shared_errors])
def test_stated_errors_follow_the_found_ones_whatever_observations_share(draw) -> None:  # noqa: ANN001
    """No constant does this: what shares errors is 2.1 times as far off, and looks as noisy."""
    generator = torch.Generator().manual_seed(5)
    ratios = []
    for _ in range(40):
        pixels = torch.rand(MATCHES, 2, generator=generator, dtype=torch.float64)
        pixels = pixels * torch.tensor([CAMERA.width, CAMERA.height], dtype=torch.float64)
        found, stated = found_and_stated(draw(pixels, generator), pixels, generator)
        ratios.append(found / stated)
    assert 0.6 < 1.126 * torch.tensor(ratios).median().item() < 1.5  # the median of a normal vector's length


def test_parts_are_ninths_of_what_was_observed() -> None:
    x, y = torch.meshgrid(torch.arange(30.0), torch.arange(60.0), indexing="xy")
    pixels = torch.stack([x.flatten() + 100, y.flatten() + 7], 1)
    counts = Parts.around(pixels).index(pixels).bincount()
    assert len(counts) == 9
    assert counts.min() >= 180
    outside = torch.tensor([[0.0, 0.0], [1000.0, 1000.0]])
    assert Parts.around(pixels).index(outside).tolist() == [0, 8]


def sums_of(gradient: Tensor) -> PartSums:
    information = some_information().expand(9, 6, 6) / 9
    return PartSums(information, gradient)


def some_sums() -> PartSums:
    generator = torch.Generator().manual_seed(1)
    gradient = torch.randn(9, 6, generator=generator, dtype=torch.float64) * 1e3
    return sums_of(gradient - gradient.mean(0))


def test_parts_that_agree_leave_little_doubt() -> None:
    doubtful, sure = jackknife(some_sums()), jackknife(sums_of(torch.zeros(9, 6, dtype=torch.float64)))
    assert 0 < sure.trace() < 0.1 * doubtful.trace()


def test_one_part_alone_says_nothing_of_shared_errors() -> None:
    information = torch.zeros(9, 6, 6, dtype=torch.float64)
    information[4] = some_information()
    sums = PartSums(information, torch.zeros(9, 6, dtype=torch.float64))
    torch.testing.assert_close(jackknife(sums), covariance_of(some_information()))


def test_what_is_known_holds_where_too_few_parts_say_anything() -> None:
    information = torch.zeros(9, 6, 6, dtype=torch.float64)
    information[4] = torch.diag(torch.tensor([1e6] * 5 + [0.0], dtype=torch.float64))
    sums = PartSums(information, torch.zeros(9, 6, dtype=torch.float64))
    known = Known(1e6 * torch.eye(6, dtype=torch.float64), 1e-6 * torch.eye(6, dtype=torch.float64))
    assert 1e-6 < jackknife(sums, known)[5, 5] < 1e-4


def test_an_estimate_that_says_nothing_changes_nothing() -> None:
    nothing = torch.zeros(6, 6, dtype=torch.float64)
    known = Known(nothing, torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(jackknife(some_sums(), known), jackknife(some_sums()), rtol=1e-6, atol=0)


def test_an_estimate_that_decides_gives_its_own_covariance() -> None:
    stated = 1e-3 * torch.linalg.inv(some_information())
    known = Known(1e6 * torch.linalg.inv(stated), stated)
    covariance = jackknife(some_sums(), known)
    torch.testing.assert_close(covariance.trace(), stated.trace(), rtol=1e-2, atol=0)


@pytest.mark.parametrize("coordinates", [1, 2])
def test_the_bend_is_that_of_the_robust_cost(coordinates: int) -> None:
    """Against second derivatives by automatic differentiation, for one length of residual."""
    residual = torch.full((coordinates,), 0.6, dtype=torch.float64)

    def cost(r: Tensor) -> Tensor:
        s = (r @ r) / 4
        return 2 * s / (1 + s)

    hessian = torch.autograd.functional.hessian(cost, residual)
    square = residual @ residual / 4
    assert isinstance(hessian, Tensor)
    expected = (hessian.trace() / coordinates * (1 + square) ** 2).item()
    assert bend(square[None], coordinates) == pytest.approx(expected, rel=1e-6)


def test_covariance_is_the_inverse_widened_by_shared_errors() -> None:
    information = some_information()
    expected = OBSERVATIONS_PER_ERROR * torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(covariance_of(information) @ information, expected)


def test_what_errors_apart_would_say_is_recovered_from_the_covariance() -> None:
    information = some_information()
    torch.testing.assert_close(apart(covariance_of(information)), information)


def test_a_direction_that_nothing_observes_is_very_uncertain() -> None:
    information = some_information()
    information[2], information[:, 2] = 0, 0
    covariance = covariance_of(information)
    assert covariance[2, 2] > 1e6
    assert (covariance.diagonal()[[0, 1, 3, 4, 5]] < 1e-2).all()
