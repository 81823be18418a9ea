"""Guided matching: with a first pose, landmarks are matched only with keypoints near their projections.

In a whole map, a similar landmark elsewhere is sometimes the most similar one. Near a first pose, only the
landmarks that its camera could see are compared, with keypoints near their projections: more keypoints are
matched, and wrong matches that agreed with the first pose by chance are gone.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.gaussian_renderer import native
from gsplatloc.localization.features import Keypoints
from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.localization.matching.nearest import Pairs, mutual_pairs
from gsplatloc.localization.matching.radius import neighbours
from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.result import Matches, PoseEstimate
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3

_MIN_DEPTH = 1e-3  # metres, of a visible landmark
_MIN_ANGLE_COSINE = 0.5  # descriptors differ when the viewing direction differs by more than 60 degrees
_DISTANCE_FACTOR = 2.0  # by which a camera may be nearer or farther than all that saw a landmark
_LOSS = 0.5  # scale of the robust loss, relative to the noise of a match; chosen on held-out views
_PASSES = 2  # of estimating the noise and the pose in turn
_ITERATIONS = 5  # of Gauss-Newton per pass: the first pose is about a pixel off
_MIN_NOISE_PX = 0.1
# Information of one match relative to one rendered pixel: residuals of 8 matches, or of 25 pixels, are as
# informative as one independent residual (RedKitchen).
_INFORMATION_WEIGHT = 25 / 8


def visible(landmarks: Landmarks, cam_from_world: Tensor, camera: Camera, margin: float) -> Tensor:
    """Ascending indices [K] of the landmarks that a camera could see, by position, direction and distance.

    The camera must be within 60 degrees of the mean direction of the mapping views that saw a landmark, and
    its distance within their range extended by a factor of two: beyond that, the descriptor would differ.
    """
    pose = cam_from_world.to(landmarks.positions)
    # Row by row: operations on two or three columns of a table take several times as long.
    x, y, z = pose[:3, :3] @ landmarks.positions.T + pose[:3, 3:]
    column, row = x / z * camera.fx + camera.cx, y / z * camera.fy + camera.cy
    inside = (column > -margin) & (column < camera.width + margin) & (z > _MIN_DEPTH)
    inside &= (row > -margin) & (row < camera.height + margin)
    index = inside.nonzero()[:, 0]
    towards = se3.camera_center(pose) - landmarks.positions[index]
    cosine = F.cosine_similarity(towards, landmarks.directions[index], dim=1)
    distance, (nearest, farthest) = towards.norm(dim=1), landmarks.distances[index].unbind(1)
    in_range = (distance > nearest / _DISTANCE_FACTOR) & (distance < farthest * _DISTANCE_FACTOR)
    return index[in_range & (cosine > _MIN_ANGLE_COSINE)]


def match_near(
    keypoints: Keypoints,
    landmarks: Landmarks,
    index: Tensor,
    projections: Tensor,
    radius: float,
    min_similarity: float,
) -> Pairs:
    """Keypoints (a) and landmarks (b) that are each other's most similar among all within `radius` pixels.

    Only the landmarks at `index` [K], ascending, are compared; `projections` [K, 2] are their pixels.
    """
    package = None if keypoints.xy.is_cuda else native.matching()
    if package is not None and len(keypoints) and len(index):
        points = projections.contiguous()
        described = keypoints.descriptors.contiguous(), points, landmarks.descriptors
        of_a, of_b = package.nearest_within(keypoints.xy.contiguous(), *described, index, radius)
        pairs = mutual_pairs(of_a, of_b, min_similarity)
        return Pairs(pairs.index_a, index[pairs.index_b], pairs.similarity)
    found = neighbours(keypoints.xy, projections, radius).within(keypoints.xy, projections, radius)
    similarity = found.products(keypoints.descriptors, landmarks.descriptors[index])
    lowest = similarity.new_full((1,), min_similarity)
    best_a = lowest.repeat(len(keypoints)).scatter_reduce(0, found.columns, similarity, "amax")
    best_b = torch.segment_reduce(
        similarity, "max", offsets=found.starts, initial=min_similarity, unsafe=True
    )
    likely = (similarity == best_a.index_select(0, found.columns)).nonzero()[:, 0]
    row = found.rows(likely)
    mutual = similarity.index_select(0, likely) == best_b.index_select(0, row)
    likely, row = likely[mutual], row[mutual]
    a = found.order[found.columns[likely]]
    by_a = a.argsort(stable=True)
    return Pairs(a[by_a], index[row[by_a]], similarity[likely[by_a]])


def guided_pairs(
    estimate: PoseEstimate, keypoints: Keypoints, landmarks: Landmarks, radius: float, min_similarity: float
) -> Pairs:
    """Pairs of keypoints and landmarks around the projections of the landmarks that `estimate` could see."""
    pose, camera = estimate.pose(), estimate.camera
    index = visible(landmarks, pose, camera, radius)
    positions = landmarks.positions[index]
    projections = camera.project(se3.transform(pose.to(positions), positions))
    return match_near(keypoints, landmarks, index, projections, radius, min_similarity)


def refine(estimate: PoseEstimate, matches: Matches, max_error_px: float) -> PoseEstimate:
    """The pose of least robust reprojection error near `estimate`, by all of `matches`.

    The noise of a match is estimated from the residuals of the query. Residuals decrease with the similarity
    of a match (3.5 to 1.8 px as the cosine rises from 0.85 to 0.97), with the landmark's number of views and
    with the keypoint's score, but weights by any of them gained nothing on held-out views: the remaining
    error is common to all matches.
    """
    camera, pose = estimate.camera, estimate.pose()
    pixels, points = torch.from_numpy(matches.pixels), torch.from_numpy(matches.points)
    observations = reprojection.observe(pixels, points)
    for _ in range(_PASSES):
        errors = reprojection.errors_px(camera, pose, observations)
        noise = max(reprojection.noise_px(errors), _MIN_NOISE_PX)
        sharp = reprojection.observe(pixels, points, _LOSS * noise)
        pose, _ = reprojection.minimise(camera, pose, sharp, _ITERATIONS)
    information, _ = reprojection.normal_equations(camera, pose, reprojection.observe(pixels, points, noise))
    inliers = (reprojection.errors_px(camera, pose, observations) < max_error_px).numpy()
    return replace(
        estimate,
        cam_from_world=pose,
        inliers=int(inliers.sum()),
        covariance=reprojection.jackknifed(camera, pose, sharp),
        information=_INFORMATION_WEIGHT * information,
        matches=replace(matches, inliers=inliers),
    )
