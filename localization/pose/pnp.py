"""The pose of a camera from 2D-3D matches: LO-RANSAC, non-linear refinement, covariance.

Known focal length: PoseLib (P3P of Persson & Nordberg 2018 inside LO-RANSAC). Unknown: COLMAP's P4PF inside
LO-RANSAC, then pose, focal length and, if the matches support it, radial distortion refined together.
"""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import poselib
import torch
from torch import Tensor

from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.distortion import find_distortion, undistort_pixels
from gsplatloc.localization.pose.estimates import inlier_observations, with_inliers
from gsplatloc.localization.pose.false_alarms import (
    POSE_PARAMETERS,
    chance_anywhere,
    log10_expected,
    log10_false_alarms,
)
from gsplatloc.localization.pose.reprojection import inlier_threshold_px, pixel_scale
from gsplatloc.localization.result import Matches, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.colmap import pycolmap
from gsplatloc.utils.errors import GSplatLocError

_MIN_SAMPLE = 4  # matches that a solver needs
_MIN_ITERATIONS = 100  # RANSAC samples, even when the first look perfect; local optimisation needs few
RANSAC_SEED = 0  # of the samples: the same matches give the same pose
# Poses expected from wrong matches alone; a pose with more is rejected. Far less than one, as wrong matches
# are less independent than the test assumes: the best of 128 photos of other places reached 1e-4, the worst
# of 40 held-out views of RedKitchen 1e-119.
_MAX_FALSE_ALARMS = 1e-10
_MIN_NOISE_PX = 0.05  # of a match: the residuals of a few may be smaller by chance
_LOSS = 0.5  # scale of the robust loss in the covariance, relative to that noise; as in the solvers


@dataclass(frozen=True)
class PnPOptions:
    """How to estimate a pose. Pixel values grow in proportion to images longer than 640 px."""

    loss_scale_px: float = 0.5  # of the Cauchy loss in the refinements; chosen on held-out RedKitchen views
    max_iterations: int = 20_000  # RANSAC samples at most (--ransac_iters; the paper's setting)

    def __post_init__(self) -> None:
        if self.max_iterations < 1:
            raise GSplatLocError(
                f"expected at least one RANSAC sample, found {self.max_iterations}: see --ransac_iters"
            )


def estimate_pose(
    pixels: np.ndarray,
    points: np.ndarray,
    camera: Camera,
    options: PnPOptions | None = None,
    focal_known: bool = True,
) -> PoseEstimate:
    """The pose that most matches of `pixels` [M, 2] and world `points` [M, 3], both float64, agree on.

    With `focal_known=False` the camera's focal length is ignored and estimated together with radial
    distortion: the pixels of the estimate's matches are then those of a pinhole camera. A failure is a
    status, never an exception.
    """
    options = options or PnPOptions()
    start = time.perf_counter()
    pixels, points = np.ascontiguousarray(pixels, np.float64), np.ascontiguousarray(points, np.float64)
    matches = Matches(pixels, points, np.zeros(len(pixels), bool))
    parameters = POSE_PARAMETERS + (0 if focal_known else 1)
    if not _provable(len(pixels), camera, parameters):
        estimate = PoseEstimate(Status.TOO_FEW_MATCHES, camera, matches=matches)
    else:
        solve = _solve_known_focal if focal_known else _solve_unknown_focal
        estimate = _verified(solve(matches, camera, options), matches, camera, parameters)
    return replace(estimate, elapsed_ms=1000 * (time.perf_counter() - start))


def verify_pose(cam_from_world: Tensor, matches: Matches, camera: Camera) -> PoseEstimate:
    """An estimate of a pose [4, 4] found without PnP: OK if matches support it as well as one from PnP."""
    if not _provable(len(matches), camera, POSE_PARAMETERS):
        return PoseEstimate(Status.TOO_FEW_MATCHES, camera, matches=matches)
    return _verified(_Solution(cam_from_world), matches, camera, POSE_PARAMETERS)


def _provable(count: int, camera: Camera, parameters: int) -> bool:
    """Whether so many matches would pass the test of false alarms if all of them agreed."""
    chance = chance_anywhere(camera, inlier_threshold_px(camera))
    return log10_expected(count, count, chance, parameters) <= math.log10(_MAX_FALSE_ALARMS)


def pose_information(cam_from_world: Tensor, camera: Camera, matches: Matches) -> Tensor:
    """Information [6, 6] of xi = (rho, phi), T <- exp(xi) T, from the inliers, at least 4 of them.

    J^T J / sigma^2 with J the Jacobian of the pixel residuals and sigma^2 their variance with 2M - 6 degrees
    of freedom, assuming independent residuals (`localization.pose.covariance`).
    """
    pixels, points = (torch.from_numpy(each[matches.inliers]) for each in (matches.pixels, matches.points))
    points_in_cam = points @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
    residuals = camera.project(points_in_cam) - pixels
    jacobian = projection_jacobian(points_in_cam, camera).reshape(-1, 6)
    variance = (residuals**2).sum() / max(residuals.numel() - 6, 1)
    return jacobian.T @ jacobian / variance.clamp(min=_MIN_NOISE_PX**2)


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
    """The answer of a solver."""

    cam_from_world: Tensor  # [4, 4] float64
    focal_scale: float = 1.0  # by which the camera's focal lengths are multiplied
    distortion: float = 0.0  # radial k of the matches' pixels


def poselib_camera(camera: Camera) -> dict[str, Any]:
    """A camera in PoseLib's form, which has the same convention of pixels."""
    params = [camera.fx, camera.fy, camera.cx, camera.cy]
    return {"model": "PINHOLE", "width": camera.width, "height": camera.height, "params": params}


def _solve_known_focal(matches: Matches, camera: Camera, options: PnPOptions) -> _Solution | None:
    ransac = {
        "max_reproj_error": inlier_threshold_px(camera),
        "max_iterations": options.max_iterations,
        "min_iterations": min(_MIN_ITERATIONS, options.max_iterations),
        "seed": RANSAC_SEED,
    }
    bundle = {"loss_type": "CAUCHY", "loss_scale": options.loss_scale_px * pixel_scale(camera)}
    pose, info = poselib.estimate_absolute_pose(
        matches.pixels, matches.points, poselib_camera(camera), ransac, bundle
    )
    if info["num_inliers"] < _MIN_SAMPLE:
        return None
    return _Solution(_matrix(pose.R, pose.t))


def _solve_unknown_focal(matches: Matches, camera: Camera, options: PnPOptions) -> _Solution | None:
    threshold_px, loss_px = inlier_threshold_px(camera), options.loss_scale_px * pixel_scale(camera)
    params = [camera.fx, camera.cx, camera.cy]
    size = {"width": camera.width, "height": camera.height}
    pinhole = pycolmap.Camera(model="SIMPLE_PINHOLE", params=params, **size)
    estimation = pycolmap.AbsolutePoseEstimationOptions(estimate_focal_length=True)
    estimation.ransac.max_error = threshold_px
    estimation.ransac.max_num_trials = options.max_iterations
    estimation.ransac.min_num_trials = min(_MIN_ITERATIONS, options.max_iterations)
    estimation.ransac.random_seed = RANSAC_SEED
    refinement = pycolmap.AbsolutePoseRefinementOptions(refine_focal_length=True)
    refinement.loss_function_scale = loss_px
    found = pycolmap.estimate_and_refine_absolute_pose(
        matches.pixels, matches.points, pinhole, estimation, refinement
    )
    if found is None:
        return None
    rigid, focal, distortion = found["cam_from_world"], pinhole.focal_length, 0.0
    agreeing = replace(matches, inliers=np.array(found["inlier_mask"], bool))
    radial = find_distortion(rigid, pinhole, agreeing, threshold_px, loss_px)
    if radial is not None:
        rigid, focal, distortion = radial.cam_from_world, radial.focal, radial.distortion
    return _Solution(_matrix(rigid.rotation.matrix(), rigid.translation), focal / camera.fx, distortion)


def _verified(found: _Solution | None, matches: Matches, camera: Camera, parameters: int) -> PoseEstimate:
    """A solver's pose as an estimate; a pose that wrong matches alone would often reach is rejected.

    Solvers select inliers before their last refinement: here they are decided at the pose itself.
    """
    if found is None:
        return PoseEstimate(Status.NO_CONSENSUS, camera, matches=matches)
    pose = found.cam_from_world
    camera = replace(camera, fx=camera.fx * found.focal_scale, fy=camera.fy * found.focal_scale)
    if found.distortion != 0:
        matches = replace(matches, pixels=undistort_pixels(matches.pixels, camera, found.distortion))
    agreeing = with_inliers(matches, camera, pose)
    inliers = int(agreeing.inliers.sum())
    alarms = log10_false_alarms(agreeing, pose, camera, inlier_threshold_px(camera), parameters)
    if alarms > math.log10(_MAX_FALSE_ALARMS):
        return PoseEstimate(Status.NO_CONSENSUS, camera, inliers=inliers, matches=matches)
    return PoseEstimate(
        status=Status.OK,
        camera=camera,
        distortion=found.distortion,
        cam_from_world=pose,
        inliers=inliers,
        covariance=_covariance(pose, camera, agreeing),
        information=pose_information(pose, camera, agreeing),
        matches=agreeing,
    )


def _covariance(cam_from_world: Tensor, camera: Camera, matches: Matches) -> Tensor:
    """Covariance [6, 6] of a pose from its inliers."""
    seen = inlier_observations(matches)
    noise = max(reprojection.noise_px(reprojection.errors_px(camera, cam_from_world, seen)), _MIN_NOISE_PX)
    return reprojection.jackknifed(camera, cam_from_world, replace(seen, sigma=_LOSS * noise * seen.sigma))


def _matrix(rotation: np.ndarray, translation: np.ndarray) -> Tensor:
    """[3, 3] and [3] -> [4, 4] float64."""
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3], matrix[:3, 3] = torch.from_numpy(rotation.copy()), torch.from_numpy(translation.copy())
    return matrix
