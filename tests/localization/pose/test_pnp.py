"""Pose estimation on matches whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.options import PnPOptions
from gsplatloc.localization.pose.pnp import estimate_pose, pose_information, projection_jacobian, verify_pose
from gsplatloc.localization.pose.reprojection import inlier_threshold_px, pixel_scale
from gsplatloc.localization.result import Matches, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.world import CAMERA, TRUTH, World, make_world, pose_errors


def test_exact_matches_give_the_exact_pose() -> None:
    world = make_world(noise_px=0.0, outliers=0)
    estimate = estimate_pose(world.pixels, world.points, CAMERA)
    translation, rotation = pose_errors(estimate.pose(), TRUTH)
    assert translation < 1e-5  # pixels and points pass through float32
    assert rotation < 1e-3
    assert estimate.inliers == 200


def test_outliers_are_no_inliers(world: World) -> None:
    estimate = estimate_pose(world.pixels, world.points, CAMERA)
    translation, rotation = pose_errors(estimate.pose(), TRUTH)
    assert translation < 0.01
    assert rotation < 0.1
    assert estimate.matches is not None
    assert estimate.matches.inliers[40:].all()
    assert estimate.matches.inliers[:40].sum() <= 2
    assert estimate.inliers == estimate.matches.inliers.sum()


def test_unknown_focal_length_is_found() -> None:
    camera = Camera(640, 480, 525.0, 525.0, 320.0, 240.0)
    world = make_world(outliers=0)
    in_cam = torch.from_numpy(world.points) @ TRUTH[:3, :3].T + TRUTH[:3, 3]
    pixels = camera.project(in_cam).numpy()
    wrong = replace(camera, fx=900.0, fy=900.0)
    estimate = estimate_pose(pixels, world.points, wrong, focal_known=False)
    assert estimate.camera.fx == pytest.approx(525.0, rel=1e-3)
    assert estimate.camera.fy == estimate.camera.fx
    assert pose_errors(estimate.pose(), TRUTH)[0] < 1e-2


def test_same_matches_give_the_same_pose(world: World) -> None:
    first, second = (estimate_pose(world.pixels, world.points, CAMERA) for _ in range(2))
    assert torch.equal(first.pose(), second.pose())


@pytest.mark.parametrize("count", [0, 3, 7])
def test_too_few_matches_are_a_status(world: World, count: int) -> None:
    estimate = estimate_pose(world.pixels[:count], world.points[:count], CAMERA)
    assert estimate.status is Status.TOO_FEW_MATCHES
    assert estimate.cam_from_world is None


@pytest.mark.parametrize("focal_known", [True, False])
def test_random_matches_have_no_consensus(focal_known: bool) -> None:
    rng = np.random.default_rng(0)
    pixels, points = rng.uniform(0, 480, (60, 2)), rng.normal(size=(60, 3))
    options = PnPOptions(max_iterations=1000)
    estimate = estimate_pose(pixels, points, CAMERA, options, focal_known)
    assert estimate.status is Status.NO_CONSENSUS
    assert not estimate.ok


def test_thresholds_grow_with_the_image() -> None:
    """Twice the image with twice the noise has the same inliers."""
    world = make_world(noise_px=1.5)
    small = estimate_pose(world.pixels, world.points, CAMERA)
    large = estimate_pose(2 * world.pixels, world.points, CAMERA.resized(1280, 960))
    assert pixel_scale(CAMERA.resized(1280, 960)) == 2
    assert inlier_threshold_px(CAMERA.resized(1280, 960)) == 2 * inlier_threshold_px(CAMERA)
    assert abs(small.inliers - large.inliers) <= 2


def test_jacobian_agrees_with_finite_differences(world: World) -> None:
    in_cam = (torch.from_numpy(world.points) @ TRUTH[:3, :3].T + TRUTH[:3, 3])[:5]
    analytic = projection_jacobian(in_cam, CAMERA)
    step = 1e-6
    for axis in range(6):
        xi = torch.zeros(6, dtype=torch.float64)
        xi[axis] = step
        pixels = []
        for motion in (se3.se3_exp(xi), se3.se3_exp(-xi)):
            pixels.append(CAMERA.project(in_cam @ motion[:3, :3].T + motion[:3, 3]))
        numeric = (pixels[0] - pixels[1]) / (2 * step)
        torch.testing.assert_close(analytic[:, :, axis], numeric, rtol=1e-6, atol=1e-5)


def all_inliers(world: World) -> Matches:
    return Matches(world.pixels, world.points, np.ones(len(world.pixels), bool))


def test_a_pose_found_otherwise_is_verified_as_one_from_pnp(world: World) -> None:
    right = verify_pose(TRUTH, all_inliers(world), CAMERA)
    assert right.ok and right.covariance is not None and right.matches is not None
    assert right.inliers == right.matches.inliers.sum() < 170  # 40 matches are wrong
    far = se3.se3_exp(torch.tensor([0.5, 0, 0, 0, 0, 0], dtype=torch.float64)) @ TRUTH
    assert verify_pose(far, all_inliers(world), CAMERA).status is Status.NO_CONSENSUS
    few = Matches(world.pixels[:5], world.points[:5], np.ones(5, bool))
    assert verify_pose(TRUTH, few, CAMERA).status is Status.TOO_FEW_MATCHES


def test_information_matches_the_spread_of_estimates() -> None:
    """Mahalanobis distances of true poses to estimates have the mean of a chi-square with 6 degrees."""
    distances = []
    for seed in range(40):
        world = make_world(noise_px=1.0, outliers=0, seed=seed)
        estimate = estimate_pose(world.pixels, world.points, CAMERA, PnPOptions(loss_scale_px=10.0))
        xi = se3.se3_log(TRUTH @ se3.inverse(estimate.pose()))
        information = pose_information(estimate.pose(), CAMERA, all_inliers(world))
        distances.append((xi @ information @ xi).item())
    assert 4.0 < np.mean(distances) < 9.0


def test_information_falls_with_the_square_of_the_noise() -> None:
    traces = []
    for noise in (0.5, 1.0):
        world = make_world(noise_px=noise, outliers=0)
        traces.append(pose_information(TRUTH, CAMERA, all_inliers(world)).trace().item())
    assert traces[0] / traces[1] == pytest.approx(4.0, rel=1e-3)


def test_the_covariance_matches_the_spread_of_estimates() -> None:
    """Half of the true poses lie within the median of a chi-square with 6 degrees, 5.3, or about so."""
    distances = []
    for seed in range(40):
        world = make_world(noise_px=1.0, outliers=0, seed=seed)
        estimate = estimate_pose(world.pixels, world.points, CAMERA)
        assert estimate.covariance is not None
        xi = se3.se3_log(TRUTH @ se3.inverse(estimate.pose()))
        distances.append((xi @ torch.linalg.solve(estimate.covariance, xi)).item())
    assert 2.0 < np.median(distances) < 10.0


def test_the_stated_error_grows_with_the_noise() -> None:
    stated = []
    for noise in (0.5, 1.0):
        world = make_world(noise_px=noise, outliers=0)
        estimate = estimate_pose(world.pixels, world.points, CAMERA)
        assert estimate.expected_translation_m is not None
        stated.append(estimate.expected_translation_m)
    assert stated[1] / stated[0] == pytest.approx(2.0, rel=0.3)


def test_points_on_one_ray_leave_the_pose_very_uncertain() -> None:
    """All of them are one pixel, which a turn about the ray does not move."""
    points = np.outer(np.linspace(1, 2, 50), [1.0, 1.0, 5.0])
    pixels = CAMERA.project(torch.from_numpy(points)).numpy()
    matches = reprojection.observe(torch.from_numpy(pixels), torch.from_numpy(points))
    covariance = reprojection.jackknifed(CAMERA, torch.eye(4, dtype=torch.float64), matches)
    assert covariance[3:, 3:].trace().sqrt().item() > 1.0  # radians


def test_points_on_one_ray_are_no_consensus() -> None:
    """They agree in one place of the image: once, not fifty times."""
    points = np.outer(np.linspace(1, 2, 50), [1.0, 1.0, 5.0])
    pixels = CAMERA.project(torch.from_numpy(points)).numpy()
    assert estimate_pose(pixels, points, CAMERA).status is Status.NO_CONSENSUS


def test_fewer_than_one_ransac_sample_is_a_user_error() -> None:
    with pytest.raises(GSplatLocError, match="--ransac_iters"):
        PnPOptions(max_iterations=0)
