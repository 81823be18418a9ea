"""The initial pose of GSplatLoc: a query's keypoints matched with the descriptors of all Gaussians, RANSAC.

Sidorov et al. (IROS 2025), "coarse": the 3D point of a match is the centre of its Gaussian. `landmarks` is
more accurate and faster; this one is for comparison with the paper, and for maps without landmarks.
"""

import time
from dataclasses import replace

import torch
import torch.nn.functional as F

from gsplatloc.localization.initial import InitialPose
from gsplatloc.localization.initial.members import GaussianMatchingOptions
from gsplatloc.localization.matching.nearest import mutual_nearest
from gsplatloc.localization.pose.pnp import estimate_pose
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import StageContext
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.errors import GSplatLocError

# Variance relative to that of the matches: the centres of Gaussians lie beside the surface, alike for
# neighbours. The median over 22 mapping views of RedKitchen (preset paper, 7,000 iterations) is 6.2.
_POSITIONS = 6.0


class GaussianPose(InitialPose):
    """`InitialPose` by matching with the descriptors of Gaussians."""

    name = "gaussians"

    def __init__(self, gaussians: Gaussians, options: GaussianMatchingOptions | None = None):
        self.options = options or GaussianMatchingOptions()
        opaque = gaussians.opacities >= self.options.min_opacity
        features, decoder = gaussians.features[opaque], gaussians.feature_decoder
        self._positions = gaussians.means[opaque]
        self._descriptors = F.normalize(features if decoder is None else features @ decoder.T, dim=1)

    @torch.no_grad()
    def hypotheses(self, query: Query) -> list[PoseEstimate]:
        """One estimate."""
        start = time.perf_counter()
        keypoints = query.keypoints.select(slice(0, self.options.keypoints))
        pairs = mutual_nearest(keypoints.descriptors, self._descriptors)
        pixels = keypoints.xy[pairs.index_a].double().cpu().numpy()
        points = self._positions[pairs.index_b].double().cpu().numpy()
        estimate = estimate_pose(
            pixels, points, query.camera, self.options.pnp, query.focal_known, query.focal_sigma
        )
        return [_widened(estimate, 1000 * (time.perf_counter() - start))]


def _widened(estimate: PoseEstimate, elapsed_ms: float) -> PoseEstimate:
    """The estimate with a covariance that includes the error of the Gaussians' positions."""
    covariance, information = estimate.covariance, estimate.information
    return replace(
        estimate,
        covariance=None if covariance is None else _POSITIONS * covariance,
        information=None if information is None else information / _POSITIONS,
        elapsed_ms=elapsed_ms,
    )


def make(options: GaussianMatchingOptions, context: StageContext) -> InitialPose:
    gaussians = context.splat_map.described
    if gaussians.features.shape[1] == 0:
        raise GSplatLocError(
            "expected Gaussians with descriptors, found a map without any: train it with --descriptors"
            " distilled or aggregated"
        )
    return GaussianPose(gaussians, options)
