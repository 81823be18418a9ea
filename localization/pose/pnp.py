"""The pose of a camera from 2D-3D matches: LO-RANSAC, non-linear refinement, covariance.

Known focal length: PoseLib (P3P of Persson & Nordberg 2018 inside LO-RANSAC). Unknown: COLMAP's P4PF inside
LO-RANSAC, then pose, focal length and, where it shows, radial distortion refined together.
"""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import poselib
import pycolmap
import torch
from torch import Tensor

from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.distortion import find_distortion, undistort_pixels
from gsplatloc.localization.pose.false_alarms import (
    POSE_PARAMETERS,
    chance_anywhere,
    log10_expected,
    log10_false_alarms,
)
from gsplatloc.localization.result import Matches, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.errors import GSplatLocError

_MIN_SAMPLE = 4  # matches that a solver needs
_MIN_ITERATIONS = 100  # RANSAC samples, even when the first look perfect; local optimisation needs few
_LEAST_NOISE_PX = 0.05  # of a match: none is exact, whatever the residuals of a few say
_LOSS = 0.5  # scale of the robust loss relative to that noise: in the covariance, instead of the solvers'
_REFERENCE_SIDE = 640  # pixels: thresholds below are for images with this longer side


@dataclass(frozen=True)
class PnPOptions:
    """How to estimate a pose. Pixel values grow in proportion to images longer than 640 px."""

    max_error_px: float = 8.0  # reprojection error of an inlier; chosen on held-out views of RedKitchen
    loss_scale_px: float = 0.5  # of the Cauchy loss in the refinements; chosen likewise
    max_iterations: int = 20_000  # RANSAC samples at most (--ransac_iters; the paper's setting)
    # Poses expected from wrong matches alone; more is no evidence. Far less than one, as wrong matches are
    # not as independent as that supposes: the best of 128 photos of other places came to 1e-4, the worst of
    # 40 held-out views of RedKitchen to 1e-119.
    max_false_alarms: float = 1e-10
    seed: int = 0  # of the samples: the same matches give the same pose

    def __post_init__(self) -> None:
        if self.max_iterations < 1:
            raise GSplatLocError(
                f"expected at least one RANSAC sample, found {self.max_iterations}: see --ransac_iters"
            )

    def enough(self, count: int, camera: Camera, parameters: int) -> bool:
        """Whether `count` matches could prove a pose if all of them agreed."""
        chance = chance_anywhere(camera, self.max_error_px * pixel_scale(camera))
        return log10_expected(count, count, chance, parameters) <= math.log10(self.max_false_alarms)


def pixel_scale(camera: Camera) -> float:
    """By how much pixel thresholds grow for this camera's image."""
    return max(1.0, max(camera.width, camera.height) / _REFERENCE_SIDE)


def estimate_pose(
    pixels: np.ndarray,
    points: np.ndarray,
    camera: Camera,
    options: PnPOptions | None = None,
    focal_known: bool = True,
) -> PoseEstimate:
    """The pose that most matches of `pixels` [M, 2] and world `points` [M, 3], both float64, agree on.

    With `focal_known=False` the camera's focal length is ignored and estimated, and radial distortion with
    it: the pixels of the estimate's matches are then a pinhole camera's. A failure is a status, never an
    exception.
    """
    options = options or PnPOptions()
    start = time.perf_counter()
    pixels, points = np.ascontiguousarray(pixels, np.float64), np.ascontiguousarray(points, np.float64)
    matches = Matches(pixels, points, np.zeros(len(pixels), bool))
    parameters = POSE_PARAMETERS + (0 if focal_known else 1)
    if not options.enough(len(pixels), camera, parameters):
        estimate = PoseEstimate(Status.TOO_FEW_MATCHES, camera, matches=matches)
    else:
        solve = _solve_known_focal if focal_known else _solve_unknown_focal
        estimate = _judge(solve(matches, camera, options), matches, camera, options, parameters)
    return replace(estimate, elapsed_ms=1000 * (time.perf_counter() - start))


def verify_pose(
    cam_from_world: Tensor,
    pixels: np.ndarray,
    points: np.ndarray,
    camera: Camera,
    options: PnPOptions | None = None,
) -> PoseEstimate:
    """A pose [4, 4] found otherwise, as an estimate: OK where matches [M, 2], [M, 3] prove it as RANSAC's."""
    options = options or PnPOptions()
    matches = Matches(pixels, points, np.zeros(len(pixels), bool))
    if not options.enough(len(pixels), camera, POSE_PARAMETERS):
        return PoseEstimate(Status.TOO_FEW_MATCHES, camera, matches=matches)
    local = (cam_from_world @ _homogeneous(points).T).T[:, :3]
    errors = torch.linalg.norm(camera.project(local) - torch.from_numpy(pixels), dim=1)
    agreeing = (errors < options.max_error_px * pixel_scale(camera)) & (local[:, 2] > 0)
    found = _Solution(cam_from_world, 1.0, agreeing.numpy()) if agreeing.sum() >= _MIN_SAMPLE else None
    return _judge(found, matches, camera, options, POSE_PARAMETERS)


def pose_information(
    cam_from_world: Tensor, camera: Camera, pixels: np.ndarray, points: np.ndarray
) -> Tensor:
    """First-order information [6, 6] on xi = (rho, phi), T <- exp(xi) T, of the given inliers (at least 4).

    J^T J / sigma^2 with J the Jacobian of the pixel residuals and sigma^2 their variance with 2M - 6 degrees
    of freedom: what they say if their errors are independent (`localization.pose.covariance`).
    """
    points_in_cam = (cam_from_world @ _homogeneous(points).T).T[:, :3]
    residuals = camera.project(points_in_cam) - torch.from_numpy(pixels)
    jacobian = projection_jacobian(points_in_cam, camera).reshape(-1, 6)
    variance = (residuals**2).sum() / max(residuals.numel() - 6, 1)
    return jacobian.T @ jacobian / variance.clamp(min=_LEAST_NOISE_PX**2)


def projection_jacobian(points_in_cam: Tensor, camera: Camera) -> Tensor:
    """d pixel / d xi [M, 2, 6] at points [M, 3] in the camera frame; there dx = rho + phi x x."""
    x, y, z = points_in_cam.unbind(1)
    inverse, zero = 1 / z, torch.zeros_like(z)
    a, b = x * inverse, y * inverse
    ab = a * b
    d_column = [inverse, zero, -a * inverse, -ab, 1 + a * a, -b]
    d_row = [zero, inverse, -b * inverse, -1 - b * b, ab, a]
    jacobian = torch.stack(d_column + d_row, 1).reshape(-1, 2, 6)
    return jacobian * torch.tensor([[camera.fx], [camera.fy]], dtype=z.dtype, device=z.device)


@dataclass(frozen=True)
class _Solution:
    """What a solver found."""

    cam_from_world: Tensor  # [4, 4] float64
    focal_scale: float  # by which the camera's focal lengths are multiplied
    inliers: np.ndarray  # [M] bool
    distortion: float = 0.0  # radial, of pixels as they are


def poselib_camera(camera: Camera) -> dict[str, Any]:
    """A camera as PoseLib takes it; its pixels are ours."""
    params = [camera.fx, camera.fy, camera.cx, camera.cy]
    return {"model": "PINHOLE", "width": camera.width, "height": camera.height, "params": params}


def _solve_known_focal(matches: Matches, camera: Camera, options: PnPOptions) -> _Solution | None:
    scale = pixel_scale(camera)
    ransac = {
        "max_reproj_error": options.max_error_px * scale,
        "max_iterations": options.max_iterations,
        "min_iterations": min(_MIN_ITERATIONS, options.max_iterations),
        "seed": options.seed,
    }
    bundle = {"loss_type": "CAUCHY", "loss_scale": options.loss_scale_px * scale}
    pose, info = poselib.estimate_absolute_pose(
        matches.pixels, matches.points, poselib_camera(camera), ransac, bundle
    )
    if info["num_inliers"] < _MIN_SAMPLE:
        return None
    return _Solution(_matrix(pose.R, pose.t), 1.0, np.array(info["inliers"], bool))


def _solve_unknown_focal(matches: Matches, camera: Camera, options: PnPOptions) -> _Solution | None:
    scale = pixel_scale(camera)
    params = [camera.fx, camera.cx, camera.cy]
    size = {"width": camera.width, "height": camera.height}
    pinhole = pycolmap.Camera(model="SIMPLE_PINHOLE", params=params, **size)
    estimation = pycolmap.AbsolutePoseEstimationOptions(estimate_focal_length=True)
    estimation.ransac.max_error = options.max_error_px * scale
    estimation.ransac.max_num_trials = options.max_iterations
    estimation.ransac.min_num_trials = min(_MIN_ITERATIONS, options.max_iterations)
    estimation.ransac.random_seed = options.seed
    refinement = pycolmap.AbsolutePoseRefinementOptions(refine_focal_length=True)
    refinement.loss_function_scale = options.loss_scale_px * scale
    found = pycolmap.estimate_and_refine_absolute_pose(
        matches.pixels, matches.points, pinhole, estimation, refinement
    )
    if found is None:
        return None
    rigid, focal, inliers, distortion = (
        found["cam_from_world"],
        pinhole.focal_length,
        found["inlier_mask"],
        0.0,
    )
    agreeing = replace(matches, inliers=np.array(inliers, bool))
    radial = find_distortion(
        rigid, pinhole, agreeing, options.max_error_px * scale, options.loss_scale_px * scale
    )
    if radial is not None:
        rigid, focal, inliers = radial.cam_from_world, radial.focal, radial.inliers
        distortion = radial.distortion
    cam_from_world = _matrix(rigid.rotation.matrix(), rigid.translation)
    return _Solution(cam_from_world, focal / camera.fx, np.array(inliers, bool), distortion)


def _judge(
    found: _Solution | None, matches: Matches, camera: Camera, options: PnPOptions, parameters: int
) -> PoseEstimate:
    """A solver's answer as an estimate; what wrong matches would often reach, too, is a failure."""
    if found is None:
        return PoseEstimate(Status.NO_CONSENSUS, camera, matches=matches)
    camera = replace(camera, fx=camera.fx * found.focal_scale, fy=camera.fy * found.focal_scale)
    if found.distortion != 0:
        matches = replace(matches, pixels=undistort_pixels(matches.pixels, camera, found.distortion))
    inliers, max_error = found.inliers, options.max_error_px * pixel_scale(camera)
    agreeing = replace(matches, inliers=inliers)
    alarms = log10_false_alarms(agreeing, found.cam_from_world, camera, max_error, parameters)
    if alarms > math.log10(options.max_false_alarms):
        return PoseEstimate(Status.NO_CONSENSUS, camera, inliers=int(inliers.sum()), matches=matches)
    return PoseEstimate(
        status=Status.OK,
        camera=camera,
        distortion=found.distortion,
        cam_from_world=found.cam_from_world,
        inliers=int(inliers.sum()),
        covariance=_covariance(agreeing, found.cam_from_world, camera),
        information=pose_information(
            found.cam_from_world, camera, matches.pixels[inliers], matches.points[inliers]
        ),
        matches=agreeing,
    )


def _covariance(matches: Matches, cam_from_world: Tensor, camera: Camera) -> Tensor:
    """Of a pose [6, 6], by its inliers."""
    pixels, points = (
        torch.from_numpy(values[matches.inliers]) for values in (matches.pixels, matches.points)
    )
    errors = reprojection.errors_px(camera, cam_from_world, reprojection.observe(pixels, points))
    noise = max(reprojection.noise_px(errors), _LEAST_NOISE_PX)
    observations = reprojection.observe(pixels, points, _LOSS * noise)
    return reprojection.jackknifed(camera, cam_from_world, observations)


def _matrix(rotation: np.ndarray, translation: np.ndarray) -> Tensor:
    """[3, 3] and [3] -> [4, 4] float64."""
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3], matrix[:3, 3] = torch.from_numpy(rotation.copy()), torch.from_numpy(translation.copy())
    return matrix


def _homogeneous(points: np.ndarray) -> Tensor:
    return torch.from_numpy(np.column_stack([points, np.ones(len(points))]))
