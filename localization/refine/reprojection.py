"""Reprojection errors of 2D-3D matches: their robust cost, and the pose that minimises it.

Second order on SE(3) with the left perturbation of docs/conventions.md. Matches of different origin have
different noise and different worth, so every match carries its own; RANSAC libraries know one threshold only.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from localization.pnp import projection_jacobian
from scene.cameras import Camera
from utils import se3

_MIN_DEPTH = 1e-3  # metres; what is closer or behind has no pixel
_CONVERGED = 1e-6  # metres and radians: a thousandth of what is measurable
_OUTLIER = 1e6  # normalised squared error given to points behind the camera


@dataclass(frozen=True)
class Observations:
    """Matches between pixels and world points, each with its noise and its worth."""

    pixels: Tensor  # [M, 2] float64
    points: Tensor  # [M, 3] float64, world
    sigma: Tensor  # [M] float64 pixels, standard deviation per coordinate
    weight: Tensor  # [M] float64, independent observations that one match is worth, at most 1

    def __len__(self) -> int:
        return self.pixels.shape[0]


def observe(pixels: Tensor, points: Tensor, sigma: float = 1.0, weight: float = 1.0) -> Observations:
    """Matches that share one noise level and one worth."""
    pixels, points = pixels.double().cpu(), points.double().cpu()
    one = torch.ones_like(pixels[:, 0])
    return Observations(pixels, points, sigma * one, weight * one)


def join(*parts: Observations) -> Observations:
    return Observations(
        torch.cat([part.pixels for part in parts]),
        torch.cat([part.points for part in parts]),
        torch.cat([part.sigma for part in parts]),
        torch.cat([part.weight for part in parts]),
    )


def errors_px(camera: Camera, cam_from_world: Tensor, observations: Observations) -> Tensor:
    """Reprojection errors [M] in pixels; infinite behind the camera."""
    local = _transform(cam_from_world, observations.points)
    error = torch.linalg.norm(camera.project(local) - observations.pixels, dim=1)
    return torch.where(local[:, 2] > _MIN_DEPTH, error, torch.inf)


def noise_px(errors: Tensor) -> float:
    """Robust standard deviation per coordinate of errors [M]: the median of a Rayleigh law is 1.177 sigma."""
    return (errors.median() / 1.1774).item()


def cost(camera: Camera, cam_from_world: Tensor, observations: Observations) -> float:
    """Mean Geman-McClure cost s / (1 + s) in [0, 1), s = |error / (2 sigma)|^2: blind to far outliers."""
    scaled = (errors_px(camera, cam_from_world, observations) / (2 * observations.sigma)) ** 2
    scaled = scaled.clamp(max=_OUTLIER)
    return ((scaled / (1 + scaled)) * observations.weight).sum().item() / observations.weight.sum().item()


def minimise(
    camera: Camera, cam_from_world: Tensor, observations: Observations, iterations: int = 10
) -> tuple[Tensor, Tensor]:
    """The pose [4, 4] of least robust cost near `cam_from_world`, and its information matrix [6, 6].

    Iteratively reweighted Gauss-Newton; the information is J^T W J of the last step, in 1/m^2 and 1/rad^2.
    """
    pose, information = cam_from_world, torch.eye(6, dtype=torch.float64)
    for _ in range(iterations):
        information, gradient = normal_equations(camera, pose, observations)
        # Without a single match in view there is no information: no step, rather than a singular system.
        damping = (1e-9 * information.diagonal().max() + 1e-12) * torch.eye(6, dtype=torch.float64)
        step = -torch.linalg.solve(information + damping, gradient)
        pose = se3.se3_exp(step) @ pose
        if step.abs().max() < _CONVERGED:
            break
    return pose, information


def normal_equations(
    camera: Camera, cam_from_world: Tensor, observations: Observations
) -> tuple[Tensor, Tensor]:
    """J^T W J [6, 6] and J^T W r [6] of the whitened errors, W the Geman-McClure weights."""
    local = _transform(cam_from_world, observations.points)
    seen = local[:, 2] > _MIN_DEPTH
    local = torch.where(seen[:, None], local, torch.ones_like(local))
    residual = (camera.project(local) - observations.pixels) / observations.sigma[:, None]
    jacobian = projection_jacobian(local, camera) / observations.sigma[:, None, None]
    weight = observations.weight * seen / (1 + (residual * residual).sum(1) / 4) ** 2
    weighted = jacobian * weight[:, None, None]
    information = torch.einsum("mri,mrj->ij", weighted, jacobian)
    return information, torch.einsum("mri,mr->i", weighted, residual)


def _transform(cam_from_world: Tensor, points: Tensor) -> Tensor:
    return points @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
