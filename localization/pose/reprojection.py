"""Reprojection errors of 2D-3D matches: inliers, robust cost, and the pose that minimises it.

Second order on SE(3) with the left perturbation of docs/conventions.md. Matches of different origin differ in
noise and in information, so every match carries its own; RANSAC libraries take one threshold only.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.pose.covariance import Grid, GridSums, jackknife
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import robust, se3

MIN_DEPTH = 1e-3  # metres; what is closer or behind has no pixel
_CONVERGED = 1e-6  # metres and radians: a thousandth of what is measurable
_OUTLIER = 1e6  # normalised squared error given to points behind the camera
_INLIER_PX = 8.0  # reprojection error of an inlier at 640 px, of all stages; from held-out RedKitchen views
_REFERENCE_SIDE = 640  # pixels: thresholds are for images with this longer side


@dataclass(frozen=True)
class Observations:
    """Matches between pixels and world points, each with its noise and its information weight."""

    pixels: Tensor  # [M, 2] float64
    points: Tensor  # [M, 3] float64, world
    sigma: Tensor  # [M] float64 pixels, standard deviation per coordinate
    weight: Tensor  # [M] float64, effective sample size of one match, at most 1

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def select(self, index: Tensor) -> "Observations":
        """The matches at `index`."""
        return Observations(self.pixels[index], self.points[index], self.sigma[index], self.weight[index])


def observe(pixels: Tensor, points: Tensor, sigma: float = 1.0, weight: float = 1.0) -> Observations:
    """Matches that share one noise level and one information weight."""
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


def pixel_scale(camera: Camera) -> float:
    """The factor of pixel thresholds for this camera's image: above 1 where its longer side exceeds 640."""
    return max(1.0, max(camera.width, camera.height) / _REFERENCE_SIDE)


def inlier_threshold_px(camera: Camera) -> float:
    """The reprojection error in pixels below which a match is an inlier, the same in all stages."""
    return _INLIER_PX * pixel_scale(camera)


def inliers(camera: Camera, cam_from_world: Tensor, observations: Observations) -> Tensor:
    """Which matches [M] bool are inliers of a pose [4, 4]."""
    return errors_px(camera, cam_from_world, observations) < inlier_threshold_px(camera)


def errors_px(camera: Camera, cam_from_world: Tensor, observations: Observations) -> Tensor:
    """Reprojection errors [M] in pixels; infinite behind the camera."""
    local = se3.transform(cam_from_world, observations.points)
    error = torch.linalg.norm(camera.project(local) - observations.pixels, dim=1)
    return torch.where(local[:, 2] > MIN_DEPTH, error, torch.inf)


def noise_px(errors: Tensor) -> float:
    """Robust standard deviation per coordinate of errors [M]: a Rayleigh variable's median is 1.177 sigma."""
    return (errors.median() / 1.1774).item()


def cost(camera: Camera, cam_from_world: Tensor, observations: Observations) -> float:
    """Weighted mean of the Geman-McClure cost (`utils.robust`), in [0, 2)."""
    scaled = (errors_px(camera, cam_from_world, observations) / (2 * observations.sigma)) ** 2
    scaled = scaled.clamp(max=_OUTLIER)
    total = (robust.cost(scaled) * observations.weight).sum() / observations.weight.sum()
    return total.item()


def minimise(
    camera: Camera, cam_from_world: Tensor, observations: Observations, iterations: int = 10
) -> tuple[Tensor, Tensor]:
    """The pose [4, 4] of least robust cost near `cam_from_world`, and its information matrix [6, 6].

    Iteratively reweighted Gauss-Newton; the information is J^T W J of the last step, in 1/m^2 and 1/rad^2.
    """
    pose, information = cam_from_world.numpy(), np.eye(6)
    for _ in range(iterations):
        information, gradient = _normal_equations(camera, pose, observations)
        # Without a single match in view there is no information: no step, rather than a singular system.
        damping = 1e-9 * information.diagonal().max() + 1e-12
        step = -np.linalg.solve(information + damping * np.eye(6), gradient)
        pose = se3.se3_exp_numpy(step) @ pose
        if np.abs(step).max() < _CONVERGED:
            break
    return torch.from_numpy(pose), torch.from_numpy(information)


def normal_equations(
    camera: Camera, cam_from_world: Tensor, observations: Observations
) -> tuple[Tensor, Tensor]:
    """J^T W J [6, 6] and J^T W r [6] of the whitened errors, W the Geman-McClure weights."""
    information, gradient = _normal_equations(camera, cam_from_world.numpy(), observations)
    return torch.from_numpy(information), torch.from_numpy(gradient)


def grid_sums(
    camera: Camera, cam_from_world: Tensor, observations: Observations, index: Tensor, count: int
) -> GridSums:
    """The normal equations of each of `count` cells of the image; `index` [M] is the cell of each match."""
    return cell_sums(_linearised(camera, cam_from_world.numpy(), observations), index, count)


def cell_sums(linear: "Linear", index: Tensor, count: int) -> GridSums:
    """The normal equations of each of `count` cells; `index` [M] is the cell of each match."""
    unknowns = len(linear.d_column)
    information, gradient = np.zeros((count, unknowns, unknowns)), np.zeros((count, unknowns))
    order = np.argsort(index.numpy(), kind="stable")
    ends = np.cumsum(np.bincount(index.numpy(), minlength=count))
    sorted_terms = Linear(*(values[..., order] for values in linear))
    for cell, (start, end) in enumerate(zip(ends - np.diff(ends, prepend=0), ends)):
        terms = Linear(*(values[..., start:end] for values in sorted_terms))
        information[cell], gradient[cell] = summed(terms)
    curvature = robust.curvature(linear.square[linear.weight > 0], 2) * information
    return GridSums(torch.from_numpy(curvature), torch.from_numpy(gradient))


def jackknifed(camera: Camera, cam_from_world: Tensor, observations: Observations) -> Tensor:
    """Covariance [6, 6] of the pose of least robust cost, by the block jackknife over the image."""
    grid = Grid.over(observations.pixels)
    index = grid.index(observations.pixels)
    return jackknife(grid_sums(camera, cam_from_world, observations, index, len(grid)))


class Linear(NamedTuple):
    """Errors and derivatives of matches, matches last."""

    d_column: np.ndarray  # [P, M], a row per parameter: 6 of the pose, then those of the camera
    d_row: np.ndarray  # [P, M]
    column: np.ndarray  # [M] pixels
    row: np.ndarray  # [M]
    weight: np.ndarray  # [M] 1/px^2
    square: np.ndarray  # [M] |error / (2 sigma)|^2


def _normal_equations(
    camera: Camera, cam_from_world: np.ndarray, observations: Observations
) -> tuple[np.ndarray, np.ndarray]:
    """`normal_equations` in numpy."""
    return summed(_linearised(camera, cam_from_world, observations))


def summed(linear: Linear) -> tuple[np.ndarray, np.ndarray]:
    """J^T W J [P, P] and J^T W r [P]."""
    weighted_column, weighted_row = linear.d_column * linear.weight, linear.d_row * linear.weight
    information = weighted_column @ linear.d_column.T + weighted_row @ linear.d_row.T
    return information, weighted_column @ linear.column + weighted_row @ linear.row


def _linearised(camera: Camera, cam_from_world: np.ndarray, observations: Observations) -> Linear:
    """In numpy: for a thousand matches the calls dominate, and torch's take longer."""
    pixels, points = observations.pixels.numpy(), observations.points.numpy()
    local = cam_from_world[:3, :3] @ points.T + cam_from_world[:3, 3:]
    seen = local[2] > MIN_DEPTH
    x, y, z = local if seen.all() else np.where(seen, local, 1.0)
    inverse = 1 / z
    a, b = x * inverse, y * inverse
    column = camera.fx * a + (camera.cx - pixels[:, 0])
    row = camera.fy * b + (camera.cy - pixels[:, 1])
    sigma = observations.sigma.numpy()
    precision = 1 / (sigma * sigma)  # a power takes ten times as long
    square = (column * column + row * row) * precision * 0.25
    weight = observations.weight.numpy() * seen * precision * robust.weight(square)
    d_column, d_row = ray_derivatives(a, b, inverse)
    d_column *= camera.fx
    d_row *= camera.fy
    return Linear(d_column, d_row, column, row, weight, square)


def ray_jacobian(local: np.ndarray) -> np.ndarray:
    """Derivatives [M, 2, 6] of (x / z, y / z) of points [M, 3] before a camera, by the pose's tangent."""
    x, y, z = local.T
    return np.stack(ray_derivatives(x / z, y / z, 1 / z), 1).transpose(2, 1, 0)


def ray_derivatives(a: np.ndarray, b: np.ndarray, inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of a = x / z and of b = y / z, a row [M] per parameter; `inverse` is 1 / z.

    As in `localization.pose.pnp.projection_jacobian`.
    """
    d_column, d_row = np.zeros((6, len(a))), np.zeros((6, len(a)))
    d_column[0] = d_row[1] = inverse
    d_column[2], d_row[2] = -a * inverse, -b * inverse
    d_row[4], d_row[5], d_column[5] = a * b, a, -b
    d_column[3], d_column[4], d_row[3] = -d_row[4], 1 + a * a, -1 - b * b
    return d_column, d_row
