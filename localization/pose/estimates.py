"""A refined pose as an estimate: every number in it describes that pose, not the one it started from."""

from dataclasses import replace

import torch
from torch import Tensor

from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.pnp import PnPOptions, pixel_scale
from gsplatloc.localization.result import PoseEstimate


def moved(
    initial: PoseEstimate,
    cam_from_world: Tensor,
    covariance: Tensor | None,
    information: Tensor | None = None,
) -> PoseEstimate:
    """`initial` moved to an accepted pose [4, 4] by a refinement that found no matches of its own.

    The query's 2D-3D matches are the same observations; which of them are inliers is decided at the new pose,
    by the threshold of RANSAC. `covariance` [6, 6] (calibrated) and `information` [6, 6] are the new pose's.
    """
    matches, inliers = initial.matches, 0
    if matches is not None:
        observations = reprojection.observe(
            torch.from_numpy(matches.pixels), torch.from_numpy(matches.points)
        )
        errors = reprojection.errors_px(initial.camera, cam_from_world, observations)
        agree = errors < PnPOptions().max_error_px * pixel_scale(initial.camera)
        matches, inliers = replace(matches, inliers=agree.numpy()), int(agree.sum())
    return replace(
        initial,
        cam_from_world=cam_from_world,
        inliers=inliers,
        matches=matches,
        covariance=covariance,
        information=information,
        accepted=True,
    )
