"""Landmarks from triangulated tracks."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.mapping.triangulation import Tracks
from gsplatloc.scene.cameras import View
from gsplatloc.utils import se3

MAX_LANDMARKS = 50_000


def build_landmarks(
    views: Sequence[View], tracks: Tracks, extractor_version: str, max_landmarks: int = MAX_LANDMARKS
) -> Landmarks:
    """One landmark per track, described by the mean of its observations' descriptors; longest tracks first.

    Measured on held-out views of RedKitchen: more landmarks are more accurate than better chosen ones, so
    `max_landmarks` only bounds the size of the file and the time of a query. Medoids, two descriptors for
    tracks whose descriptors disagree, and descriptors and depths rendered from the splats gain nothing.
    """
    lengths = torch.from_numpy(tracks.lengths)
    order = lengths.argsort(descending=True, stable=True)[:max_landmarks]
    directions, distances = _viewpoints(views, tracks)
    return Landmarks(
        positions=torch.from_numpy(tracks.positions).float()[order],
        descriptors=tracks.descriptors[order],
        directions=directions[order],
        distances=distances[order],
        lengths=lengths[order].int(),
        extractor=extractor_version,
    )


def _viewpoints(views: Sequence[View], tracks: Tracks) -> tuple[Tensor, Tensor]:
    """The viewpoints of each point's observations.

    Mean unit vector [M, 3] to the cameras, and distances [M, 2] of the nearest and the farthest.
    """
    centers = se3.camera_center(torch.stack([view.cam_from_world for view in views]))
    track = torch.from_numpy(tracks.observed_track)
    towards = centers[torch.from_numpy(tracks.observed_view)] - torch.from_numpy(tracks.positions)[track]
    total = torch.zeros(len(tracks), 3, dtype=torch.float64).index_add_(0, track, F.normalize(towards, dim=1))
    distance = towards.norm(dim=1)
    zero = torch.zeros(len(tracks), dtype=torch.float64)
    nearest = zero.scatter_reduce(0, track, distance, "amin", include_self=False)
    farthest = zero.scatter_reduce(0, track, distance, "amax", include_self=False)
    mean = total / torch.from_numpy(tracks.lengths)[:, None].clamp(min=1)
    return mean.float(), torch.stack([nearest, farthest], 1).float()
