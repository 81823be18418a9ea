"""Refinement `warp`: GSplatLoc's own, a rendering warped into the query image by gradient descent.

Sidorov et al., "GSplatLoc: Grounding Keypoint Descriptors into 3D Gaussian Splatting for Improved Visual
Localization" (IROS 2025): photometric and feature residuals, Adam over the 6-vector of a pose. Beyond the
paper: robust cost, local contrast with gain and bias, levels of the image, Adam steps of equal image motion
in every direction, and the initial pose as a Gaussian prior. The best iterate is kept, if the initial pose's
inliers agree with it, too.
"""

import math
import time
from dataclasses import dataclass, replace
from functools import partial

import torch

from gsplatloc.gaussian_renderer import RenderOptions
from gsplatloc.localization.alignment.adam import AdamOptions, adam_descent
from gsplatloc.localization.alignment.direct import DirectOptions, align_with_map
from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.estimates import inlier_observations
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import REFINERS, Refiner, StageContext
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils.errors import GSplatLocError

_MAX_GROWTH = 1.1  # factor on the median reprojection error of the initial pose's inliers
_FREE_GROWTH_PX = 0.1  # growth of that median that is always allowed


@dataclass(frozen=True)
class WarpOptions(DirectOptions):
    """Options of the refinement `warp`. Defaults are for indoor scenes in metres."""

    feature_weight: float = 0.1  # of the descriptor term relative to the photometric one; 0 = colour only
    patches: bool = False  # KLT patches are added as reprojection residuals after photometric convergence
    lr: float = AdamOptions.lr  # first Adam step, radians of view in every direction (paper: 1e-3 m and rad)
    iterations: int = AdamOptions.iterations  # maximum Adam steps of a level (paper: 250, outdoors 350)

    def __post_init__(self) -> None:
        if not (0 < self.lr < math.inf) or self.iterations < 0:
            raise GSplatLocError(
                f"expected a positive learning rate and at least 0 steps, found {self.lr:g} and"
                f" {self.iterations}: see --warp_lr and --warp_iters"
            )


class WarpRefiner:
    """`Refiner` by photometric and feature alignment, Adam."""

    name = "warp"
    verifies = False

    def __init__(self, options: WarpOptions | None = None, render_options: RenderOptions | None = None):
        self.options = options or WarpOptions()
        self.render_options = render_options or RenderOptions()

    @torch.no_grad()
    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        """The aligned pose; `initial` with `accepted=False` if it failed or no pose is accepted."""
        start = time.perf_counter()
        refined = self._refined(query, splat_map, initial) if initial.ok else None
        elapsed_ms = 1000 * (time.perf_counter() - start)
        return replace(refined or replace(initial, accepted=False), elapsed_ms=elapsed_ms)

    def _refined(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate | None:
        options = self.options
        gaussians = splat_map.described if options.feature_weight > 0 else splat_map.gaussians
        minimise = partial(adam_descent, options=AdamOptions(options.lr, options.iterations))
        found = align_with_map(query, gaussians, initial, minimise, options, self.render_options)
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


@REFINERS.register("warp", WarpOptions, "GSplatLoc's refinement: warp one rendering, Adam on SE(3)")
def make(options: WarpOptions, context: StageContext) -> Refiner:
    return WarpRefiner(options)
