"""Images, cameras and estimates turned by quarter turns in the image plane.

Phones are turned, and local features are not invariant to it. A quarter turn counterclockwise takes the pixel
(x, y) of an image of width W to (y, W - x), and so camera coordinates (X, Y, Z) to (Y, -X, Z).
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.queries import CameraPrior
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3

_TURN = torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)


def turn_image(image: np.ndarray, quarters: int) -> np.ndarray:
    """An image [H, W, 3] turned counterclockwise."""
    return np.rot90(image, quarters).copy()  # also of one pixel, whose strides stay negative otherwise


def turn_known(camera: Camera | CameraPrior, quarters: int) -> Camera | CameraPrior:
    """What is known of the camera of the turned image."""
    if isinstance(camera, CameraPrior):
        return replace(camera, camera=turn_camera(camera.camera, quarters))
    return turn_camera(camera, quarters)


def turn_camera(camera: Camera, quarters: int) -> Camera:
    """The camera of the turned image."""
    for _ in range(quarters % 4):
        camera = Camera(
            camera.height, camera.width, camera.fy, camera.fx, camera.cy, camera.width - camera.cx
        )
    return camera


def turn_estimate(estimate: PoseEstimate, quarters: int) -> PoseEstimate:
    """The estimate of the turned image, with its pose, covariance, information and matches."""
    for _ in range(quarters % 4):
        estimate = _turned(estimate)
    return estimate


def _turned(estimate: PoseEstimate) -> PoseEstimate:
    pose, matches = estimate.cam_from_world, estimate.matches
    if pose is not None:
        pose = se3.from_rotation_translation(_TURN, torch.zeros(3, dtype=torch.float64)) @ pose
    if matches is not None:
        x, y = matches.pixels.T
        matches = replace(matches, pixels=np.stack([y, estimate.camera.width - x], 1))
    return replace(
        estimate,
        camera=turn_camera(estimate.camera, 1),
        cam_from_world=pose,
        matches=matches,
        covariance=_turned_matrix(estimate.covariance),
        camera_covariance=_turned_matrix(estimate.camera_covariance),
        information=_turned_matrix(estimate.information),
    )


def _turned_matrix(matrix: Tensor | None) -> Tensor | None:
    """A matrix [6, 6] over tangents (rho, phi), which turn as vectors of the camera frame do."""
    if matrix is None:
        return None
    both = torch.block_diag(_TURN, _TURN).to(matrix)
    return both @ matrix @ both.T
