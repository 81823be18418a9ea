"""Initial poses from retrieval: the poses of the map's views whose renderings are most similar to the query.

Similarity alone does not support a pose, so these estimates are not accepted until a refinement accepts one.
"""

import time
from dataclasses import replace

import torch

from gsplatloc.localization.alignment.correspondences import normalised_contrast
from gsplatloc.localization.alignment.rendered_view import photo_grey, render_map
from gsplatloc.localization.initial import InitialPose
from gsplatloc.localization.initial.members import RetrievalOptions
from gsplatloc.localization.initial.view_index import FILE_NAME, ViewIndex, ViewIndexOptions, cached_index
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import StageContext
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.errors import GSplatLocError

_CORRELATION_WEIGHT = 0.25  # relative to the cosine of pooled descriptors
_MAX_SIDE = 80  # pixels: the longer side of the small renderings
_CONTRAST_SIGMA = 4.0  # pixels of the small rendering


class RetrievedPose(InitialPose):
    """`InitialPose` by an index of views."""

    name = "retrieval"

    def __init__(self, index: ViewIndex, gaussians: Gaussians, options: RetrievalOptions | None = None):
        self.index = index
        self.gaussians = gaussians
        self.options = options or RetrievalOptions()

    @torch.no_grad()
    def hypotheses(self, query: Query) -> list[PoseEstimate]:
        """The poses of the most similar views, by pooled descriptors and by small renderings.

        They have no covariance, because the distance between the query and a view is unknown.
        """
        if not query.has_camera:
            raise GSplatLocError(
                "expected a known focal length for --initial retrieval, found none: give --focal"
            )
        start = time.perf_counter()
        found, cosine = self.index.nearest(query.dense, self.options.candidates)
        poses = [self.index.poses[number] for number in found.tolist()]
        correlations = torch.tensor([self._correlation(query, pose) for pose in poses])
        score = cosine.cpu() + _CORRELATION_WEIGHT * correlations
        order = score.argsort(descending=True, stable=True).tolist()[: self.options.kept]
        elapsed_ms = 1000 * (time.perf_counter() - start)
        estimate = PoseEstimate(Status.OK, query.camera, accepted=False, elapsed_ms=elapsed_ms)
        return [replace(estimate, cam_from_world=poses[number]) for number in order]

    def _correlation(self, query: Query, pose: torch.Tensor) -> float:
        """Correlation of local contrast between the query image and a small rendering, in [-1, 1]."""
        view = render_map(self.gaussians, query.camera, pose, _MAX_SIDE)
        image = normalised_contrast(photo_grey(query.image, view.camera), _CONTRAST_SIGMA)
        rendered = normalised_contrast(view.grey.cpu().numpy(), _CONTRAST_SIGMA)
        both = torch.stack([torch.from_numpy(image).flatten(), torch.from_numpy(rendered).flatten()])
        return torch.corrcoef(both)[0, 1].nan_to_num().item()


def make(options: RetrievalOptions, context: StageContext) -> InitialPose:
    splat_map = context.splat_map
    settings = ViewIndexOptions(virtual_views=options.views)
    path = splat_map.file(FILE_NAME)
    index = cached_index(path, splat_map.gaussians, splat_map.views, context.extractor, settings)
    return RetrievedPose(index, splat_map.gaussians, options)
