"""A second, guided look: once a pose is roughly known, landmarks are sought where they must appear.

Matching against a whole map takes the best of all landmarks, and similar ones elsewhere win now and then.
Around a first pose only those compete that this camera could see, near where they would be seen: weaker
keypoints become matches, and the ones that RANSAC kept by chance are gone.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from localization.features import Keypoints
from localization.landmarks import Landmarks
from localization.matching import Pairs
from localization.refine import reprojection
from localization.result import Matches, PoseEstimate
from localization.uncertainty import covariance_of
from scene.cameras import Camera
from utils import se3

_MIN_DEPTH = 1e-3  # of a landmark in front of the camera
_NEAREST_ANGLE_COSINE = 0.5  # a keypoint's descriptor is another from more than 60 degrees aside
_RANGE = 1.5  # by which a camera may be nearer or farther than those that saw a landmark; XFeat's scale range
_LOSS = 0.5  # scale of the robust loss, relative to the noise of a match; chosen on held-out views
_PASSES = 2  # of estimating the noise and the pose in turn
_ITERATIONS = 5  # of Gauss-Newton per pass: the first pose is a pixel away
_LEAST_NOISE_PX = 0.1
# Matches that share an error. Found errors of 119 held-out views of RedKitchen, in four splits from easy to
# barely localizable, were in nearly constant proportion to those that independent matches promise.
_OBSERVATIONS_PER_ERROR = 8.0


@dataclass(frozen=True)
class GuidedOptions:
    """Where to look. Pixels grow in proportion to images longer than 640 px."""

    radius_px: float = 16.0  # around a projection: twice the error of an inlier of the first pose; 0 = do not
    min_similarity: float = 0.7  # cosine between a keypoint and its landmark


def visible(landmarks: Landmarks, cam_from_world: Tensor, camera: Camera, margin: float) -> Tensor:
    """Indices [K] of the landmarks that a camera could see, by position, direction and distance."""
    pose = cam_from_world.to(landmarks.positions)
    in_cam = landmarks.positions @ pose[:3, :3].T + pose[:3, 3]
    pixels = camera.project(in_cam)
    size = torch.tensor([camera.width, camera.height], device=pixels.device)
    inside = ((pixels > -margin) & (pixels < size + margin)).all(1) & (in_cam[:, 2] > _MIN_DEPTH)
    towards = se3.camera_center(pose) - landmarks.positions
    cosine = F.cosine_similarity(towards, landmarks.directions, dim=1)
    distance, (nearest, farthest) = towards.norm(dim=1), landmarks.distances.unbind(1)
    in_range = (distance > nearest / _RANGE) & (distance < farthest * _RANGE)
    return (inside & in_range & (cosine > _NEAREST_ANGLE_COSINE)).nonzero()[:, 0]


def match_near(
    keypoints: Keypoints, landmarks: Landmarks, projections: Tensor, radius: float, min_similarity: float
) -> Pairs:
    """Keypoints (a) and landmarks (b) that are each other's most similar among all within `radius` pixels.

    `projections` [M, 2] are the landmarks' pixels.
    """
    a, b = pairs_within(keypoints.xy, projections, radius)
    similarity = (keypoints.descriptors[a] * landmarks.descriptors[b]).sum(1)
    best_a = similarity.new_full((len(keypoints),), min_similarity).scatter_reduce(0, a, similarity, "amax")
    best_b = similarity.new_full((len(landmarks),), min_similarity).scatter_reduce(0, b, similarity, "amax")
    kept = ((similarity == best_a[a]) & (similarity == best_b[b])).nonzero()[:, 0]
    kept = kept[a[kept].argsort(stable=True)]
    return Pairs(a[kept], b[kept], similarity[kept])


def pairs_within(a: Tensor, b: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Indices [K], [K] of all pairs of points a [N, 2] and b [M, 2] closer than `radius`.

    Points of `a` are sorted into cells of that side; for each of `b` the three cells of a row that can hold
    neighbours are one contiguous run.
    """
    origin = torch.minimum(a.amin(0), b.amin(0)) - 2 * radius if len(a) and len(b) else a.new_zeros(2)
    cell_a, cell_b = ((a - origin) / radius).long(), ((b - origin) / radius).long()
    columns = int(max(cell_a[:, 0].max(), cell_b[:, 0].max())) + 3 if len(a) and len(b) else 1
    keys, order = (cell_a[:, 1] * columns + cell_a[:, 0]).sort()
    found_a, found_b = [], []
    for row in (-1, 0, 1):
        key = (cell_b[:, 1] + row) * columns + cell_b[:, 0]
        first, last = torch.searchsorted(keys, key - 1), torch.searchsorted(keys, key + 1, right=True)
        count = last - first
        owner = torch.repeat_interleave(torch.arange(len(b), device=b.device), count)
        begin = torch.repeat_interleave(first - (count.cumsum(0) - count), count)
        found_a.append(order[begin + torch.arange(len(owner), device=b.device)])
        found_b.append(owner)
    index_a, index_b = torch.cat(found_a), torch.cat(found_b)
    near = ((a[index_a] - b[index_b]) ** 2).sum(1) < radius**2
    return index_a[near], index_b[near]


def guided_pairs(
    estimate: PoseEstimate, keypoints: Keypoints, landmarks: Landmarks, radius: float, min_similarity: float
) -> Pairs:
    """Pairs of keypoints and landmarks around the projections of the landmarks that `estimate` could see."""
    pose, camera = estimate.pose(), estimate.camera
    index = visible(landmarks, pose, camera, radius)
    near = landmarks.select(index)
    local = pose.to(near.positions)
    projections = camera.project(near.positions @ local[:3, :3].T + local[:3, 3])
    pairs = match_near(keypoints, near, projections, radius, min_similarity)
    return replace(pairs, index_b=index[pairs.index_b])


def refine(estimate: PoseEstimate, matches: Matches, max_error_px: float) -> PoseEstimate:
    """The pose of least robust reprojection error near `estimate`, by all of `matches`.

    Their noise is the query's own: its residuals tell it. Residuals do fall with the similarity of a match
    (3.5 to 1.8 px as the cosine rises from 0.85 to 0.97), the landmark's length and the keypoint's score, yet
    weights made of any of them gained nothing on held-out views: what is left is common to all matches.
    """
    camera, pose = estimate.camera, estimate.pose()
    pixels, points = torch.from_numpy(matches.pixels), torch.from_numpy(matches.points)
    observations = reprojection.observe(pixels, points)
    for _ in range(_PASSES):
        errors = reprojection.errors_px(camera, pose, observations)
        noise = max(reprojection.noise_px(errors), _LEAST_NOISE_PX)
        sharp = reprojection.observe(pixels, points, _LOSS * noise)
        pose, _ = reprojection.minimise(camera, pose, sharp, _ITERATIONS)
    observations = reprojection.observe(pixels, points, noise)
    information, _ = reprojection.normal_equations(camera, pose, observations)
    inliers = (reprojection.errors_px(camera, pose, observations) < max_error_px).numpy()
    return replace(
        estimate,
        cam_from_world=pose,
        inliers=int(inliers.sum()),
        covariance=covariance_of(information, _OBSERVATIONS_PER_ERROR),
        matches=replace(matches, inliers=inliers),
    )
