"""Refinement `gsloc`: dense photometric alignment by gradient descent, with a rendering at every step.

Botashev et al., "GSLoc: Visual Localization with 3D Gaussian Splatting" (2024). Adam on SE(3) minimises the
L1 difference between rendering and query image. If the PSNR remains below 25 dB, the search is repeated with
both images blurred, with a fading blur: blurred images converge from further away. Beyond the paper:
translations are in depths of the scene, not in metres; the search is not repeated for a rendering that
correlates with the query image, as under another exposure none reaches 25 dB; images of half the size are
compared as long as the blur allows it; a search without progress ends; and a pose is accepted only if it
lowers the loss, raises the PSNR and correlates with the query image.

Where `lm` needs a few steps on one rendering, this needs hundreds of renderings. It is the peer that `lm` is
compared with (benchmarks, convergence).
"""

from gsplatloc.localization.alignment.adam import parametrized
from gsplatloc.localization.alignment.direct import photometric_uncertainty
from gsplatloc.localization.alignment.photometric import (
    Iterate,
    PhotometricObjective,
    Pyramid,
    grey_correlation,
    photometric_descent,
    photometric_objective,
)
from gsplatloc.localization.pose.estimates import aligned, moved
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import Refiner, StageContext
from gsplatloc.localization.refine.members import GslocOptions
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.splat_map import SplatMap

_SIZES = 2  # of images, each of half the size of the one before
_MIN_CORRELATION = 0.5  # between query image and rendering: less is another place


class GslocRefiner:
    """`Refiner` by dense photometric descent."""

    name = "gsloc"
    verifies = False

    def __init__(self, options: GslocOptions | None = None):
        self.options = options or GslocOptions()

    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        """The aligned pose; `initial` with `accepted=False` if it failed or no pose is accepted."""
        return aligned(initial, lambda: self._refined(query, splat_map.gaussians, initial))

    def _refined(self, query: Query, gaussians: Gaussians, initial: PoseEstimate) -> PoseEstimate | None:
        options, sizes = self.options, self._sizes(query, gaussians)
        full = sizes[0]
        before, depth = full.evaluate(initial.pose())
        if depth is None:
            return None
        best = self._descend(sizes, before, depth, 0.0)
        alike = grey_correlation(best.residual, full.query) >= options.enough_correlation
        if best.psnr < options.min_psnr and not alike and options.blur > 0:
            again = self._descend(sizes, before, depth, options.blur)
            best = min(best, again, key=lambda iterate: iterate.loss)
        better = best.loss < before.loss and best.psnr > before.psnr
        if not better or grey_correlation(best.residual, full.query) < _MIN_CORRELATION:
            return None
        found = photometric_uncertainty(query, gaussians, best.pose, full.side)
        covariance, information = found or (None, None)
        return moved(initial, best.pose, covariance, information)

    def _sizes(self, query: Query, gaussians: Gaussians) -> list[PhotometricObjective]:
        """Query image and map at the size of the options, and at half of it."""
        scales = (self.options.scale * 0.5**size for size in range(_SIZES))
        return [photometric_objective(query, gaussians, scale) for scale in scales]

    def _descend(
        self, sizes: list[PhotometricObjective], start: Iterate, depth: float, blur: float
    ) -> Iterate:
        unknowns = parametrized(self.options.parametrization, start.pose, depth)
        return photometric_descent(Pyramid(sizes, depth), unknowns, start, blur, self.options)


def make(options: GslocOptions, context: StageContext) -> Refiner:
    return GslocRefiner(options)
