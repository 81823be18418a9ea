"""The pose of a query image relative to a reference view with depth, from matches between the two.

The essential matrix of the matches gives the pose up to scale (five-point RANSAC and refinement, PoseLib).
The scale is the median, over the inliers, of reference depth over triangulated depth. Errors of single depths
matter less than for PnP; but where the two views were taken from almost one place the direction of the
translation is undefined, so that the error remains proportional to that of the reference pose.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
import poselib
import torch
from torch import Tensor

from gsplatloc.localization.pose.options import PnPOptions
from gsplatloc.localization.pose.pnp import RANSAC_SEED, poselib_camera, verify_pose
from gsplatloc.localization.pose.reprojection import pixel_scale
from gsplatloc.localization.result import Matches, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera, PosedCamera
from gsplatloc.utils import se3

_MIN_MATCHES = 8  # the essential matrix needs five
_MAX_EPIPOLAR_PX = 2.0  # distance of an inlier from its epipolar line, in images of 640 pixels
_LOSS_PX = 1.0  # scale of the Cauchy loss on these distances
_MIN_SINE = 1e-4  # of the angle between the two rays of a match; smaller angles give no depth


@dataclass(frozen=True)
class DepthMatches:
    """Matches between a query image and a reference view with depth."""

    query: Tensor  # [M, 2] float64 pixels
    reference: Tensor  # [M, 2] float64 pixels
    depth: Tensor  # [M] float64 metres along z behind the reference pixels, 0 where unknown

    def __len__(self) -> int:
        return len(self.depth)


def estimate_relative(
    matches: DepthMatches, camera: Camera, reference: PosedCamera, options: PnPOptions
) -> PoseEstimate:
    """The pose of the query image by `camera`, verified by the matches with depth as a pose from PnP is."""
    start = time.perf_counter()
    found = _relative_pose(matches, camera, reference.camera, options)
    known = matches.depth > 0
    local = reference.camera.unproject(matches.reference[known], matches.depth[known])
    points = (local - reference.cam_from_world[:3, 3]) @ reference.cam_from_world[:3, :3]
    lifted = Matches(matches.query[known].numpy(), points.numpy(), np.zeros(len(points), bool))
    estimate = PoseEstimate(
        Status.TOO_FEW_MATCHES if len(matches) < _MIN_MATCHES else Status.NO_CONSENSUS, camera, matches=lifted
    )
    scale = None if found is None else _scale(*found, matches, camera, reference.camera)
    if found is not None and scale is not None:
        query_from_reference = found[0].clone()
        query_from_reference[:3, 3] *= scale
        estimate = verify_pose(query_from_reference @ reference.cam_from_world, lifted, camera)
    return replace(estimate, elapsed_ms=1000 * (time.perf_counter() - start))


def _relative_pose(
    matches: DepthMatches, query: Camera, reference: Camera, options: PnPOptions
) -> tuple[Tensor, Tensor] | None:
    """Query from reference [4, 4] with a translation of length one, and the inliers [M] bool."""
    if len(matches) < _MIN_MATCHES:
        return None
    ransac = {
        "max_epipolar_error": _MAX_EPIPOLAR_PX * pixel_scale(query),
        "max_iterations": options.max_iterations,
        "seed": RANSAC_SEED,
    }
    bundle = {"loss_type": "CAUCHY", "loss_scale": _LOSS_PX * pixel_scale(query)}
    pose, info = poselib.estimate_relative_pose(
        matches.reference.numpy(),
        matches.query.numpy(),
        poselib_camera(reference),
        poselib_camera(query),
        ransac,
        bundle,
    )
    inliers = torch.tensor(info["inliers"], dtype=torch.bool)
    if inliers.sum() < _MIN_MATCHES:
        return None
    translation = torch.from_numpy(np.array(pose.t, np.float64))
    translation = translation / translation.norm().clamp(min=1e-12)
    return se3.from_rotation_translation(torch.from_numpy(np.array(pose.R)), translation), inliers


def _scale(
    query_from_reference: Tensor, inliers: Tensor, matches: DepthMatches, query: Camera, reference: Camera
) -> float | None:
    """Median of reference depth over triangulated depth; None where no inlier has both."""
    ones = torch.ones_like(matches.depth)
    rays_reference, rays_query = (
        camera.unproject(pixels, ones)
        for camera, pixels in ((reference, matches.reference), (query, matches.query))
    )
    depth, sine = triangulated_depth(query_from_reference, rays_reference, rays_query)
    good = inliers & (matches.depth > 0) & (depth > 0) & (sine > _MIN_SINE)
    if not good.any():
        return None
    return (matches.depth[good] / depth[good]).median().item()


def triangulated_depth(b_from_a: Tensor, rays_a: Tensor, rays_b: Tensor) -> tuple[Tensor, Tensor]:
    """Depths [M] along `rays_a` [M, 3] (z = 1) where they pass `rays_b` closest, and the sines between them.

    From d (R a) x b = -t x b, solved for d by least squares.
    """
    turned = rays_a @ b_from_a[:3, :3].T
    across = torch.linalg.cross(turned, rays_b)
    shift = torch.linalg.cross(b_from_a[:3, 3].expand_as(rays_b), rays_b)
    square = (across * across).sum(1)
    depth = -(across * shift).sum(1) / square.clamp(min=1e-18)
    return depth, square.sqrt() / (turned.norm(dim=1) * rays_b.norm(dim=1))
