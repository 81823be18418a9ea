"""A pose with the camera that is estimated together with it: errors of 2D-3D matches, and their minimum."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.covariance import Grid, GridSums, jackknife, symmetric_inverse
from gsplatloc.localization.pose.reprojection import Linear, Observations, inlier_threshold_px
from gsplatloc.localization.queries import FOCAL_RANGE
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import robust, se3

POSE = 6  # unknowns of a pose; those of the camera follow
# Columns of the camera's unknowns: the logarithm of the focal length, the centre in pixels, and k.
LOG_FOCAL, _CENTER_X, _CENTER_Y, _K = range(POSE, 10)
FOCAL, CENTER, RADIAL = (LOG_FOCAL,), (_CENTER_X, _CENTER_Y), (_K,)  # what is estimated together
FOCAL_ROW = LOG_FOCAL - POSE  # in the covariance of the camera's unknowns
_UNKNOWNS = range(10)
FEWEST_MATCHES = 10  # to estimate a camera from
MATCHES_PER_ERROR = 8.0  # matches that share an error, as in `localization.landmarks.guided`
# Variance of camera parameters relative to the jackknife's: the map's errors reach further than its cells.
# Measured on held-out views of RedKitchen, cropped and enlarged.
CALIBRATION = 2.25
_CENTER_SIGMA, _RADIAL_SIGMA = 0.01, 0.03  # of lenses: relative to the longer side; k
_EXACTLY = 1e8  # factor of the precision of what is known exactly
_LOSS = 0.5  # scale of the robust loss, relative to the noise of a match, as in the other solvers
_MIN_NOISE_PX = 0.1
_FAR_PX = 1e6  # stands for an infinite error
_PASSES = 5  # of estimating the noise and the unknowns in turn
_ITERATIONS = 8  # of Levenberg-Marquardt per pass
_CONVERGED = 1e-3  # of the noise: motion of the pixels by a step
_REACH = 6.0  # inlier thresholds: matches farther off at the start are wrong
_CENTER_RANGE = (-2.0, 3.0)  # relative to the sides: the middle of the photo that a part was cut out of


@dataclass(frozen=True)
class CameraFit:
    """A pose with the camera that was estimated with it."""

    cam_from_world: Tensor  # [4, 4] float64
    camera: Camera
    distortion: float = 0.0  # k of SIMPLE_RADIAL
    free: tuple[int, ...] = ()  # columns of the camera that were estimated
    known_is_right: bool = False  # whether what was known of the focal length proved right
    covariance: Tensor | None = None  # [6, 6] of the pose, with the camera's uncertainty
    camera_covariance: Tensor | None = None  # [6, 6], the part of it that is due to the camera


def errors_px(fit: CameraFit, observations: Observations) -> np.ndarray:
    """Reprojection errors [M] in pixels of the distorted image; infinite behind the camera."""
    seen = _seen(fit, observations)
    return np.where(seen.in_front, np.hypot(seen.column, seen.row), np.inf)


def near_observations(fit: CameraFit, observations: Observations) -> Observations:
    """The observations that are not too far off to be right."""
    near = errors_px(fit, observations) < _REACH * inlier_threshold_px(fit.camera)
    return observations.select(torch.from_numpy(near))


def minimised(start: CameraFit, observations: Observations) -> CameraFit:
    """The fit of least robust error near `start`, over its free parameters."""
    fit, limit = start, inlier_threshold_px(start.camera)
    for number in range(_PASSES):
        noise = inlier_noise_px(errors_px(fit, observations), limit)
        if _CENTER_X in fit.free:  # from far away: what holds in a part of the image alone is left behind
            noise = max(noise, limit * 0.5**number)
        fit, moved = _descended(fit, observations, _LOSS * noise)
        if moved < 10 * _CONVERGED * noise:
            break
    return fit


def _descended(fit: CameraFit, observations: Observations, sigma: float) -> tuple[CameraFit, float]:
    """Levenberg-Marquardt at one noise level, and the size of the first step."""
    columns = [*range(POSE), *fit.free]
    seen = _seen(fit, observations)
    cost = robust.cost(seen.squares(sigma)).sum()
    damping, first, normal_equations = 1e-6, 0.0, None
    for _ in range(_ITERATIONS):
        if normal_equations is None:
            normal_equations = reprojection.summed(_linear(fit, seen, observations.weight, sigma, columns))
        information, gradient = normal_equations
        scale = np.sqrt(np.maximum(information.diagonal(), 1e-12))
        normal = information / scale / scale[:, None] + damping * np.eye(len(columns))
        step = -np.linalg.solve(normal, gradient / scale) / scale
        candidate = _moved(fit, step)
        tried = _seen(candidate, observations)
        tried_cost = robust.cost(tried.squares(sigma)).sum()
        if tried_cost <= cost:
            fit, seen, cost, normal_equations, damping = candidate, tried, tried_cost, None, damping * 0.1
            size = sigma * float(np.abs(step * scale).max()) / math.sqrt(max(len(observations), 1))
            first = max(first, size)
            if size < _CONVERGED * sigma:
                break
        else:
            damping = max(damping, 1e-6) * 10
    return fit, first


def _moved(fit: CameraFit, step: np.ndarray) -> CameraFit:
    change = dict(zip(fit.free, step[POSE:].tolist()))
    factor = math.exp(min(max(change.get(LOG_FOCAL, 0.0), -1.0), 1.0))
    camera = fit.camera
    camera = replace(
        camera,
        fx=camera.fx * factor,
        fy=camera.fy * factor,
        cx=camera.cx + change.get(_CENTER_X, 0.0),
        cy=camera.cy + change.get(_CENTER_Y, 0.0),
    )
    pose = torch.from_numpy(se3.se3_exp_numpy(step[:POSE])) @ fit.cam_from_world
    distortion = fit.distortion + change.get(_K, 0.0)
    return replace(fit, cam_from_world=pose, camera=camera, distortion=distortion)


class _Seen(NamedTuple):
    """Where the points of matches are seen, and by how much beside their pixels; matches last."""

    a: np.ndarray  # [M] x / z
    b: np.ndarray  # [M] y / z
    inverse: np.ndarray  # [M] 1 / z
    distortion: np.ndarray | float  # [M] 1 + k (a^2 + b^2)
    column: np.ndarray  # [M] pixels, errors
    row: np.ndarray  # [M]
    in_front: np.ndarray  # [M] bool

    def squares(self, sigma: float) -> np.ndarray:
        """|error / (2 sigma)|^2 [M]; far too large behind the camera."""
        squares = (self.column * self.column + self.row * self.row) / (2 * sigma) ** 2
        return squares if self.in_front.all() else np.where(self.in_front, squares, 1e6)


def _seen(fit: CameraFit, observations: Observations) -> _Seen:
    """A point at normalised (a, b) is seen at (cx + f d a, cy + f d b) with d = 1 + k (a^2 + b^2)."""
    camera, k, pose = fit.camera, fit.distortion, fit.cam_from_world.numpy()
    pixels, points = observations.pixels.numpy(), observations.points.numpy()
    local = pose[:3, :3] @ points.T + pose[:3, 3:]
    in_front = local[2] > reprojection.MIN_DEPTH
    x, y, z = local if in_front.all() else np.where(in_front, local, 1.0)
    inverse = 1 / z
    a, b = x * inverse, y * inverse
    d = 1 + k * (a * a + b * b) if k else 1.0
    column = camera.fx * d * a + camera.cx - pixels[:, 0]
    row = camera.fy * d * b + camera.cy - pixels[:, 1]
    return _Seen(a, b, inverse, d, column, row, in_front)


def _linear(
    fit: CameraFit, seen: _Seen, weight: Tensor, sigma: float, columns: Sequence[int] = _UNKNOWNS
) -> Linear:
    """Errors with their derivatives by the unknowns in `columns`, at noise `sigma`; `weight` [M]."""
    camera, k, (a, b, inverse, d, column, row, in_front) = fit.camera, fit.distortion, seen
    by_a, by_b = reprojection.ray_derivatives(a, b, inverse)
    d_column, d_row = np.zeros((2, len(columns), len(a)))
    if k:
        mixed = 2 * k * a * b
        by_a, by_b = (d + 2 * k * a * a) * by_a + mixed * by_b, mixed * by_a + (d + 2 * k * b * b) * by_b
    np.multiply(camera.fx, by_a, out=d_column[:POSE])
    np.multiply(camera.fy, by_b, out=d_row[:POSE])
    for place, unknown in enumerate(columns[POSE:], POSE):
        if unknown == LOG_FOCAL:
            d_column[place], d_row[place] = camera.fx * d * a, camera.fy * d * b
        elif unknown == _K:
            radius = a * a + b * b
            d_column[place], d_row[place] = camera.fx * radius * a, camera.fy * radius * b
        else:
            (d_column if unknown == _CENTER_X else d_row)[place] = 1.0
    square = seen.squares(sigma)
    weights = weight.numpy() * in_front * robust.weight(square) / sigma**2
    return Linear(d_column, d_row, column, row, weights, square)


def cell_sums(fit: CameraFit, observations: Observations) -> GridSums:
    """The normal equations of the pose and of all unknowns of the camera, for each cell of the image."""
    noise = inlier_noise_px(errors_px(fit, observations), inlier_threshold_px(fit.camera))
    linear = _linear(fit, _seen(fit, observations), observations.weight, _LOSS * noise)
    grid = Grid.over(observations.pixels)
    return reprojection.cell_sums(linear, grid.index(observations.pixels), len(grid))


def inlier_noise_px(errors: np.ndarray, limit: float) -> float:
    """Robust standard deviation per coordinate of the errors of inliers."""
    inliers = errors[errors < limit]
    return max(reprojection.noise_px(torch.from_numpy(inliers)), _MIN_NOISE_PX) if len(inliers) else limit


def plausible(fit: CameraFit) -> bool:
    """Whether a lens could be so: its focal length, its centre, and no fold within the image."""
    camera = fit.camera
    low, high = FOCAL_RANGE
    inside = all(
        _CENTER_RANGE[0] * side < center < _CENTER_RANGE[1] * side
        for center, side in ((camera.cx, camera.width), (camera.cy, camera.height))
    )
    reach_x, reach_y = max(camera.cx, camera.width - camera.cx), max(camera.cy, camera.height - camera.cy)
    farthest = math.hypot(reach_x, reach_y) / camera.fx
    focal = low < camera.fx / max(camera.width, camera.height) < high
    return focal and inside and 1 + 3 * fit.distortion * farthest**2 > 0


def log_likelihood(errors: np.ndarray, noise: float) -> float:
    """Of errors [M] of a Cauchy distribution, up to a constant: robust against wrong matches."""
    return -float(np.log1p((errors / noise) ** 2 / 2).sum())


def likelihood_gain(base: CameraFit, found: CameraFit, observations: Observations) -> float:
    """Gain of log likelihood of `found`, over the matches that are inliers of either fit."""
    before, after = errors_px(base, observations), errors_px(found, observations)
    limit = inlier_threshold_px(base.camera)
    either = np.minimum(before, after) < limit
    noise = inlier_noise_px(after, limit)
    old, new = (log_likelihood(errors[either].clip(max=_FAR_PX), noise) for errors in (before, after))
    return (new - old) / MATCHES_PER_ERROR


def promised_gain(base: CameraFit, part: tuple[int, ...], observations: Observations) -> float:
    """The gain of estimating `part`, too, in the quadratic approximation at `base`."""
    noise = inlier_noise_px(errors_px(base, observations), inlier_threshold_px(base.camera))
    columns = [*range(POSE), *base.free, *part]
    linear = _linear(base, _seen(base, observations), observations.weight, noise, columns)
    information, gradient = reprojection.summed(linear)
    scale = np.sqrt(np.maximum(information.diagonal(), 1e-12))
    normal = information / scale / scale[:, None] + 1e-9 * np.eye(len(scale))
    return float(gradient / scale @ np.linalg.solve(normal, gradient / scale)) / (2 * MATCHES_PER_ERROR)


def camera_covariance(fit: CameraFit, observations: Observations, exact: bool) -> Tensor:
    """The covariance [4, 4] of the camera's unknowns, as the matches have it.

    What was not estimated is uncertain, too: lenses are not quite centred nor quite free of distortion. Only
    of a camera that is `exact` it is known.
    """
    sums, columns = cell_sums(fit, observations), [*range(POSE), *fit.free]
    whole = sums.curvature.sum(0)
    free = jackknife(sums.of(columns))
    independent = symmetric_inverse(whole[columns][:, columns])
    sigmas = torch.tensor(
        [1.0, *[_CENTER_SIGMA * max(fit.camera.width, fit.camera.height)] * 2, _RADIAL_SIGMA]
    )
    precision = torch.zeros(len(whole), dtype=torch.float64)
    precision[POSE:] = (_EXACTLY if exact else 1.0) / sigmas.double() ** 2
    precision[columns] = 0.0
    share = (independent[LOG_FOCAL, LOG_FOCAL] / free[LOG_FOCAL, LOG_FOCAL]).clamp(
        max=1.0
    )  # of independent residuals
    return symmetric_inverse(share / CALIBRATION * whole + precision.diag())[POSE:, POSE:]


def normal_density(x: float, variance: float) -> float:
    return math.exp(-x * x / (2 * variance)) / math.sqrt(2 * math.pi * variance)
