"""Refinement `warp`: GSplatLoc's own, a rendering warped into the query image by gradient descent.

Sidorov et al., "GSplatLoc: Grounding Keypoint Descriptors into 3D Gaussian Splatting for Improved Visual
Localization" (IROS 2025): photometric and feature residuals, Adam over the 6-vector of a pose. Beyond the
paper: robust cost, local contrast with gain and bias, levels of the image, Adam steps of equal image motion
in every direction, and the initial pose as a Gaussian prior. The best iterate is kept, if the initial pose's
inliers agree with it, too.
"""

from functools import partial

import torch

from gsplatloc.localization.alignment.adam import adam_descent
from gsplatloc.localization.alignment.direct import align_with_map
from gsplatloc.localization.alignment.options import AdamOptions
from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.estimates import aligned, inlier_observations
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import Refiner, StageContext
from gsplatloc.localization.refine.members import WarpOptions
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.splat_map import SplatMap

_MAX_GROWTH = 1.1  # factor on the median reprojection error of the initial pose's inliers
_FREE_GROWTH_PX = 0.1  # growth of that median that is always allowed


class WarpRefiner:
    """`Refiner` by photometric and feature alignment, Adam."""

    name = "warp"
    verifies = False

    def __init__(self, options: WarpOptions | None = None):
        self.options = options or WarpOptions()

    @torch.no_grad()
    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        """The aligned pose; `initial` with `accepted=False` if it failed or no pose is accepted."""
        return aligned(initial, lambda: self._refined(query, splat_map, initial))

    def _refined(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate | None:
        options = self.options
        gaussians = splat_map.described if options.feature_weight > 0 else splat_map.gaussians
        minimise = partial(adam_descent, options=AdamOptions(options.lr, options.iterations))
        found = align_with_map(query, gaussians, initial, minimise, options)
        return found if found is not None and _agrees(initial, found) else None


def _agrees(initial: PoseEstimate, found: PoseEstimate) -> bool:
    """Whether the initial pose's inliers have about the same reprojection errors at the pose found."""
    if initial.matches is None or not initial.matches.inliers.any():
        return True
    known = inlier_observations(initial.matches)
    before, after = (
        reprojection.errors_px(initial.camera, estimate.pose(), known).median().item()
        for estimate in (initial, found)
    )
    return after <= _MAX_GROWTH * before + _FREE_GROWTH_PX


def make(options: WarpOptions, context: StageContext) -> Refiner:
    return WarpRefiner(options)
