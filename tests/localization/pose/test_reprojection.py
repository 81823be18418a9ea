"""Robust reprojection: derivatives, recovery, and what weights and noise mean."""

import pytest
import torch
from torch import Tensor

from gsplatloc.localization.pose import reprojection
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3

CAMERA = Camera(640, 480, 525.0, 530.0, 310.0, 250.0)


def _scene(count: int = 200, noise: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """A pose [4, 4], world points [N, 3] in front of it and their (noisy) pixels [N, 2]."""
    generator = torch.Generator().manual_seed(7)
    pose = se3.se3_exp(torch.tensor([0.2, -0.1, 0.3, 0.1, -0.2, 0.05], dtype=torch.float64))
    depth = 1 + 3 * torch.rand(count, generator=generator, dtype=torch.float64)
    size = torch.tensor([640, 480], dtype=torch.float64)
    pixels = torch.rand(count, 2, generator=generator, dtype=torch.float64) * size
    points = (CAMERA.unproject(pixels, depth) - pose[:3, 3]) @ pose[:3, :3]
    return pose, points, pixels + noise * torch.randn(count, 2, generator=generator, dtype=torch.float64)


def _moved(pose: Tensor, amount: float) -> Tensor:
    return se3.se3_exp(amount * torch.tensor([1, -1, 1, 0.5, 0.5, -0.5], dtype=torch.float64)) @ pose


def test_the_gradient_is_that_of_the_robust_cost() -> None:
    pose, points, pixels = _scene(noise=2.0)
    observations = reprojection.observe(pixels, points, sigma=1.5)
    pose = _moved(pose, 0.005)
    _, gradient = reprojection.normal_equations(CAMERA, pose, observations)
    step = 1e-6
    for axis in range(6):
        xi = torch.zeros(6, dtype=torch.float64)
        xi[axis] = step
        up, down = (
            reprojection.cost(CAMERA, se3.se3_exp(sign * xi) @ pose, observations) for sign in (1, -1)
        )
        numeric = (up - down) / (2 * step) * len(observations)  # cost() is the mean
        assert gradient[axis].item() == pytest.approx(numeric, rel=1e-4, abs=1e-3)


def test_the_pose_is_recovered_exactly_without_noise() -> None:
    pose, points, pixels = _scene()
    found, _ = reprojection.minimise(CAMERA, _moved(pose, 0.005), reprojection.observe(pixels, points, 3.0))
    torch.testing.assert_close(found, pose, rtol=0, atol=1e-7)


def test_a_third_of_wrong_matches_is_ignored() -> None:
    pose, points, pixels = _scene()
    pixels = pixels.clone()
    pixels[::3] += torch.tensor([20.0, -12.0])
    found, _ = reprojection.minimise(CAMERA, _moved(pose, 0.002), reprojection.observe(pixels, points, 1.0))
    torch.testing.assert_close(found, pose, rtol=0, atol=5e-4)


def test_the_information_predicts_the_spread_of_the_pose() -> None:
    pose, points, _ = _scene(100)
    local = points @ pose[:3, :3].T + pose[:3, 3]
    generator = torch.Generator().manual_seed(1)
    squares = []
    for _ in range(40):
        noise = torch.randn(100, 2, generator=generator, dtype=torch.float64)
        observations = reprojection.observe(CAMERA.project(local) + noise, points, 1.0)
        found, information = reprojection.minimise(CAMERA, pose, observations)
        xi = se3.se3_log(found @ se3.inverse(pose))
        squares.append((xi @ information @ xi).item())
    # Six degrees of freedom; the robust weights see a little less information than there is.
    assert 3.0 < sum(squares) / len(squares) < 7.0


def test_a_half_weight_counts_half() -> None:
    pose, points, pixels = _scene(noise=0.5)
    whole, _ = reprojection.normal_equations(CAMERA, pose, reprojection.observe(pixels, points))
    half, _ = reprojection.normal_equations(CAMERA, pose, reprojection.observe(pixels, points, weight=0.5))
    torch.testing.assert_close(2 * half, whole)


def test_the_less_noisy_of_two_contradicting_sets_wins() -> None:
    pose, points, pixels = _scene()
    other = _moved(pose, 0.002)
    shifted = CAMERA.project(points @ other[:3, :3].T + other[:3, 3])
    joint = reprojection.join(
        reprojection.observe(pixels, points, sigma=0.5), reprojection.observe(shifted, points, sigma=5.0)
    )
    found, _ = reprojection.minimise(CAMERA, pose, joint)
    distance = torch.linalg.norm(se3.se3_log(found @ se3.inverse(pose)))
    assert distance < 0.05 * torch.linalg.norm(se3.se3_log(other @ se3.inverse(pose)))


def test_points_behind_the_camera_are_infinitely_wrong_and_weigh_nothing() -> None:
    pose, points, pixels = _scene(20)
    behind = (torch.tensor([[0.0, 0.0, -1.0]], dtype=torch.float64) - pose[:3, 3]) @ pose[:3, :3]
    extended = reprojection.observe(torch.cat([pixels, pixels[:1]]), torch.cat([points, behind]))
    assert reprojection.errors_px(CAMERA, pose, extended)[-1] == float("inf")
    with_it, _ = reprojection.normal_equations(CAMERA, pose, extended)
    without, _ = reprojection.normal_equations(CAMERA, pose, reprojection.observe(pixels, points))
    torch.testing.assert_close(with_it, without)


def test_noise_is_measured_per_coordinate() -> None:
    pose, points, pixels = _scene(2000, noise=1.7)
    errors = reprojection.errors_px(CAMERA, pose, reprojection.observe(pixels, points))
    assert reprojection.noise_px(errors) == pytest.approx(1.7, rel=0.05)


def test_matches_behind_the_camera_move_nothing() -> None:
    pose, points, pixels = _scene(20)
    behind = (torch.tensor([[0.0, 0.0, -1.0]], dtype=torch.float64) - pose[:3, 3]) @ pose[:3, :3]
    found, information = reprojection.minimise(
        CAMERA, pose, reprojection.observe(pixels, behind.expand(20, 3))
    )
    torch.testing.assert_close(found, pose)
    assert not information.any()
