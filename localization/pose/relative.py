"""The pose of a photo relative to a rendering, from matches between the two and the rendering's depth.

The essential matrix of the matches is a pose up to scale (five-point RANSAC and refinement, PoseLib). The
scale is the median, over the inliers, of rendered depth over triangulated depth. Errors of single depths
hardly matter, as they do for PnP; but where photo and rendering were taken at one place the direction of the
translation is undefined, so its accuracy ends at a share of the coarse pose's own error.
"""

import time
from dataclasses import replace

import numpy as np
import poselib
import torch
from torch import Tensor

from gsplatloc.localization.alignment import rendered_view as rendering
from gsplatloc.localization.matching.images import ImageMatches
from gsplatloc.localization.pose.pnp import PnPOptions, pixel_scale, poselib_camera, verify_pose
from gsplatloc.localization.result import Matches, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3

_MIN_MATCHES = 8  # the essential matrix needs five; fewer than this prove nothing
_MAX_EPIPOLAR_PX = 2.0  # from its epipolar line, of an inlier at 640 pixels
_LOSS_PX = 1.0  # scale of the Cauchy loss on these distances
_MIN_SINE = 1e-4  # between the two rays of a match; closer to parallel there is no depth


def estimate_relative(
    matches: ImageMatches, camera: Camera, view: rendering.Rendering, trusted: Tensor, options: PnPOptions
) -> PoseEstimate:
    """The pose of a photo by `camera`; `matches` are its pixels (a) beside those of `view` (b).

    Where `trusted` [H, W], depth is used. Judged by the same evidence as a pose from PnP: the lifted matches.
    """
    start = time.perf_counter()
    found = _relative_pose(matches, camera, view.camera, options)
    kept = rendering.inside(trusted, matches.b.to(view.depth)).cpu()
    lifted = matches.select(kept)
    local = rendering.lift(view, lifted.b.to(view.depth)).double().cpu()
    pixels, points = lifted.a.double().numpy(), rendering.to_world(view, local).numpy()
    estimate = PoseEstimate(
        Status.TOO_FEW_MATCHES if len(matches) < _MIN_MATCHES else Status.NO_CONSENSUS,
        camera,
        matches=Matches(pixels, points, np.zeros(len(pixels), bool)),
    )
    scale = None if found is None else _scale(found[0], found[1][kept.numpy()], lifted, camera, view, local)
    if found is not None and scale is not None:
        photo_from_view = found[0].clone()
        photo_from_view[:3, 3] *= scale
        estimate = verify_pose(photo_from_view @ view.cam_from_world, pixels, points, camera, options)
    return replace(estimate, elapsed_ms=1000 * (time.perf_counter() - start))


def _relative_pose(
    matches: ImageMatches, photo: Camera, view: Camera, options: PnPOptions
) -> tuple[Tensor, np.ndarray] | None:
    """Photo from view [4, 4] with a translation of length one, and the inliers [M] bool."""
    if len(matches) < _MIN_MATCHES:
        return None
    ransac = {
        "max_epipolar_error": _MAX_EPIPOLAR_PX * pixel_scale(photo),
        "max_iterations": options.max_iterations,
        "seed": options.seed,
    }
    bundle = {"loss_type": "CAUCHY", "loss_scale": _LOSS_PX * pixel_scale(photo)}
    pose, info = poselib.estimate_relative_pose(
        matches.b.double().numpy(),
        matches.a.double().numpy(),
        poselib_camera(view),
        poselib_camera(photo),
        ransac,
        bundle,
    )
    inliers = np.array(info["inliers"], bool)
    if inliers.sum() < _MIN_MATCHES:
        return None
    translation = torch.from_numpy(np.array(pose.t, np.float64))
    translation = translation / translation.norm().clamp(min=1e-12)
    return se3.from_rotation_translation(torch.from_numpy(np.array(pose.R)), translation), inliers


def _scale(
    photo_from_view: Tensor,
    inliers: np.ndarray,
    matches: ImageMatches,
    photo: Camera,
    view: rendering.Rendering,
    local: Tensor,
) -> float | None:
    """Median of rendered over triangulated depth in the view; None where no match has either."""
    ones = torch.ones(len(matches), dtype=torch.float64)
    rays_view = view.camera.unproject(matches.b.double(), ones)
    rays_photo = photo.unproject(matches.a.double(), ones)
    depth, sine = triangulated_depth(photo_from_view, rays_view, rays_photo)
    good = torch.from_numpy(inliers) & (depth > 0) & (sine > _MIN_SINE)
    if not good.any():
        return None
    return (local[good, 2] / depth[good]).median().item()


def triangulated_depth(b_from_a: Tensor, rays_a: Tensor, rays_b: Tensor) -> tuple[Tensor, Tensor]:
    """Depths [M] along `rays_a` [M, 3] (z = 1) where they pass `rays_b` closest, and the sines between them.

    From d (R a) x b = -t x b, solved for d by least squares.
    """
    turned = rays_a @ b_from_a[:3, :3].T
    across = torch.linalg.cross(turned, rays_b)
    moved = torch.linalg.cross(b_from_a[:3, 3].expand_as(rays_b), rays_b)
    square = (across * across).sum(1)
    depth = -(across * moved).sum(1) / square.clamp(min=1e-18)
    return depth, square.sqrt() / (turned.norm(dim=1) * rays_b.norm(dim=1))
