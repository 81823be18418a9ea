"""Landmarks from triangulated tracks."""

from collections.abc import Sequence

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
_PER_MEDIAN = 0.65  # root mean square per coordinate over the median length of a normal 3-vector


def build_landmarks(
    views: Sequence[View],
    tracks: Tracks,
    extractor_version: str,
    max_landmarks: int = MAX_LANDMARKS,
    noise: tuple[float, float] = (0.0, 0.0),
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
        pose_noise=noise,
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


def pose_noise(views: Sequence[View], tracks: Tracks, keypoints: Sequence[Keypoints]) -> tuple[float, float]:
    """Standard deviations per axis of the mapping poses: position (units of the map) and rotation (radians).

    For some views, the points that they see are triangulated without them, in dense sequences without the
    views right before and after too, which share the drift of their poses. The pose of least reprojection
    error against these points differs from the given one by the noise of both. (0, 0) where no view sees
    enough such points. Every third view of an office by a visual-inertial tracker: 8.7 mm and 0.17 degrees.
    """
    centers = se3.camera_center(torch.stack([view.cam_from_world for view in views]).double())
    rays = _rays(views, tracks, keypoints)
    apart = len(views) // _PER_NEIGHBOUR
    away = [
        _disagreement(index, apart, views[index], tracks, keypoints[index], (centers, rays))
        for index in range(0, len(views), max(1, len(views) // _NOISE_VIEWS))
    ]
    known = [xi for xi in away if xi is not None]
    if not known:
        return 0.0, 0.0
    lengths = torch.stack(known).reshape(-1, 2, 3).norm(dim=2)  # of (rho, phi)
    translation, rotation = (_PER_MEDIAN * lengths.median(0).values).tolist()
    return translation, rotation


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
) -> Tensor | None:
    """The pose [6] of a view against points of views more than `apart` away, relative to its given pose.

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
    return se3.se3_log(found @ se3.inverse(given))
