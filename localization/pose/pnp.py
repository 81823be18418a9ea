"""The pose of a camera from 2D-3D matches: LO-RANSAC, non-linear refinement, covariance.

Known focal length: PoseLib (P3P of Persson & Nordberg 2018 inside LO-RANSAC). Unknown: COLMAP's P4PF inside
LO-RANSAC, then pose and camera refined together (`pose.camera.fit`), also from the pose of the camera that is
probably right, if there is one.
"""

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import poselib
import torch
from torch import Tensor

from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.camera.fit import fit_camera, likeliest
from gsplatloc.localization.pose.camera.given import contradicts, doubt_of_given
from gsplatloc.localization.pose.camera.model import CameraFit, errors_px
from gsplatloc.localization.pose.distortion import undistort_pixels
from gsplatloc.localization.pose.estimates import inlier_observations, with_inliers
from gsplatloc.localization.pose.false_alarms import (
    POSE_PARAMETERS,
    chance_anywhere,
    log10_expected,
    log10_false_alarms,
)
from gsplatloc.localization.pose.options import PnPOptions
from gsplatloc.localization.pose.reprojection import inlier_threshold_px, pixel_scale
from gsplatloc.localization.result import Matches, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.colmap import pycolmap

_MIN_SAMPLE = 4  # matches that a solver needs
_MIN_ITERATIONS = 100  # RANSAC samples, even when the first look perfect; local optimisation needs few
RANSAC_SEED = 0  # of the samples: the same matches give the same pose
# Poses expected from wrong matches alone; a pose with more is rejected. Far less than one, as wrong matches
# are less independent than the test assumes: the best of 128 photos of other places reached 1e-4, the worst
# of 40 held-out views of RedKitchen 1e-119.
_MAX_FALSE_ALARMS = 1e-10
_MIN_NOISE_PX = 0.05  # of a match: the residuals of a few may be smaller by chance
_LOSS = 0.5  # scale of the robust loss in the covariance, relative to that noise; as in the solvers
_CROPPED_ITERATIONS = 2_000  # of each of the shifts below, which are tried one after another
# Shifts of the principal point, relative to width and height, that are tried.
_CROPPED = (
    (0.6, 0.0),
    (-0.6, 0.0),
    (0.0, 0.6),
    (0.0, -0.6),
    (0.5, 0.5),
    (0.5, -0.5),
    (-0.5, 0.5),
    (-0.5, -0.5),
)
_MIN_AGREEMENT = 0.5  # share of the matches that must agree with a probable camera; else others are tried


def estimate_pose(
    pixels: np.ndarray,
    points: np.ndarray,
    camera: Camera,
    options: PnPOptions | None = None,
    focal_known: bool = True,
    focal_sigma: float = math.inf,
    uncertain: bool = True,
) -> PoseEstimate:
    """The pose that most matches of `pixels` [M, 2] and world `points` [M, 3], both float64, agree on.

    With `focal_known=False` the camera is estimated, too: the pixels of the estimate's matches are then those
    of a pinhole camera. `focal_sigma` says how well it is known (`fit_camera`). A failure is a status, never
    an exception. With `uncertain=False` an estimate of a known camera has neither covariance nor information,
    for a pose that is refined next (`with_uncertainty`).
    """
    options = options or PnPOptions()
    start = time.perf_counter()
    pixels, points = np.ascontiguousarray(pixels, np.float64), np.ascontiguousarray(points, np.float64)
    matches = Matches(pixels, points, np.zeros(len(pixels), bool))
    parameters = POSE_PARAMETERS + (0 if focal_known else 1)
    if not _provable(len(pixels), camera, parameters):
        estimate = PoseEstimate(Status.TOO_FEW_MATCHES, camera, matches=matches)
    elif focal_known:
        estimate = _verified(_solve_known_focal(matches, camera, options), matches, camera)
    else:
        found = _solve_unknown_camera(matches, camera, options, focal_sigma)
        estimate = _verified(found, matches, camera)
    if uncertain and estimate.ok:
        estimate = with_uncertainty(estimate)
    return replace(estimate, elapsed_ms=1000 * (time.perf_counter() - start))


def ransac_pose(matches: Matches, camera: Camera, options: PnPOptions) -> PoseEstimate | None:
    """The pose with the most inliers among `matches`, without the test of false alarms."""
    found = _solve_known_focal(matches, camera, options) if len(matches) >= _MIN_SAMPLE else None
    if found is None:
        return None
    matches, pose = with_inliers(matches, camera, found.cam_from_world), found.cam_from_world
    count = int(matches.inliers.sum())
    return PoseEstimate(Status.OK, camera, cam_from_world=pose, inliers=count, matches=matches)


def refit_camera(
    estimate: PoseEstimate, pixels: np.ndarray, points: np.ndarray, known: Camera, focal_sigma: float
) -> PoseEstimate:
    """The pose and the camera near an estimate, from other matches; `known` as in `estimate_pose`."""
    matches = Matches(pixels, points, np.zeros(len(pixels), bool))
    start = CameraFit(estimate.pose(), estimate.camera, estimate.distortion)
    return with_uncertainty(
        _verified(fit_camera(start, known, _observed(matches), focal_sigma), matches, known)
    )


def contradicts_camera(estimate: PoseEstimate) -> bool:
    """Whether the matches of an estimate fit another camera clearly better than the one that was given."""
    if not estimate.ok or estimate.matches is None:
        return False
    return contradicts(estimate.pose(), estimate.camera, _observed(estimate.matches))


def with_doubt_of_camera(estimate: PoseEstimate) -> PoseEstimate:
    """An estimate whose covariance includes that the camera given as exact may be another one."""
    if not estimate.ok or estimate.matches is None or estimate.covariance is None:
        return estimate
    doubt = doubt_of_given(estimate.pose(), estimate.camera, _observed(estimate.matches))
    if doubt is None:
        return estimate
    return replace(estimate, covariance=estimate.covariance + doubt, camera_covariance=doubt)


def verify_pose(cam_from_world: Tensor, matches: Matches, camera: Camera) -> PoseEstimate:
    """An estimate of a pose [4, 4] found without PnP: OK if matches support it as well as one from PnP."""
    if not _provable(len(matches), camera, POSE_PARAMETERS):
        return PoseEstimate(Status.TOO_FEW_MATCHES, camera, matches=matches)
    return with_uncertainty(_verified(CameraFit(cam_from_world, camera), matches, camera))


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


def poselib_camera(camera: Camera) -> dict[str, Any]:
    """A camera in PoseLib's form, which has the same convention of pixels."""
    params = [camera.fx, camera.fy, camera.cx, camera.cy]
    return {"model": "PINHOLE", "width": camera.width, "height": camera.height, "params": params}


def _solve_known_focal(matches: Matches, camera: Camera, options: PnPOptions) -> CameraFit | None:
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
    return CameraFit(_matrix(pose.R, pose.t), camera)


def _solve_unknown_camera(
    matches: Matches, camera: Camera, options: PnPOptions, focal_sigma: float
) -> CameraFit | None:
    """The likelier of two fits: from the pose of the probable camera, and from an estimated focal length.

    The first alone where the camera proves right and most matches agree.
    """
    observations, fits = _observed(matches), []
    if math.isfinite(focal_sigma):
        probable = _solve_known_focal(matches, camera, options)
        if probable is not None:
            fits.append(fit_camera(probable, camera, observations, focal_sigma))
            agreeing = (errors_px(fits[0], observations) < inlier_threshold_px(camera)).mean()
            if agreeing > _MIN_AGREEMENT and fits[0].known_is_right:
                return fits[0]
    free = _solve_unknown_focal(matches, camera, options)
    if free is not None:
        fits.append(fit_camera(free, camera, observations, focal_sigma))
    best = likeliest(fits, observations)
    if best is not None:
        agreeing = (errors_px(best, observations) < inlier_threshold_px(camera)).mean()
        if best.known_is_right or agreeing > _MIN_AGREEMENT:
            return best
    # Few matches agree: a part that was cut out of a photo has its principal point at its edge, or outside.
    few = replace(options, max_iterations=min(options.max_iterations, _CROPPED_ITERATIONS))
    for across, down in _CROPPED:
        shifted = replace(camera, cx=camera.cx + across * camera.width, cy=camera.cy + down * camera.height)
        start = _solve_unknown_focal(matches, shifted, few)
        if start is not None:
            fits.append(fit_camera(start, camera, observations, focal_sigma))
    return likeliest(fits, observations)


def _solve_unknown_focal(matches: Matches, camera: Camera, options: PnPOptions) -> CameraFit | None:
    size = {"width": camera.width, "height": camera.height}
    params = [camera.fx, camera.cx, camera.cy]
    pinhole = pycolmap.Camera(model="SIMPLE_PINHOLE", params=params, **size)
    estimation = pycolmap.AbsolutePoseEstimationOptions(estimate_focal_length=True)
    estimation.ransac.max_error = inlier_threshold_px(camera)
    estimation.ransac.max_num_trials = options.max_iterations
    estimation.ransac.min_num_trials = min(_MIN_ITERATIONS, options.max_iterations)
    estimation.ransac.random_seed = RANSAC_SEED
    found = pycolmap.estimate_absolute_pose(matches.pixels, matches.points, pinhole, estimation)
    if found is None:
        return None
    rigid, factor = found["cam_from_world"], pinhole.focal_length / camera.fx
    estimated = replace(camera, fx=camera.fx * factor, fy=camera.fy * factor)
    return CameraFit(_matrix(rigid.rotation.matrix(), rigid.translation), estimated)


def _observed(matches: Matches) -> reprojection.Observations:
    return reprojection.observe(torch.from_numpy(matches.pixels), torch.from_numpy(matches.points))


def _verified(found: CameraFit | None, matches: Matches, camera: Camera) -> PoseEstimate:
    """A solver's pose as an estimate; a pose that wrong matches alone would often reach is rejected.

    The estimate has no information yet, and with a known camera no covariance (`with_uncertainty`).

    Solvers select inliers before their last refinement: here they are decided at the pose itself.
    """
    if found is None:
        return PoseEstimate(Status.NO_CONSENSUS, camera, matches=matches)
    pose, camera = found.cam_from_world, found.camera
    if found.distortion != 0:
        matches = replace(matches, pixels=undistort_pixels(matches.pixels, camera, found.distortion))
    agreeing = with_inliers(matches, camera, pose)
    inliers = int(agreeing.inliers.sum())
    parameters = POSE_PARAMETERS + len(found.free)
    alarms = log10_false_alarms(agreeing, pose, camera, inlier_threshold_px(camera), parameters)
    if alarms > math.log10(_MAX_FALSE_ALARMS):
        return PoseEstimate(Status.NO_CONSENSUS, camera, inliers=inliers, matches=agreeing)
    return PoseEstimate(
        status=Status.OK,
        camera=camera,
        distortion=found.distortion,
        cam_from_world=pose,
        inliers=inliers,
        covariance=found.covariance,
        camera_covariance=found.camera_covariance,
        matches=agreeing,
    )


def with_uncertainty(estimate: PoseEstimate) -> PoseEstimate:
    """An estimate with the covariance, unless it has one, and the information that its inliers give it."""
    if not estimate.ok or estimate.matches is None:
        return estimate
    pose, camera, matches = estimate.pose(), estimate.camera, estimate.matches
    covariance = estimate.covariance
    return replace(
        estimate,
        covariance=_covariance(pose, camera, matches) if covariance is None else covariance,
        information=pose_information(pose, camera, matches),
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
