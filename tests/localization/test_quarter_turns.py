"""An image turned in its plane is localized as the upright one is."""

import numpy as np
import pytest
import torch

from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.pnp import estimate_pose
from gsplatloc.localization.quarter_turns import turn_camera, turn_estimate, turn_image
from tests.localization.world import CAMERA, TRUTH, World


@pytest.mark.parametrize("quarters", [0, 1, 2, 3, 4])
def test_pixels_of_points_turn_with_the_image(quarters: int) -> None:
    points = torch.tensor([[0.311, -0.207, 2.0], [-0.513, 0.404, 3.0]], dtype=torch.float64)
    image = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
    for x, y in CAMERA.project(points).tolist():
        image[int(y), int(x)] = 255
    turned, camera = turn_image(image, quarters), turn_camera(CAMERA, quarters)
    assert turned.shape[:2] == (camera.height, camera.width)
    pose = torch.eye(4, dtype=torch.float64)
    for _ in range(quarters):
        pose = torch.tensor([[0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).double() @ pose
    for x, y in camera.project(points @ pose[:3, :3].T).tolist():
        assert turned[int(y), int(x)].all()


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_an_estimate_turned_there_and_back_is_the_same(world: World, quarters: int) -> None:
    found = estimate_pose(world.pixels, world.points, CAMERA)
    turned = turn_estimate(found, quarters)
    back = turn_estimate(turned, 4 - quarters)
    torch.testing.assert_close(back.pose(), found.pose())
    torch.testing.assert_close(back.covariance, found.covariance)
    assert back.camera == found.camera and back.matches is not None and found.matches is not None
    np.testing.assert_allclose(back.matches.pixels, found.matches.pixels)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_matches_of_a_turned_estimate_agree_with_its_pose(world: World, quarters: int) -> None:
    turned = turn_estimate(estimate_pose(world.pixels, world.points, CAMERA), quarters)
    assert turned.matches is not None
    observed = reprojection.observe(
        torch.from_numpy(turned.matches.pixels), torch.from_numpy(turned.matches.points)
    )
    errors = reprojection.errors_px(turned.camera, turned.pose(), observed).numpy()
    assert np.median(errors[turned.matches.inliers]) < 2
    center = -turned.pose()[:3, :3].T @ turned.pose()[:3, 3]
    truth = -TRUTH[:3, :3].T @ TRUTH[:3, 3]
    assert torch.linalg.norm(center - truth) < 0.02


def test_the_variance_along_an_axis_turns_with_it(world: World) -> None:
    found = estimate_pose(world.pixels, world.points, CAMERA)
    turned = turn_estimate(found, 1)
    assert found.covariance is not None and turned.covariance is not None
    assert turned.covariance[0, 0] == pytest.approx(found.covariance[1, 1].item())
    assert turned.covariance[4, 4] == pytest.approx(found.covariance[3, 3].item())
