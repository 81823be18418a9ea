"""Every number of a `PoseEstimate` describes its own pose: inliers and information for the stages."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.covariance import assumed_information
from gsplatloc.localization.result import Matches, PoseEstimate
from gsplatloc.scene.cameras import Camera

_MIN_KEPT = 0.9  # share of an initial pose's inliers that must be inliers of the refined pose


def aligned(initial: PoseEstimate, align: Callable[[], PoseEstimate | None]) -> PoseEstimate:
    """What `align` finds, with its time; `initial` with `accepted=False` if it failed or nothing is found."""
    start = time.perf_counter()
    refined = align() if initial.ok else None
    elapsed_ms = 1000 * (time.perf_counter() - start)
    return replace(refined or replace(initial, accepted=False), elapsed_ms=elapsed_ms)


def moved(
    initial: PoseEstimate,
    cam_from_world: Tensor,
    covariance: Tensor | None,
    information: Tensor | None = None,
) -> PoseEstimate:
    """`initial` moved to an accepted pose [4, 4] by a refinement that found no matches of its own.

    The query's 2D-3D matches are the same observations; which of them are inliers is decided at the new pose.
    `covariance` [6, 6] (calibrated) and `information` [6, 6] (independent residuals) are the new pose's.
    """
    matches = initial.matches
    if matches is not None:
        matches = with_inliers(matches, initial.camera, cam_from_world)
    return replace(
        initial,
        cam_from_world=cam_from_world,
        inliers=0 if matches is None else int(matches.inliers.sum()),
        matches=matches,
        covariance=with_camera_error(covariance, initial),
        information=information,
        accepted=True,
    )


def with_camera_error(covariance: Tensor | None, initial: PoseEstimate) -> Tensor | None:
    """The covariance [6, 6] of a pose found with the camera of `initial`, which may have been estimated."""
    if covariance is None or initial.camera_covariance is None:
        return covariance
    return covariance + initial.camera_covariance.to(covariance)


def with_inliers(matches: Matches, camera: Camera, cam_from_world: Tensor) -> Matches:
    """`matches` with the inliers of a pose [4, 4]."""
    observations = reprojection.observe(torch.from_numpy(matches.pixels), torch.from_numpy(matches.points))
    return replace(matches, inliers=reprojection.inliers(camera, cam_from_world, observations).numpy())


def inlier_observations(matches: Matches) -> reprojection.Observations:
    """The inliers among `matches` with unit noise and weight."""
    pixels, points = (torch.from_numpy(each[matches.inliers]) for each in (matches.pixels, matches.points))
    return reprojection.observe(pixels, points)


def keeps_inliers(cam_from_world: Tensor, initial: PoseEstimate) -> bool:
    """Whether 90 % of the initial pose's inliers are inliers of a refined pose [4, 4]; True without any."""
    if initial.matches is None:
        return True
    known = inlier_observations(initial.matches)
    kept = reprojection.inliers(initial.camera, cam_from_world, known)
    return int(kept.sum()) >= _MIN_KEPT * len(known)


def independent_information(estimate: PoseEstimate) -> Tensor:
    """Information [6, 6] of an estimate, assuming independent residuals: its weight in later stages.

    Zero for an estimate without a covariance, whose error is unknown.
    """
    if estimate.covariance is None:
        return torch.zeros(6, 6, dtype=torch.float64)
    if estimate.information is None:
        return assumed_information(estimate.covariance)
    return estimate.information.double().cpu()
