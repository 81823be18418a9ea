"""Where refinements start: views of the map that look like the photo, instead of matches with landmarks."""

from dataclasses import dataclass, replace
from typing import Protocol

import torch

from gsplatloc.gaussian_renderer import RenderOptions
from gsplatloc.localization.alignment.correspondences import normalised_contrast
from gsplatloc.localization.alignment.rendered_view import photo_grey, render_map
from gsplatloc.localization.initial.view_index import ViewIndex
from gsplatloc.localization.refine import Query
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.scene.gaussians import Gaussians

_CONTRAST_SIGMA = 4.0  # pixels of the small rendering


class StartProvider(Protocol):
    """Poses to refine from."""

    def starts(self, query: Query, gaussians: Gaussians) -> list[PoseEstimate]:
        """At least one, the most promising first."""
        ...


@dataclass(frozen=True)
class RetrievalStartOptions:
    """How many retrieved views are looked at, and how closely."""

    candidates: int = 10  # nearest by pooled descriptors, which are rendered small and compared
    kept: int = 3  # of them, the best by that comparison, that refinements may try
    weight: float = 0.25  # of the comparison, a correlation, beside the cosine: alone it misleads
    max_side: int = 80  # pixels of these renderings


class RetrievalStart:
    """`StartProvider` by an index of views."""

    def __init__(self, index: ViewIndex, options: RetrievalStartOptions | None = None):
        self.index = index
        self.options = options or RetrievalStartOptions()

    @torch.no_grad()
    def starts(self, query: Query, gaussians: Gaussians) -> list[PoseEstimate]:
        """The poses of the views that agree best, in their pooled descriptors and seen small.

        They state no covariance: how far the photo was taken from a view is not known.
        """
        found, cosine = self.index.nearest(query.dense, self.options.candidates)
        poses = [self.index.poses[number] for number in found.tolist()]
        seen = torch.tensor([self._likeness(query, gaussians, pose) for pose in poses])
        score = cosine.cpu() + self.options.weight * seen
        order = score.argsort(descending=True, stable=True).tolist()[: self.options.kept]
        estimate = PoseEstimate(Status.OK, query.camera)
        return [replace(estimate, cam_from_world=poses[number]) for number in order]

    def _likeness(self, query: Query, gaussians: Gaussians, pose: torch.Tensor) -> float:
        """Correlation of local contrast between the photo and a small rendering, in [-1, 1]."""
        view = render_map(gaussians, query.camera, pose, RenderOptions(), self.options.max_side)
        photo = normalised_contrast(photo_grey(query.image, view.camera), _CONTRAST_SIGMA)
        rendered = normalised_contrast(view.grey.cpu().numpy(), _CONTRAST_SIGMA)
        both = torch.stack([torch.from_numpy(photo).flatten(), torch.from_numpy(rendered).flatten()])
        return torch.corrcoef(both)[0, 1].nan_to_num().item()
