"""Landmarks from triangulated tracks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.localization.features import Keypoints
from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.localization.pose import reprojection
from gsplatloc.mapping.options import MAX_LANDMARKS
from gsplatloc.mapping.triangulation import Tracks
from gsplatloc.scene.cameras import View
from gsplatloc.utils import se3

_NOISE_VIEWS = 64  # mapping views of which the noise of their poses is measured
_PER_NEIGHBOUR = 100  # mapping views for each view before and after it that is left out with it
_MIN_OBSERVED = 30  # points that such a view must see, of other views
_MIN_PARALLAX = 0.005  # sum of squared sines between rays and their mean: two rays 6 degrees apart
_MIN_NOISE_PX = 0.5  # of an observation: with less, few would decide
_LEAST_SPREAD = 1e-3  # radians: of rays that are parallel
_PER_MEDIAN_2D = 0.849  # root mean square per coordinate over the median length of a normal 2-vector
_PER_MEDIAN = 0.65  # root mean square per coordinate over the median length of a normal 3-vector


def build_landmarks(
    views: Sequence[View],
    tracks: Tracks,
    extractor_version: str,
    max_landmarks: int = MAX_LANDMARKS,
    noise: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Landmarks:
    """One landmark per track, described by the mean of its observations' descriptors; longest tracks first.

    Measured on held-out views of RedKitchen: more landmarks are more accurate than better chosen ones, so
    `max_landmarks` only bounds the size of the file and the time of a query. Medoids, two descriptors for
    tracks whose descriptors disagree, and descriptors and depths rendered from the splats gain nothing.
    """
    lengths = torch.from_numpy(tracks.lengths)
    order = lengths.argsort(descending=True, stable=True)[:max_landmarks]
    directions, distances, spreads = _viewpoints(views, tracks)
    return Landmarks(
        positions=torch.from_numpy(tracks.positions).float()[order],
        descriptors=tracks.descriptors[order],
        directions=directions[order],
        distances=distances[order],
        lengths=lengths[order].int(),
        extractor=extractor_version,
        pose_noise=noise,
        spreads=spreads[order],
    )


def _viewpoints(views: Sequence[View], tracks: Tracks) -> tuple[Tensor, Tensor, Tensor]:
    """The viewpoints of each point's observations.

    Mean unit vector [M, 3] to the cameras, distances [M, 2] of the nearest and the farthest, and the root [M]
    of the sum of squared sines between the rays and their mean.
    """
    centers = se3.camera_center(torch.stack([view.cam_from_world for view in views]))
    track = torch.from_numpy(tracks.observed_track)
    towards = centers[torch.from_numpy(tracks.observed_view)] - torch.from_numpy(tracks.positions)[track]
    rays = F.normalize(towards, dim=1)
    total = torch.zeros(len(tracks), 3, dtype=torch.float64).index_add_(0, track, rays)
    distance = towards.norm(dim=1)
    zero = torch.zeros(len(tracks), dtype=torch.float64)
    nearest = zero.scatter_reduce(0, track, distance, "amin", include_self=False)
    farthest = zero.scatter_reduce(0, track, distance, "amax", include_self=False)
    mean = total / torch.from_numpy(tracks.lengths)[:, None].clamp(min=1)
    along = (rays * F.normalize(total, dim=1)[track]).sum(1)
    sines = torch.zeros(len(tracks), dtype=torch.float64).index_add_(0, track, 1 - along * along)
    spreads = sines.clamp(min=_LEAST_SPREAD**2).sqrt().float()
    return mean.float(), torch.stack([nearest, farthest], 1).float(), spreads


def pose_noise(
    views: Sequence[View], tracks: Tracks, keypoints: Sequence[Keypoints]
) -> tuple[float, float, float]:
    """Standard deviations per axis of mapping poses: position (units of the map), rotation, rays (radians).

    For some views, the points that they see are triangulated without them, in dense sequences without the
    views right before and after too, which share the drift of their poses. The pose of least reprojection
    error against these points differs from the given one by the noise of both, and by its own error, whose
    expected variance is subtracted. The third number is the angle (radians) by which the rays of a view turn
    between the two, its own error included: it is what the map's geometry suffers from, whatever the cause.
    Zeros where no view sees enough such points. An office by a visual-inertial tracker: 5.8 mm, 0.085 and
    0.077 degrees.
    """
    centers = se3.camera_center(torch.stack([view.cam_from_world for view in views]).double())
    rays = _rays(views, tracks, keypoints)
    apart = len(views) // _PER_NEIGHBOUR
    away = [
        _disagreement(index, apart, views[index], tracks, keypoints[index], (centers, rays))
        for index in range(0, len(views), max(1, len(views) // _NOISE_VIEWS))
    ]
    known = [found for found in away if found is not None]
    if not known:
        return 0.0, 0.0, 0.0
    lengths = torch.stack([found.tangent for found in known]).reshape(-1, 2, 3).norm(dim=2)  # of (rho, phi)
    expected = torch.stack([found.covariance.diagonal() for found in known]).reshape(-1, 2, 3).mean(2)
    variances = (_PER_MEDIAN * lengths.median(0).values) ** 2 - expected.median(0).values
    position, rotation = variances.clamp(min=0).sqrt().tolist()
    ray = _PER_MEDIAN_2D * float(np.median([found.ray for found in known]))
    return position, rotation, ray


@dataclass(frozen=True)
class _Disagreement:
    """The pose of a view against points of other views, relative to its given pose."""

    tangent: Tensor  # [6]
    covariance: Tensor  # [6, 6] of the pose against the points, by their reprojection errors
    ray: float  # radians: median over the points of the angle between their rays by both poses


def _rays(views: Sequence[View], tracks: Tracks, keypoints: Sequence[Keypoints]) -> Tensor:
    """Unit vectors [K, 3] in the world from the camera through every observation."""
    rays = torch.zeros(len(tracks.observed_track), 3, dtype=torch.float64)
    for index, view in enumerate(views):
        seen = torch.from_numpy(tracks.observed_view == index)
        pixels = keypoints[index].xy.cpu().double()[torch.from_numpy(tracks.observed_keypoint)[seen]]
        local = view.camera.unproject(pixels, torch.ones(len(pixels), dtype=torch.float64))
        rays[seen] = F.normalize(local @ view.cam_from_world[:3, :3].double(), dim=1)
    return rays


def _disagreement(
    index: int,
    apart: int,
    view: View,
    tracks: Tracks,
    keypoints: Keypoints,
    seen_along: tuple[Tensor, Tensor],
) -> _Disagreement | None:
    """The pose of a view against points of views more than `apart` away, relative to its given pose.

    `seen_along`: the centres of all cameras and the rays of all observations. None with too few points.
    """
    centers, rays = seen_along
    track, observer = torch.from_numpy(tracks.observed_track), torch.from_numpy(tracks.observed_view)
    own = observer == index
    wanted = track[own].unique()
    row = torch.full((len(tracks),), -1)  # of each track among those that the view sees
    row[wanted] = torch.arange(len(wanted))
    rows = row[track]
    others = (rows >= 0) & ((observer - index).abs() > apart)
    # The point nearest to all rays: sum (I - d d^T) x = sum (I - d d^T) c.
    across = torch.eye(3, dtype=torch.float64) - rays[others, :, None] * rays[others, None, :]
    sums = torch.zeros(len(wanted), 3, 3, dtype=torch.float64).index_add_(0, rows[others], across)
    offsets = (across @ centers[observer[others], :, None])[..., 0]
    right = torch.zeros(len(wanted), 3, dtype=torch.float64).index_add_(0, rows[others], offsets)
    firm = torch.linalg.eigvalsh(sums)[:, 0] > _MIN_PARALLAX
    seen = own.clone()
    seen[own] = firm[rows[own]]
    if int(seen.sum()) < _MIN_OBSERVED:
        return None
    points = torch.linalg.solve(sums[rows[seen]], right[rows[seen]])
    pixels = keypoints.xy.cpu()[torch.from_numpy(tracks.observed_keypoint)[seen]]
    given = view.cam_from_world.double()
    errors = reprojection.errors_px(view.camera, given, reprojection.observe(pixels, points))
    observed = reprojection.observe(pixels, points, max(reprojection.noise_px(errors), _MIN_NOISE_PX))
    found, _ = reprojection.minimise(view.camera, given, observed)
    there, here = (view.camera.project(se3.transform(pose, points)) for pose in (found, given))
    return _Disagreement(
        se3.se3_log(found @ se3.inverse(given)),
        reprojection.jackknifed(view.camera, found, observed),
        ((there - here).norm(dim=1).median() / view.camera.fx).item(),
    )
